"""What no longer answers, or answers wrong, goes out of rotation, and comes back once it is well."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app import backends
from app.backends import dummy
from app.errors import ModelNotReady
from app.metrics import Metrics
from app.serving import health as module
from app.serving.catalog import Catalog
from app.serving.health import LOAD_S, LOOK_S, MOST_HUNG, Health
from app.serving.versions import State, Version, read_version
from app.settings import Settings
from app.tensors import Tensors
from tests.support.bundles import dummy_bundle, fault, held
from tests.support.jobs import FOREVER
from tests.support.signatures import key_pair

ROW: Tensors = {"image": np.ones((1, 2, 3), np.float32)}
ONE = ("dummy", "1")


class Ward:
    """A catalog of one dummy and its health, looked after by hand."""

    def __init__(self, catalog: Catalog, metrics: Metrics, health: Health) -> None:
        self.catalog = catalog
        self.canaries = metrics.canaries
        self.health = health

    @property
    def version(self) -> Version:
        return self.catalog.models["dummy"].versions[0]

    async def look_until(self, is_so: Callable[[], bool]) -> None:
        """Look as often as is needed, the event loop turning between."""
        for _ in range(20_000):
            if is_so():
                return
            self.health.look()
            await asyncio.sleep(0.001)
        raise TimeoutError(f"never so: {self.version.state}, {self.version.reason}")

    async def ask(self) -> str:
        """Ask as a client does, and return what came of it."""
        assert self.version.batcher is not None
        try:
            await self.version.batcher.submit(ROW, deadline=FOREVER)
        except ModelNotReady as exc:
            return str(exc)
        return "answered"


def with_ward(
    models: Path, scenario: Callable[[Ward], Coroutine[Any, Any, None]], *, is_successor: bool = False, **settings: Any
) -> None:
    async def run() -> None:
        metrics = Metrics()
        chosen = Settings(models_dir=models, backend="dummy", **{"canary_s": 0.001, "run_on": "thread"} | settings)
        catalog = Catalog(chosen, metrics)
        health = Health(
            catalog, chosen, metrics, check_contract=lambda manifest, golden: None,
            clock=asyncio.get_running_loop().time,
        )  # fmt: skip
        health.expects_proven = is_successor
        await catalog.load(lambda manifest, golden: None)
        health.begin()
        await scenario(Ward(catalog, metrics, health))
        catalog.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:  # type: ignore[operator]  # there is one
            task.cancel()

    asyncio.run(run())


@pytest.fixture(autouse=True)
def threads_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let go of what hangs when the test is over: Python waits for its threads at the end."""
    released = threading.Event()
    monkeypatch.setattr(dummy, "NEVER", released)
    yield
    released.set()


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(module, "LONGEST_PAUSE_S", 0.01)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return dummy_bundle(tmp_path, behavior={"heeds_faults": True}, rows=4)


def test_golden_rows_are_asked_in_turn_and_counted_and_are_in_no_statistics(tmp_path: Path, folder: Path) -> None:
    async def scenario(ward: Ward) -> None:
        await ward.look_until(lambda: ward.canaries[*ONE, "right"] >= 9)
        assert set(ward.canaries) == {(*ONE, "right")}
        assert ward.version.state is State.READY
        assert await ward.ask() == "answered"
        statistics = ward.catalog._metrics.statistics[ONE]
        assert (statistics.answered, statistics.rows, statistics.failed) == (1, 1, 0)
        assert sum(ward.catalog._metrics.batch_rows["dummy"].counts) == 1

    with_ward(tmp_path, scenario)


@pytest.mark.parametrize("run_on", ["loop", "thread"])
@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("wrong", "a golden row: output 'logits' differs by"),
        ("nan", "the golden rows fail: the backend returned NaN"),
        ("rows", "the golden rows fail: the backend returned 2 rows for 1"),
        ("raise", "the golden rows fail: RuntimeError: the dummy was told to raise"),
    ],
)
def test_who_answers_wrong_is_out_until_it_is_proven_again(
    tmp_path: Path, folder: Path, kind: str, told: str, run_on: str
) -> None:
    async def scenario(ward: Ward) -> None:
        first = ward.version
        with fault(folder, fault=kind):
            await ward.look_until(lambda: first.state is State.SICK)
            assert told in first.reason
            assert told in await ward.ask()
            await ward.look_until(lambda: "loaded anew 2 times, and still: " in first.reason)
            assert ward.version is first
        await ward.look_until(lambda: ward.version.state is State.READY)
        assert ward.version is not first
        assert first.state is State.UNLOADED
        assert await ward.ask() == "answered"

    with_ward(tmp_path, scenario, run_on=run_on)


