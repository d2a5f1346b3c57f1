"""What is wished of the models reaches every worker, or none; two workers of one process share a real board."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from app.bundle.golden import GoldenRows
from app.bundle.loader import Bundle
from app.bundle.manifest import Manifest
from app.errors import InvalidInput, NothingToRollBack, NotLoaded, UnknownModel, UnknownVersion
from app.metrics import Metrics
from app.serving.catalog import Catalog
from app.serving.orders import Order
from app.serving.policy import Policy, Shadow
from app.serving.repository import Repository
from app.serving.slate import parse
from app.serving.state import STATE_FILE, Desired, StateFile
from app.serving.versions import State
from app.settings import Settings
from app.workers.board import Board
from tests.support.bundles import ARTIFACT_FILE, dummy_bundle

TICK_S = 0.01
WITHIN_S = 30.0
CANARY = Policy(default=1, labels={"canary": 2}, weights={"canary": 0.5})


class OpenDoors:
    """Lets every model in."""

    def prepare(self, bundle: Bundle) -> Callable[[], None]:
        del bundle
        return lambda: None


class Worker:
    """One worker of several, without its sockets."""

    def __init__(self, board: Board, place: int, settings: Settings) -> None:
        self.metrics = Metrics()
        self.catalog = Catalog(settings, self.metrics)
        self.repository = Repository(
            self.catalog, settings, doors=OpenDoors(), check_contract=lambda *_: None, metrics=self.metrics
        )
        self.commands = self.repository.commands
        self._board, self._place = board, place
        self.is_hung = False
        self._ticking: asyncio.Task[None] | None = None

    async def start(self) -> "Worker":
        self.commands.begin(self._board, self._place)
        await self.catalog.load(lambda *_: None)
        self.commands.begun()
        self._board.mark(self._place, is_serving=True)
        self._ticking = asyncio.create_task(self._tick())
        return self

    async def _tick(self) -> None:
        while True:
            self.commands.carry_on()
            await asyncio.sleep(TICK_S)

    async def end(self) -> None:
        """End as a killed process does: it does nothing more, and others are told."""
        if self._ticking is not None:
            self._ticking.cancel()
            with suppress(asyncio.CancelledError):
                await self._ticking
        self._board.mark(self._place, is_serving=False)

    def hangs_on(self, number: int | None) -> None:
        """Let the proof of a version never come to its end."""

        def check_contract(manifest: Manifest, golden: GoldenRows) -> None:
            del golden
            if manifest.version == number:
                self.is_hung = True
                threading.Event().wait()

        self.repository._swap._check_contract = check_contract

    async def kill(self) -> None:
        """End in the middle of whatever it is at."""
        await self.end()
        tasks = [*self.commands._under_way.values(), *self.commands._orphans, *self.repository._under_way]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def default(self) -> int:
        return self.catalog.models["dummy"].default.ref.version

    def states(self) -> list[State]:
        return [version.state for version in self.catalog.models["dummy"].versions]


class Service:
    """Two workers over one folder."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.models_dir = folder / "models"
        self.settings = Settings(
            models_dir=self.models_dir, backend="dummy", run_on="loop", state_dir=folder / "state", **settings
        )
        self.board = Board(2)

    async def worker(self, place: int, *, hangs_on: int | None = None) -> Worker:
        worker = Worker(self.board, place, self.settings)
        worker.hangs_on(hangs_on)
        return await worker.start()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    dummy_bundle(tmp_path / "models")
    dummy_bundle(tmp_path / "models", version=2)
    return tmp_path


def run(
    folder: Path, scenario: Callable[[Service, Worker, Worker], Coroutine[Any, Any, None]], **settings: Any
) -> None:  # fmt: skip
    async def both() -> None:
        service = Service(folder, **settings)
        workers = [await service.worker(0), await service.worker(1)]
        await scenario(service, *workers)
        for worker in workers:
            await worker.end()

    asyncio.run(both())


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not is_so():  # noqa: ASYNC110  what changes tells nobody
            await asyncio.sleep(TICK_S)


def test_both_workers_adopt_a_policy_and_the_answer_says_so(folder: Path) -> None:
    async def scenario(_: Service, one: Worker, two: Worker) -> None:
        assert (one.default, two.default) == (2, 2)
        outcome = await two.repository.set_policy("dummy", CANARY, within_s=WITHIN_S)
        assert [(each.worker, each.ready, each.default, each.error) for each in outcome.reached] == [
            (0, ("1", "2"), 1, None),
            (1, ("1", "2"), 1, None),
        ]
        assert outcome.desired.policy == CANARY
        assert outcome.lasts_because is None
        assert (one.default, two.default) == (1, 1)
        assert one.repository.standing("dummy") == outcome

    run(folder, scenario)


def test_where_one_worker_cannot_all_go_back(folder: Path) -> None:
    async def scenario(service: Service, one: Worker, two: Worker) -> None:
        dummy_bundle(service.models_dir, version=3)
        two.repository._swap._check_contract = raise_on_three
        with pytest.raises(NotLoaded, match=r"worker 1: dummy/3: not here.*the policy stays as it was"):
            await one.repository.set_policy("dummy", Policy(default=3), within_s=WITHIN_S)
        assert (one.default, two.default) == (2, 2)
        assert one.commands.desired("dummy") == Desired(policy=Policy(), begun_with=Policy())
        # who could has let go of it: nobody had said that it counts
        assert [len(worker.states()) for worker in (one, two)] == [2, 2]
        await two.repository.set_policy("dummy", CANARY, within_s=WITHIN_S)  # and nothing is stuck
        assert (one.default, two.default) == (1, 1)

    def raise_on_three(manifest: Any, golden: Any) -> None:
        del golden
        if manifest.version == 3:
            raise NotLoaded("not here")

    run(folder, scenario)


