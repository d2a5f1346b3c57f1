"""What is wished of the models reaches every worker, or none."""

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.errors import NotLoaded, Overloaded
from app.serving import commands as commands_module
from app.serving.orders import Order
from app.serving.policy import Policy
from app.serving.slate import parse
from app.serving.state import STATE_FILE, Desired, StateFile
from app.serving.versions import State
from tests.support.bundles import dummy_bundle
from tests.support.fleet import CANARY, WITHIN_S, Service, Worker, run, until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    dummy_bundle(tmp_path / "models")
    dummy_bundle(tmp_path / "models", version=2)
    return tmp_path


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


def test_a_model_that_nobody_has_had_loaded_is_none_that_a_new_worker_serves_alone(folder: Path) -> None:
    async def scenario(service: Service, one: Worker, two: Worker) -> None:
        dummy_bundle(service.models_dir, "other")
        await one.end()
        successor = await service.worker(0)
        assert set(successor.catalog.models) == set(two.catalog.models) == {"dummy"}
        assert successor.catalog.is_ready
        await two.repository.load("other", within_s=WITHIN_S)
        for worker in (successor, two):
            assert worker.catalog.resolve("other").state is State.READY
        await successor.end()

    run(folder, scenario)


def test_what_all_have_come_to_is_settled_however_long_another_worker_is_at_the_board(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands_module, "_TRIES", 3)
    monkeypatch.setattr(commands_module, "_TRY_AGAIN_S", 0.001)

    async def scenario(service: Service, one: Worker, two: Worker) -> None:
        wish, tries = service.board.wish, itertools.count()

        def wish_late(change: Callable[[bytes], bytes]) -> None:
            if 0 < next(tries) < 20:  # the first try wishes, the others settle
                raise BlockingIOError
            wish(change)

        monkeypatch.setattr(service.board, "wish", wish_late)
        outcome = await one.repository.set_policy("dummy", CANARY, within_s=WITHIN_S)
        assert next(tries) > 20
        assert outcome.desired.policy == CANARY
        assert StateFile(service.settings.state_dir).read()["dummy"].policy == CANARY
        assert (one.default, two.default) == (1, 1)

    run(folder, scenario)


def test_who_cannot_wish_because_another_worker_is_at_the_board_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands_module, "_TRIES", 3)
    monkeypatch.setattr(commands_module, "_TRY_AGAIN_S", 0.001)

    async def scenario(service: Service, one: Worker, _: Worker) -> None:
        def refuse(change: Callable[[bytes], bytes]) -> None:
            raise BlockingIOError

        monkeypatch.setattr(service.board, "wish", refuse)
        with pytest.raises(Overloaded, match="another worker is changing what is served"):
            await one.repository.set_policy("dummy", CANARY, within_s=WITHIN_S)

    run(folder, scenario)