def test_what_is_loaded_anew_is_held_to_its_signature_again(tmp_path: Path, folder: Path) -> None:
    (folder / "report.md").write_text("98%")
    pair = key_pair(tmp_path)
    pair.sign(folder)

    async def scenario(ward: Ward) -> None:
        first = ward.version
        with fault(folder, fault="wrong"):
            await ward.look_until(lambda: first.state is State.SICK)
            (folder / "report.md").write_text("99%")
        await ward.look_until(lambda: "not what was signed: 'report.md'" in first.reason)
        (folder / "report.md").write_text("98%")
        await ward.look_until(lambda: ward.version.state is State.READY)

    with_ward(tmp_path, scenario, signing_key=pair.public)


def test_callers_of_a_backend_that_hangs_are_answered_and_another_takes_its_place(tmp_path: Path, folder: Path) -> None:
    async def scenario(ward: Ward) -> None:
        first = ward.version
        with fault(folder, fault="hang"):
            callers = [asyncio.ensure_future(ward.ask()) for _ in range(3)]
            await ward.look_until(lambda: first.calls is not None and first.calls.is_under_way)
            assert first.state is State.READY
            await ward.look_until(lambda: first.state is State.SICK)
        assert set(await asyncio.gather(*callers)) == {"its backend has not answered for 4 s"}
        await ward.look_until(lambda: ward.version.state is State.READY)
        assert await ward.ask() == "answered"
        assert ward.health.wants_out == ""

    with_ward(tmp_path, scenario, canary_s=0)


def test_a_call_is_given_up_by_looks_and_not_before_its_time(tmp_path: Path, folder: Path) -> None:
    async def scenario(ward: Ward) -> None:
        with fault(folder, fault="hang"):
            caller = asyncio.ensure_future(ward.ask())
            calls = ward.version.calls
            while not (calls is not None and calls.is_under_way):  # noqa: ASYNC110  a thread sets it
                await asyncio.sleep(0.001)
            for _ in range(int(10 / LOOK_S)):  # at the first, it is seen
                ward.health.look()
            assert ward.version.state is State.READY
            ward.health.look()
            assert ward.version.state is State.SICK  # type: ignore[comparison-overlap]  # looks change it
        assert "10 s" in await caller

    with_ward(tmp_path, scenario, canary_s=0, hung_s=10)


def test_a_backend_that_hangs_while_it_is_proven_again_is_left_behind_and_too_many_are_told(
    tmp_path: Path, folder: Path
) -> None:
    async def scenario(ward: Ward) -> None:
        first = ward.version
        with fault(folder, fault="hang"):
            caller = asyncio.ensure_future(ward.ask())
            await ward.look_until(lambda: ward.health.wants_out != "")
        assert "4 s" in await caller
        assert ward.health.wants_out == f"has {MOST_HUNG} threads that hang in the runtime of dummy/1"
        await ward.look_until(lambda: "loaded anew 1 times, and still: its backend has not answered" in first.reason)
        await ward.look_until(lambda: ward.version.state is State.READY)

    with_ward(tmp_path, scenario, canary_s=0)


def test_a_full_queue_makes_nobody_sick(tmp_path: Path) -> None:
    folder = dummy_bundle(tmp_path, behavior={"heeds_faults": True}, rows=4)

    async def scenario(ward: Ward) -> None:
        version = ward.version
        assert version.batcher is not None
        with held(folder) as is_waiting:
            crowd = [version.batcher.submit(ROW, deadline=FOREVER)]
            while not is_waiting():  # noqa: ASYNC110  what runs on a thread tells nobody
                await asyncio.sleep(0.001)
            crowd += [version.batcher.submit(ROW, deadline=FOREVER, client=str(n)) for n in range(4)]
            await ward.look_until(lambda: ward.canaries[*ONE, "refused"] > 0)
        assert version.state is State.READY
        await asyncio.gather(*crowd)
        await ward.look_until(lambda: ward.canaries[*ONE, "right"] > 0)
        assert version.state is State.READY
        assert version.batcher is not None
        assert ward.catalog._metrics.statistics[ONE].failed == 0

    with_ward(tmp_path, scenario, max_queue_rows=4, max_instances=4)


