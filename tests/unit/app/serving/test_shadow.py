"""A shadow beside a serving version: what it finds, what it may take, and that its faults are its own."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app import backends
from app.backends.dummy import Behavior, DummyBackend
from app.bundle.loader import Bundle
from app.comparison import OUTCOMES, Comparison
from app.errors import ModelNotReady
from app.metrics import Metrics
from app.serving import shadow as shadow_module
from app.serving.catalog import Catalog
from app.serving.jobs import Answer, Job, Outcome
from app.serving.policy import Shadow as Wish
from app.serving.shadow import Shadow
from app.serving.versions import State, Version
from app.settings import Settings
from app.tensors import Tensors
from tests.support.bundles import INPUT_NAME, calls_until_ready, dummy_bundle, dummy_outputs
from tests.support.jobs import FOREVER
from tests.support.ragged import series, series_bundle

ODD = 7.0
KEY = ("dummy", "1", "2", "digest")


def pictures(*firsts: float) -> Tensors:
    """Return one picture for each number, which stands in its first corner."""
    images_BHW = np.ones((len(firsts), 2, 3), np.float32)
    images_BHW[:, 0, 0] = firsts
    return {INPUT_NAME: images_BHW}


class Scene:
    """Two versions of one model, and a shadow between them."""

    def __init__(self, catalog: Catalog, metrics: Metrics, name: str) -> None:
        self.catalog, self.metrics = catalog, metrics
        self.serving, self.version = catalog.models[name].versions
        self.is_calm = True
        self.shadow: Shadow | None = None

    def begin(self, draw: Callable[[], float] = lambda: 0.0, stuck_after_s: float = 60.0, **wish: Any) -> Shadow:
        self.shadow = Shadow(
            self.serving,
            self.version,
            Wish(**{"version": 2, "share": 1.0, "cpu_share": 1.0} | wish),
            self.metrics,
            KEY,
            is_calm=lambda: self.is_calm,
            draw=draw,
            stuck_after_s=stuck_after_s,
        )
        return self.shadow

    @property
    def found(self) -> Comparison:
        return self.metrics.comparisons[KEY]

    @property
    def outcomes(self) -> dict[str, int]:
        return {outcome: rows for outcome in OUTCOMES if (rows := getattr(self.found, outcome))}

    async def ask(self, *requests: Tensors, version: Version | None = None) -> list[Answer]:
        """Ask the serving version, one batch for each request."""
        batcher = (version or self.serving).batcher
        assert batcher is not None
        return [await batcher.submit(request, deadline=FOREVER) for request in requests]

    async def wait_until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not is_so():  # noqa: ASYNC110  what is waited for tells nobody
                await asyncio.sleep(0.001)


def play(models_dir: Path, act: Callable[[Scene], Coroutine[Any, Any, None]], name: str = "dummy") -> None:
    """Load two versions, and act."""

    async def scenario() -> None:
        metrics = Metrics()
        catalog = Catalog(Settings(models_dir=models_dir, backend="dummy", run_on="loop"), metrics)
        await catalog.load(lambda manifest, golden: None)
        assert [version.state for version in catalog.versions()] == [State.READY, State.READY]
        scene = Scene(catalog, metrics, name)
        try:
            await act(scene)
        finally:
            if scene.shadow is not None:
                scene.shadow.close()
            catalog.close()

    asyncio.run(scenario())


def two_versions(models_dir: Path, **behavior: Any) -> None:
    dummy_bundle(models_dir, version=1)
    dummy_bundle(models_dir, version=2, behavior=behavior)


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


@pytest.mark.parametrize("fault", ["raise_on", "panics_on", "nan_on"])
def test_poison_of_the_shadow_harms_nobody(tmp_path: Path, fault: str) -> None:
    two_versions(tmp_path, **{fault: ODD})
    requests = [pictures(1, ODD, 2), pictures(ODD), pictures(3)]

    async def act(scene: Scene) -> None:
        scene.begin()
        answers = await scene.ask(*requests)
        await scene.wait_until(lambda: sum(scene.outcomes.values()) == 5)
        assert scene.outcomes == {"agreed": 3, "failed": 2}
        assert scene.found.timed == 1  # a batch computed in parts says nothing of what it takes
        for request, answer in zip(requests, answers, strict=True):
            expected = dummy_outputs(request[INPUT_NAME], 3)["probabilities"]
            assert answer.outputs["probabilities"] == pytest.approx(expected, abs=1e-6)
        assert (scene.serving.state, scene.version.state) == (State.READY, State.READY)

    play(tmp_path, act)


def test_rows_that_the_serving_version_fails_on_are_not_compared(tmp_path: Path) -> None:
    dummy_bundle(tmp_path, version=1, behavior={"raise_on": ODD})
    dummy_bundle(tmp_path, version=2)

    async def act(scene: Scene) -> None:
        scene.begin()
        answers = await asyncio.gather(
            scene.ask(pictures(1)), scene.ask(pictures(ODD)), scene.ask(pictures(2)), return_exceptions=True
        )
        assert [isinstance(answer, list) for answer in answers] == [True, False, True]
        await scene.ask(pictures(5))
        await scene.wait_until(lambda: scene.found.compared == 1)
        assert scene.outcomes == {"agreed": 1}

    play(tmp_path, act)


def test_a_shadow_that_fails_its_golden_rows_is_out_and_the_serving_version_goes_on(tmp_path: Path) -> None:
    dummy_bundle(tmp_path, version=1)
    folder = dummy_bundle(tmp_path / "draft", version=2)
    dummy_bundle(tmp_path, version=2, behavior={"fails_after_calls": calls_until_ready(folder) + 1})

    async def act(scene: Scene) -> None:
        shadow = scene.begin()
        await scene.ask(pictures(1, 2))
        await scene.wait_until(lambda: scene.found.compared == 2)
        await scene.ask(pictures(1, 2, 3))
        await scene.wait_until(lambda: scene.version.state is State.SICK)
        assert "golden rows fail" in scene.version.reason
        assert scene.outcomes == {"agreed": 2, "failed": 3}
        assert not shadow.is_in_place
        assert await scene.ask(pictures(1))
        assert scene.serving.state is State.READY

    play(tmp_path, act)


class Stuck(DummyBackend):
    """Hangs on a picture, but not for ever: the process of the tests is to come to its end."""

    over = threading.Event()

    def run(self, inputs: Tensors) -> Tensors:
        if (inputs[INPUT_NAME] == ODD).any():
            self.over.wait()
        return super().run(inputs)


@contextmanager
def second_version_as(kind: type[DummyBackend]) -> Iterator[None]:
    """Have the backend of version 2 be another one."""
    load = backends.load

    def load_other(key: str, bundle: Bundle, **rest: Any) -> tuple[str, backends.Backend]:
        if bundle.manifest.version != 2:
            return load(key, bundle, **rest)
        return "dummy", kind(Behavior(), bundle.manifest.outputs)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(backends, "load", load_other)
        yield


def test_a_shadow_that_hangs_is_out_and_nobody_waits_for_it(tmp_path: Path) -> None:
    two_versions(tmp_path, hangs_on=ODD)
    Stuck.over.clear()

    async def act(scene: Scene) -> None:
        shadow = scene.begin(stuck_after_s=0.05)
        backend = scene.version.backend
        try:
            await scene.ask(pictures(1, ODD))
            await scene.wait_until(lambda: scene.version.is_lent)
            assert scene.version.batcher is not None
            waiting = scene.version.batcher.submit(pictures(2), deadline=FOREVER)  # behind it, on the same thread
            assert await scene.ask(pictures(3))
            with pytest.raises(ModelNotReady, match="hangs as a shadow"):
                await waiting
            assert scene.version.state is State.SICK
            assert scene.outcomes == {"failed": 2}
            assert not shadow.is_in_place
            assert await scene.ask(pictures(4), pictures(5))
            assert scene.serving.state is State.READY
            assert isinstance(backend, Stuck)
            assert not backend.is_closed  # under the thread that is in it
        finally:
            Stuck.over.set()
        await scene.wait_until(lambda: not scene.version.is_lent)
        assert scene.outcomes == {"failed": 2}

    with second_version_as(Stuck):
        play(tmp_path, act)


class Alone(DummyBackend):
    """Notes where it is called, and whether two calls ever met."""

    threads: list[str]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.threads = []
        self.lock = threading.Lock()

    def run(self, inputs: Tensors) -> Tensors:
        assert self.lock.acquire(blocking=False), "two calls at a time"
        try:
            self.threads.append(threading.current_thread().name)
            return super().run(inputs)
        finally:
            self.lock.release()


def test_a_version_that_answers_beside_being_a_shadow_is_called_one_at_a_time_and_moves_back(tmp_path: Path) -> None:
    two_versions(tmp_path)

    async def act(scene: Scene) -> None:
        shadow = scene.begin()
        backend = scene.version.backend
        assert isinstance(backend, Alone)
        backend.threads.clear()
        assert scene.version.runs_on == "thread"

        async def keep_asking(version: Version) -> None:
            for _ in range(50):
                await scene.ask(pictures(1), version=version)

        await asyncio.gather(*(keep_asking(version) for version in (scene.serving, scene.version) for _ in range(4)))
        await scene.wait_until(lambda: scene.found.compared == 200)
        assert scene.outcomes == {"agreed": 200}
        assert {name.rpartition("_")[0] for name in backend.threads} == {"shadow-dummy/2"}
        shadow.close()
        backend.threads.clear()
        await scene.ask(pictures(1), version=scene.version)
        assert backend.threads == [threading.main_thread().name]
        assert scene.version.runs_on == "loop"

    with second_version_as(Alone):
        play(tmp_path, act)


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


def test_a_batch_that_is_under_way_when_it_is_closed_is_counted_nowhere(tmp_path: Path) -> None:
    two_versions(tmp_path, hangs_on=ODD)
    Stuck.over.clear()

    async def act(scene: Scene) -> None:
        shadow = scene.begin()
        await scene.ask(pictures(ODD))
        await scene.wait_until(lambda: scene.version.is_lent)
        shadow.close()
        assert scene.version.runs_on == "thread"  # its backend is still in use there
        Stuck.over.set()
        await scene.wait_until(lambda: not scene.version.is_lent)
        assert scene.version.runs_on == "loop"
        assert scene.outcomes == {}

    with second_version_as(Stuck):
        play(tmp_path, act)
