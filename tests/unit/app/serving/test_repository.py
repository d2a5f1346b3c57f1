"""What may be asked of the models, and what has come of it, in both of two workers."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from app import memory
from app.bundle.golden import GoldenRows
from app.bundle.manifest import Manifest
from app.errors import (
    BundleError,
    InvalidInput,
    ModelNotReady,
    NothingToRollBack,
    NotLoaded,
    NotPromotable,
    UnknownModel,
    UnknownVersion,
)
from app.serving.policy import Policy, Shadow
from app.serving.state import Desired, StateFile
from app.serving.versions import State
from tests.support.bundles import ARTIFACT_FILE, dummy_bundle
from tests.support.fleet import CANARY, WITHIN_S, Service, Worker, run, until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    dummy_bundle(tmp_path / "models")
    dummy_bundle(tmp_path / "models", version=2)
    return tmp_path


def test_a_policy_that_names_what_is_not_there_changes_nothing(folder: Path) -> None:
    async def scenario(_: Service, one: Worker, two: Worker) -> None:
        with pytest.raises(NotLoaded, match="dummy/7: it is not in the models folder; it is served as version 1, 2"):
            await one.repository.set_policy("dummy", Policy(default=7), within_s=WITHIN_S)
        with pytest.raises(UnknownModel):
            await one.repository.set_policy("nobody", CANARY, within_s=WITHIN_S)
        assert (one.default, two.default) == (2, 2)

    run(folder, scenario)


def test_what_was_loaded_last_is_rolled_back_to_the_version_that_answered(folder: Path) -> None:
    async def scenario(service: Service, one: Worker, two: Worker) -> None:
        dummy_bundle(service.models_dir, version=3)
        await two.repository.load("dummy", within_s=WITHIN_S)
        assert (one.default, two.default) == (3, 3)
        await one.repository.load("dummy", within_s=WITHIN_S)  # nothing new: nothing to go back from
        outcome = await one.repository.roll_back("dummy", within_s=WITHIN_S)
        assert outcome.desired.policy == Policy(default=2)
        assert (one.default, two.default) == (2, 2)

    run(folder, scenario)


def test_an_unloaded_model_stays_so_over_a_restart_and_its_policy_waits(folder: Path) -> None:
    async def before(_: Service, one: Worker, __: Worker) -> None:
        await one.repository.unload("dummy", within_s=WITHIN_S)
        await one.repository.set_policy("dummy", CANARY, within_s=WITHIN_S)
        assert one.states() == [State.UNLOADED, State.UNLOADED]

    async def after(_: Service, one: Worker, two: Worker) -> None:
        assert (one.states(), two.states()) == ([State.UNLOADED] * 2, [State.UNLOADED] * 2)
        assert not one.repository.is_wanted("dummy")
        await two.repository.load("dummy", within_s=WITHIN_S)
        assert (one.default, two.default) == (1, 1)

    run(folder, before)
    run(folder, after)


def test_settings_that_have_changed_since_are_the_newer_wish(folder: Path) -> None:
    async def before(_: Service, one: Worker, __: Worker) -> None:
        await one.repository.set_policy("dummy", CANARY, within_s=WITHIN_S)

    async def unchanged(_: Service, one: Worker, __: Worker) -> None:
        assert one.catalog.models["dummy"].policy == CANARY

    async def changed(_: Service, one: Worker, two: Worker) -> None:
        assert one.catalog.models["dummy"].policy == Policy(default=2)
        outcome = await two.repository.roll_back("dummy", within_s=WITHIN_S)
        assert outcome.desired.policy == CANARY

    run(folder, before)
    run(folder, unchanged)
    run(folder, changed, version_policy="dummy=2")


def test_only_what_serves_is_kept_where_that_is_asked_for(folder: Path) -> None:
    dummy_bundle(folder / "models", version=3)

    async def scenario(_: Service, one: Worker, two: Worker) -> None:
        assert one.states() == [State.UNLOADED, State.UNLOADED, State.READY]
        policy = Policy(default=1, labels={"canary": 2}, keep="served")
        await two.repository.set_policy("dummy", policy, within_s=WITHIN_S)
        assert one.states() == two.states() == [State.READY, State.READY, State.UNLOADED]
        await one.repository.set_policy("dummy", Policy(default=1, keep="all"), within_s=WITHIN_S)
        assert one.states() == two.states() == [State.READY] * 3

    run(folder, scenario, keep_versions="served")


def test_the_latest_that_proves_is_kept_where_higher_ones_do_not(folder: Path) -> None:
    broken = dummy_bundle(folder / "models", version=3)
    (broken / ARTIFACT_FILE).write_text("{ }")

    async def scenario(_: Service, one: Worker, __: Worker) -> None:
        assert one.states() == [State.UNLOADED, State.READY, State.FAILED]

    run(folder, scenario, keep_versions="served")


def test_a_pinned_version_that_has_gone_is_not_ready_and_nobody_answers_in_its_place(folder: Path) -> None:
    StateFile(folder / "state").write({"dummy": Desired(policy=Policy(default=9), begun_with=Policy())})

    async def scenario(_: Service, one: Worker, __: Worker) -> None:
        assert one.states() == [State.READY, State.READY, State.FAILED]
        assert one.default == 9
        assert not one.catalog.is_model_ready("dummy")

    run(folder, scenario)


def test_what_a_policy_names_goes_on_when_its_folder_is_gone(folder: Path) -> None:
    async def scenario(service: Service, one: Worker, two: Worker) -> None:
        await one.repository.set_policy("dummy", CANARY, within_s=WITHIN_S)
        (service.models_dir / "dummy" / "2").rename(service.folder / "away")
        dummy_bundle(service.models_dir, version=3)
        await two.repository.load("dummy", within_s=WITHIN_S)
        assert one.states() == two.states() == [State.READY] * 3
        await two.repository.set_policy("dummy", Policy(default=1), within_s=WITHIN_S)
        assert [len(worker.catalog.models["dummy"].versions) for worker in (one, two)] == [2, 2]

    run(folder, scenario)


def test_a_shadow_is_promoted_once_it_has_earned_it(folder: Path) -> None:
    async def scenario(_: Service, one: Worker, two: Worker) -> None:
        policy = Policy(default=1, labels={"stable": 1, "canary": 2}, weights={"canary": 0.1})
        await one.repository.set_policy("dummy", policy, within_s=WITHIN_S)
        with pytest.raises(InvalidInput, match="cannot shadow itself"):
            await one.repository.set_shadow("dummy", Shadow(version=1), within_s=WITHIN_S)
        await two.repository.set_shadow("dummy", Shadow(version=2), within_s=WITHIN_S)
        earned: list[str] = []

        def expect(name: str, /, **asked: object) -> None:
            assert asked == {"min_agreement": 0.5, "min_rows": None}
            if not earned:
                raise NotLoaded(f"{name} has not")

        one.repository.expect_promotable = expect
        with pytest.raises(NotLoaded, match="dummy has not"):
            await one.repository.promote("dummy", min_agreement=0.5, within_s=WITHIN_S)
        earned.append("by now")
        with pytest.raises(UnknownVersion, match="2"):
            await one.repository.promote("dummy", 1, min_agreement=0.5, within_s=WITHIN_S)
        await one.repository.promote("dummy", 2, min_agreement=0.5, within_s=WITHIN_S)
        promoted = Policy(default=2, labels={"stable": 2, "canary": 2})
        assert [worker.catalog.models["dummy"].policy for worker in (one, two)] == [promoted, promoted]

    run(folder, scenario)


def test_where_nothing_can_be_kept_a_command_works_and_says_so(folder: Path) -> None:
    (folder / "state").write_text("no folder")

    async def scenario(_: Service, one: Worker, two: Worker) -> None:
        outcome = await one.repository.set_policy("dummy", CANARY, within_s=WITHIN_S)
        assert str(outcome.lasts_because).startswith("control.json cannot be written in ZTO_STATE_DIR")
        assert two.default == 1

    run(folder, scenario)


def test_a_batch_that_comes_back_sick_takes_out_what_serves_and_not_what_was_unloaded(folder: Path) -> None:
    async def scenario(_: Service, one: Worker, two: Worker) -> None:
        version = one.catalog.models["dummy"].versions[0]
        await one.repository.unload("dummy", within_s=WITHIN_S)
        version.sicken("its golden rows fail")
        assert (version.state, version.reason) == (State.UNLOADED, "")
        await one.repository.load("dummy", within_s=WITHIN_S)
        serving = two.catalog.models["dummy"].versions[0]
        serving.sicken("its golden rows fail")
        assert (serving.state, serving.reason) == (State.SICK, "its golden rows fail")
        await until(lambda: one.repository.standing("dummy").reached[1].ready == ("2",))

    run(folder, scenario)


def test_a_rollback_survives_the_restart_of_all(folder: Path) -> None:
    async def before(_: Service, one: Worker, two: Worker) -> None:
        await one.repository.set_policy("dummy", CANARY, within_s=WITHIN_S)
        await two.repository.set_policy("dummy", Policy(default=2, keep="served"), within_s=WITHIN_S)
        outcome = await one.repository.roll_back("dummy", within_s=WITHIN_S)
        assert outcome.desired.policy == CANARY
        assert one.metrics.swaps["dummy", "rolled_back"] == 1

    async def after(_: Service, one: Worker, two: Worker) -> None:
        assert [worker.catalog.models["dummy"].policy for worker in (one, two)] == [CANARY, CANARY]
        assert (await two.repository.roll_back("dummy", within_s=WITHIN_S)).desired.policy == Policy()
        with pytest.raises(NothingToRollBack):
            await one.repository.roll_back("dummy", within_s=WITHIN_S)

    run(folder, before)
    run(folder, after)


def test_what_was_sick_and_is_loaded_in_vain_is_still_brought_back_by_itself(folder: Path) -> None:
    async def scenario(_: Service, one: Worker, two: Worker) -> None:
        one.catalog.models["dummy"].versions[0].sicken("its golden rows fail")
        one.repository._swap._check_contract = fail
        with pytest.raises(NotLoaded, match="worker 0: dummy/1: not yet; it is served as version 2"):
            await one.repository.load("dummy", within_s=WITHIN_S)
        assert one.states() == [State.SICK, State.READY]
        assert two.states() == [State.READY, State.READY]

    def fail(manifest: Manifest, golden: GoldenRows) -> None:
        del manifest, golden
        raise BundleError("not yet")

    run(folder, scenario)


def test_a_file_that_was_changed_in_place_is_proven_and_what_serves_goes_on_with_the_reason(folder: Path) -> None:
    async def scenario(service: Service, one: Worker, two: Worker) -> None:
        file = service.models_dir / "dummy" / "2" / ARTIFACT_FILE
        before = one.catalog.models["dummy"].versions[1]
        file.write_text("{ }")
        with pytest.raises(NotLoaded, match=f"dummy/2: {ARTIFACT_FILE} is not the file that the manifest describes"):
            await two.repository.load("dummy", within_s=WITHIN_S)
        for worker in (one, two):
            assert worker.states() == [State.READY, State.READY]
            reason = worker.catalog.models["dummy"].versions[1].reason
            assert f"not served: {ARTIFACT_FILE} is not the file" in reason
        assert one.catalog.models["dummy"].versions[1] is before
        file.write_text("{}")
        await two.repository.load("dummy", within_s=WITHIN_S)
        assert one.catalog.models["dummy"].versions[1].reason == ""

    run(folder, scenario)


def test_the_event_loop_stops_to_collect_only_where_something_was_loaded_or_let_go(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled: list[str] = []
    monkeypatch.setattr(memory, "settle", lambda: settled.append("once"))

    async def scenario(service: Service, one: Worker, _: Worker) -> None:
        await one.repository.set_policy("dummy", CANARY, within_s=WITHIN_S)
        await one.repository.load("dummy", within_s=WITHIN_S)
        assert settled == []
        dummy_bundle(service.models_dir, version=3)
        await one.repository.load("dummy", within_s=WITHIN_S)
        assert settled == ["once", "once"]  # in each worker
        await one.repository.unload("dummy", within_s=WITHIN_S)
        assert settled == ["once"] * 4

    run(folder, scenario)


def test_who_is_sick_and_hangs_keeps_nobody_waiting_who_unloads_it(folder: Path) -> None:
    released = threading.Event()

    async def scenario(_: Service, one: Worker, __: Worker) -> None:
        version = one.catalog.models["dummy"].versions[0]
        batcher = version.batcher
        assert batcher is not None
        with ThreadPoolExecutor(1) as executor:
            batcher.executor = executor
            batcher._run = lambda inputs: {} if released.wait(WITHIN_S) else inputs
            asked = batcher.submit({"image": np.ones((1, 2, 3), np.float32)}, deadline=float("inf"))
            await until(lambda: not batcher.waiting_rows)
            batcher.abandon("it hangs")
            version.sicken("it hangs")
            with pytest.raises(ModelNotReady):
                await asked
            await one.repository.unload("dummy", within_s=WITHIN_S)
            assert one.states() == [State.UNLOADED, State.UNLOADED]
            assert not batcher.is_idle
            released.set()

    run(folder, scenario, shutdown_s=3600)


def test_a_shadow_that_was_exchanged_after_it_was_judged_is_not_promoted(folder: Path) -> None:
    async def scenario(service: Service, one: Worker, two: Worker) -> None:
        dummy_bundle(service.models_dir, version=3)
        await one.repository.load("dummy", within_s=WITHIN_S)
        await one.repository.set_policy("dummy", Policy(default=1, shadow=Shadow(version=2)), within_s=WITHIN_S)
        one.repository.expect_promotable = lambda name, /, **_: name
        async with one.commands._writing:  # so that what two wishes comes between
            promoting = asyncio.create_task(one.repository.promote("dummy", within_s=WITHIN_S))
            await asyncio.sleep(0)
            await two.repository.set_shadow("dummy", Shadow(version=3), within_s=WITHIN_S)
        with pytest.raises(NotPromotable, match="the shadow of dummy has changed since"):
            await promoting
        assert (one.default, two.default) == (1, 1)

    run(folder, scenario)