def test_what_was_never_proven_stays_failed_but_where_a_process_before_has_served_it(
    tmp_path: Path, folder: Path
) -> None:
    async def never(ward: Ward) -> None:
        assert ward.version.state is State.FAILED
        for _ in range(50):
            ward.health.look()
            await asyncio.sleep(0)
        assert ward.version.state is State.FAILED

    with fault(folder, fault="raise"):
        with_ward(tmp_path, never)

    async def before(ward: Ward) -> None:
        assert ward.version.state is State.SICK
        broken.__exit__(None, None, None)
        await ward.look_until(lambda: ward.version.state is State.READY)
        assert await ward.ask() == "answered"

    broken = fault(folder, fault="raise")
    broken.__enter__()
    with_ward(tmp_path, before, is_successor=True)


def test_who_is_unloaded_is_not_brought_back(tmp_path: Path, folder: Path) -> None:
    async def scenario(ward: Ward) -> None:
        first = ward.version
        with fault(folder, fault="raise"):
            await ward.look_until(lambda: first.state is State.SICK)
            first.retire()
            first.release()
        await ward.look_until(lambda: not ward.health._healing)
        assert ward.version is first
        assert first.state is State.UNLOADED

    with_ward(tmp_path, scenario)


def test_what_hangs_while_it_is_to_replace_another_is_given_up_and_has_the_time_of_what_is_new(
    tmp_path: Path, folder: Path
) -> None:
    async def scenario(ward: Ward) -> None:
        model, serving = ward.catalog.models["dummy"], ward.version
        fresh = read_version(serving.ref, model, None)
        with fault(folder, fault="hang"):
            coming = asyncio.create_task(ward.catalog.bring_up(fresh, lambda manifest, golden: None))
            await ward.look_until(coming.done)
        assert fresh.state is State.FAILED
        assert fresh.reason == "its backend has not answered for 30 s"  # also where another process stood here before
        assert (ward.version, serving.state) == (serving, State.READY)
        assert ward.catalog.coming is None

    with_ward(tmp_path, scenario, is_successor=True, canary_s=0)


def test_a_backend_that_comes_back_after_all_is_let_go(tmp_path: Path, folder: Path) -> None:
    async def scenario(ward: Ward) -> None:
        backend = ward.version.backend
        assert backend is not None
        hung = weakref.ref(backend)
        del backend
        with fault(folder, fault="hang"):
            caller = asyncio.ensure_future(ward.ask())
            await ward.look_until(lambda: ward.version.state is State.SICK)
        await ward.look_until(lambda: ward.version.state is State.READY)
        assert hung() is not None
        dummy.NEVER.set()
        await caller
        await ward.look_until(lambda: not ward.health._hung)
        await ward.look_until(lambda: gc.collect() >= 0 and hung() is None)

    with_ward(tmp_path, scenario, canary_s=0)


def test_a_bundle_whose_loading_hangs_is_given_up_and_the_next_has_its_turn(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = backends.load

    def hang(*args: Any, **options: Any) -> Any:
        monkeypatch.setattr(backends, "load", load)
        dummy.NEVER.wait()

    async def scenario(ward: Ward) -> None:
        model = ward.catalog.models["dummy"]
        stuck, waiting = (read_version(ward.version.ref, model, None) for _ in range(2))
        monkeypatch.setattr(backends, "load", hang)
        tasks = [asyncio.create_task(ward.catalog.bring_up(each, lambda *_: None)) for each in (stuck, waiting)]
        await ward.look_until(lambda: stuck.under_way is not None)
        for _ in range(int(LOAD_S / LOOK_S)):
            ward.health.look()
        await asyncio.gather(*tasks)
        assert (stuck.state, stuck.reason) == (State.FAILED, "it could not be loaded within 600 s")
        assert waiting.state is State.READY

    with_ward(tmp_path, scenario, canary_s=0)