def test_a_policy_that_names_what_is_not_there_changes_nothing(folder: Path) -> None:
    async def scenario(_: Service, one: Worker, two: Worker) -> None:
        with pytest.raises(NotLoaded, match="dummy/7: it is not in the models folder; it is served as version 1, 2"):
            await one.repository.set_policy("dummy", Policy(default=7), within_s=WITHIN_S)
        with pytest.raises(UnknownModel):
            await one.repository.set_policy("nobody", CANARY, within_s=WITHIN_S)
        assert (one.default, two.default) == (2, 2)

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


def test_a_worker_that_starts_later_begins_with_what_is_wished(folder: Path) -> None:
    async def scenario(service: Service, one: Worker, two: Worker) -> None:
        await two.end()
        outcome = await one.repository.set_policy("dummy", CANARY, within_s=WITHIN_S)
        assert [each.worker for each in outcome.reached] == [0]
        (service.folder / "state" / STATE_FILE).unlink()  # it stands on the board too
        successor = await service.worker(1)
        assert successor.default == 1
        assert [each.default for each in one.repository.standing("dummy").reached] == [1, 1]
        await successor.end()

    run(folder, scenario)


def test_a_bundle_that_nobody_has_had_loaded_is_none_that_a_new_worker_begins_with(folder: Path) -> None:
    async def scenario(service: Service, one: Worker, two: Worker) -> None:
        dummy_bundle(service.models_dir, version=3)
        await one.end()
        successor = await service.worker(0)
        assert (successor.default, two.default) == (2, 2)
        await two.repository.load("dummy", within_s=WITHIN_S)
        await two.end()
        assert (await service.worker(1)).default == 3 == successor.default
        await successor.end()

    run(folder, scenario)


def test_a_bundle_that_ends_whoever_loads_it_is_given_up_and_the_service_goes_on(folder: Path) -> None:
    async def scenario(service: Service, one: Worker, two: Worker) -> None:
        dummy_bundle(service.models_dir, version=3)
        for worker in (one, two):
            worker.hangs_on(3)
        asking = asyncio.create_task(one.repository.load("dummy", within_s=WITHIN_S))
        both = [one, two]
        for _ in range(2):  # each place has a second chance
            await until(lambda: all(worker.is_hung for worker in both))
            for worker in both:
                await worker.kill()
            both[:] = [await service.worker(place, hangs_on=3) for place in (0, 1)]
            assert [worker.default for worker in both] == [2, 2]
        assert asking.cancel() or asking.done()
        await until(lambda: parse(service.board.wishes())["dummy"].is_done)
        reached = both[0].repository.standing("dummy").reached
        assert [each.error for each in reached] == ["the workers that tried it have ended meanwhile"] * 2
        assert [worker.default for worker in both] == [2, 2]
        await both[1].repository.set_policy("dummy", CANARY, within_s=WITHIN_S)  # nothing is stuck
        for worker in both:
            await worker.end()

    run(folder, scenario)


def test_what_a_killed_worker_had_begun_is_brought_to_its_end_by_the_next(folder: Path) -> None:
    async def scenario(service: Service, one: Worker, two: Worker) -> None:
        # it wishes, and is gone before anybody has come to it
        order = Order(change=lambda desired: desired.with_policy(CANARY), is_tried=True)
        asking = asyncio.create_task(one.commands.carry_out("dummy", order))
        await until(lambda: parse(service.board.wishes())["dummy"].number > 0)
        asking.cancel()
        await one.kill()
        await until(lambda: two.default == 1)
        assert two.commands.desired("dummy").policy == Policy()  # not settled: who was asked is gone
        successor = await service.worker(0)
        await until(lambda: two.commands.desired("dummy").policy == CANARY)
        assert successor.default == 1
        assert StateFile(service.settings.state_dir).read()["dummy"].policy == CANARY
        await successor.end()

    run(folder, scenario)


def test_the_later_of_two_commands_wins_and_the_other_caller_is_told(folder: Path) -> None:
    async def scenario(_: Service, one: Worker, two: Worker) -> None:
        first = asyncio.create_task(one.repository.set_policy("dummy", Policy(default=1), within_s=WITHIN_S))
        second = asyncio.create_task(two.repository.set_policy("dummy", CANARY, within_s=WITHIN_S))
        results = await asyncio.gather(first, second, return_exceptions=True)
        settled = one.commands.desired("dummy").policy
        assert settled in (Policy(default=1), CANARY)
        for result, policy in zip(results, (Policy(default=1), CANARY), strict=True):
            if isinstance(result, NotLoaded):
                assert "a later command has changed it meanwhile" in str(result)
                assert policy != settled
            else:
                assert not isinstance(result, BaseException), result
        await until(lambda: {w.catalog.models["dummy"].policy == settled for w in (one, two)} == {True})

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
