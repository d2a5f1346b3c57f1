"""A shadow beside a serving version: what it finds, and what it may take."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from app.backends.dummy import DummyBackend
from app.serving import shadow as shadow_module
from app.serving.jobs import Answer, Job, Outcome
from app.tensors import Tensors
from tests.support.bundles import INPUT_NAME, dummy_bundle, dummy_outputs
from tests.support.jobs import FOREVER
from tests.support.ragged import series, series_bundle
from tests.support.shadowed import ODD, Scene, pictures, play, two_versions


def test_a_known_disagreement_comes_out_exactly(tmp_path: Path) -> None:
    two_versions(tmp_path, reverses_on=ODD)
    requests = [pictures(1, ODD, 2), pictures(ODD), pictures(3, 4)]

    async def act(scene: Scene) -> None:
        scene.begin()
        await scene.ask(*requests)
        await scene.wait_until(lambda: scene.found.compared == 6)

        odd = dummy_outputs(pictures(ODD)[INPUT_NAME], 3)["probabilities"][0]
        apart = float(np.abs(odd - odd[::-1]).max())
        assert scene.outcomes == {"agreed": 4, "disagreed": 2}
        assert scene.found.agreement == pytest.approx(4 / 6)
        assert scene.found.max_difference == pytest.approx(apart, rel=1e-5)
        assert scene.found.mean_difference == pytest.approx(2 * apart / 6, rel=1e-5)
        assert scene.found.timed == 6
        assert scene.found.row_seconds is not None
        assert min(scene.found.row_seconds) > 0
        assert scene.metrics.shadow_rows == {("dummy", "2", "agreed"): 4, ("dummy", "2", "disagreed"): 2}
        assert {of: sum(scene.metrics.shadow_s["dummy", "2", of].counts) for of in ("serving", "shadow")} == {
            "serving": 3,
            "shadow": 3,
        }

    play(tmp_path, act)


def test_its_work_is_counted_as_nobodys_request(tmp_path: Path) -> None:
    two_versions(tmp_path)

    async def act(scene: Scene) -> None:
        scene.begin()
        await scene.ask(pictures(1, 2), pictures(3))
        await scene.wait_until(lambda: scene.found.compared == 3)
        assert scene.metrics.statistics["dummy", "1"].rows == 3
        assert scene.metrics.statistics["dummy", "2"].rows == 0
        assert sum(scene.metrics.batch_rows["dummy"].counts) == 2
        assert sum(scene.metrics.stage_s["dummy", "compute"].counts) == 2

    play(tmp_path, act)


def test_callers_have_their_answers_before_the_shadow_begins(tmp_path: Path) -> None:
    two_versions(tmp_path)

    async def act(scene: Scene) -> None:
        scene.begin()
        assert isinstance(scene.version.backend, DummyBackend)
        assert scene.serving.batcher is not None
        calls = scene.version.backend.rows_per_call
        calls.clear()
        seen: list[int] = []

        def note(outcome: Outcome) -> None:
            assert isinstance(outcome, Answer)
            seen.append(len(calls))

        async def wait(request: Tensors) -> None:
            await scene.ask(request)
            seen.append(len(calls))

        waiting = asyncio.gather(wait(pictures(1)), wait(pictures(2)))
        await asyncio.sleep(0)
        scene.serving.batcher.enqueue(Job(pictures(3), 1, deadline=FOREVER, on_done=note))
        await waiting
        await scene.wait_until(lambda: scene.found.compared == 3)
        assert seen == [0, 0, 0]
        assert calls == [3]  # as it was answered, in one batch

    play(tmp_path, act)


def test_batches_are_drawn_by_their_share(tmp_path: Path) -> None:
    two_versions(tmp_path)
    points = iter([0.2, 0.3, 0.29, 0.9, 0.0])

    async def act(scene: Scene) -> None:
        scene.begin(draw=lambda: next(points), share=0.3)
        await scene.ask(pictures(1), pictures(1, 2), pictures(1, 2, 3), pictures(1), pictures(1))
        await scene.wait_until(lambda: scene.found.compared == 1 + 3 + 1)
        assert scene.outcomes == {"agreed": 5}

    play(tmp_path, act)


def test_what_is_kept_is_a_copy(tmp_path: Path) -> None:
    two_versions(tmp_path, reverses_on=ODD)
    request = pictures(1, 2)

    async def act(scene: Scene) -> None:
        scene.is_calm = False
        scene.begin()
        await scene.ask(request)
        await asyncio.sleep(0)
        request[INPUT_NAME][:] = ODD
        scene.is_calm = True
        await scene.wait_until(lambda: scene.found.compared == 2)
        assert scene.outcomes == {"agreed": 2}

    play(tmp_path, act)


def test_time_beyond_the_budget_is_not_taken(tmp_path: Path) -> None:
    two_versions(tmp_path)

    async def act(scene: Scene) -> None:
        scene.begin(cpu_share=1e-9)  # the first batch owes for days
        await scene.ask(pictures(1, 2))
        await scene.wait_until(lambda: scene.found.compared == 2)
        await scene.ask(pictures(1), pictures(1, 2, 3))
        assert scene.outcomes == {"agreed": 2, "over_budget": 4}

    play(tmp_path, act)


@pytest.mark.parametrize(("bound", "most"), [("MAX_KEPT_ROWS", 4), ("MAX_KEPT_BYTES", 2 * 2 * (24 + 12 + 12))])
def test_it_gives_way_and_what_is_beyond_its_memory_is_dropped_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, most: int
) -> None:
    two_versions(tmp_path)
    monkeypatch.setattr(shadow_module, bound, most)  # two batches of two rows: a picture, logits, probabilities

    async def act(scene: Scene) -> None:
        assert isinstance(scene.version.backend, DummyBackend)
        scene.is_calm = False
        scene.begin()
        scene.version.backend.rows_per_call.clear()
        await scene.ask(*[pictures(1, 2)] * 5)
        await scene.wait_until(lambda: scene.found.dropped == 6)
        assert scene.version.backend.rows_per_call == []
        scene.is_calm = True
        await scene.wait_until(lambda: scene.found.compared == 4)
        await scene.ask(pictures(1))  # there is room again
        await scene.wait_until(lambda: scene.found.compared == 5)
        assert scene.outcomes == {"agreed": 5, "dropped": 6}

    play(tmp_path, act)


def test_a_batch_larger_than_its_memory_is_compared_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_versions(tmp_path)
    monkeypatch.setattr(shadow_module, "MAX_KEPT_ROWS", 2)
    monkeypatch.setattr(shadow_module, "MAX_KEPT_BYTES", 1)

    async def act(scene: Scene) -> None:
        scene.begin()
        await scene.ask(pictures(1, 2, 3))
        await scene.wait_until(lambda: scene.found.compared == 3)

    play(tmp_path, act)


def test_a_shadow_of_smaller_batches_takes_a_large_one_in_turns(tmp_path: Path) -> None:
    dummy_bundle(tmp_path, version=1, max_rows=8)
    dummy_bundle(tmp_path, version=2, max_rows=3, behavior={"reverses_on": ODD})

    async def act(scene: Scene) -> None:
        scene.begin()
        assert isinstance(scene.version.backend, DummyBackend)
        scene.version.backend.rows_per_call.clear()
        await scene.ask(pictures(1, 2, 3, ODD, 5, 6, 8, ODD))
        await scene.wait_until(lambda: scene.found.compared == 8)
        assert scene.version.backend.rows_per_call == [3, 3, 2]
        assert scene.outcomes == {"agreed": 6, "disagreed": 2}

    play(tmp_path, act)


def test_series_of_different_lengths_are_compared(tmp_path: Path) -> None:
    for version in (1, 2):
        series_bundle(tmp_path, [4, 1, 6], max_rows=4, max_elements=30, version=version)

    async def act(scene: Scene) -> None:
        scene.begin()
        await asyncio.gather(*(scene.ask(series([length], start=100 * length)) for length in (3, 9, 1)))
        await scene.wait_until(lambda: scene.found.compared == 3)
        assert scene.outcomes == {"agreed": 3}

    play(tmp_path, act, "series")


def test_once_closed_it_looks_on_no_more(tmp_path: Path) -> None:
    two_versions(tmp_path)

    async def act(scene: Scene) -> None:
        shadow = scene.begin()
        await scene.ask(pictures(1))
        await scene.wait_until(lambda: scene.found.compared == 1)
        shadow.close()
        shadow.close()
        await scene.ask(pictures(1))
        assert scene.serving.batcher is not None
        assert scene.serving.batcher.tap is None
        assert scene.outcomes == {"agreed": 1}

    play(tmp_path, act)
