"""The faults of a shadow are its own, and its backend is called by one at a time."""

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from app.backends.dummy import DummyBackend
from app.errors import ModelNotReady
from app.serving.health import Health
from app.serving.policy import Policy
from app.serving.policy import Shadow as Wish
from app.serving.shadows import Standing
from app.serving.versions import State, Version
from app.settings import Settings
from app.tensors import Tensors
from tests.support.bundles import INPUT_NAME, calls_until_ready, dummy_bundle, dummy_outputs
from tests.support.jobs import FOREVER
from tests.support.shadowed import ODD, Scene, pictures, play, second_version_as, two_versions


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


def test_a_shadow_that_hangs_is_out_and_nobody_waits_for_it(tmp_path: Path) -> None:
    two_versions(tmp_path, hangs_on=ODD)
    Stuck.over.clear()

    async def act(scene: Scene) -> None:
        catalog, model, sick = scene.catalog, scene.catalog.models["dummy"], scene.version
        settings = Settings(models_dir=tmp_path, backend="dummy", hung_s=1, canary_s=0)
        health = Health(
            catalog, settings, scene.metrics, check_contract=lambda manifest, golden: None, clock=time.monotonic
        )
        model.adopt(Policy(default=1, shadow=Wish(version=2, cpu_share=1.0)))
        catalog.shadows.settle()

        def standing() -> Standing:
            found = catalog.shadows.standing("dummy")
            assert found is not None
            return found

        backend = sick.backend
        try:
            await scene.ask(pictures(1, ODD))
            await scene.wait_until(lambda: sick.calls is not None and sick.calls.is_under_way)
            assert sick.batcher is not None
            waiting = sick.batcher.submit(pictures(2), deadline=FOREVER)  # behind it, on the same thread
            assert await scene.ask(pictures(3))
            for _ in range(1000):  # it counts its looks
                health.look()
                if sick.state is State.SICK:
                    break
            with pytest.raises(ModelNotReady, match="its backend has not answered"):
                await waiting
            await scene.wait_until(lambda: standing().comparison.failed == 2)
            assert isinstance(backend, Stuck)
            assert not backend.is_closed  # under the thread that is in it
            await scene.wait_until(lambda: model.versions[1].state is State.READY)  # loaded anew
            assert standing().waits_because is not None
            assert "has not come back" in standing().waits_because  # it would hang again
            assert await scene.ask(pictures(4), pictures(5))
            assert scene.serving.state is State.READY
        finally:
            Stuck.over.set()
        await scene.wait_until(lambda: standing().waits_because is None)
        assert standing().comparison.failed == 2

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
