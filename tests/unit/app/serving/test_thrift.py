"""What peaks leave behind is given back, and whoever serves goes on serving."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from app.backends.dummy import DummyBackend, Panic
from app.metrics import Metrics
from app.process_figures import resident_bytes
from app.serving.catalog import Catalog
from app.serving.costs import CostModel
from app.serving.health import Health
from app.serving.thrift import keep_lean
from app.serving.versions import State, Version
from app.settings import Settings
from app.tensors import Tensors
from tests.support.bundles import dummy_bundle
from tests.support.committed import MODELS

PATIENCE_S = 30.0


class Noting(DummyBackend):
    """Notes on which thread it gives back, and fails where it is told to."""

    threads: list[str]
    failure: BaseException | None = None
    hangs: threading.Event | None = None

    def settle(self, row: Tensors) -> None:
        super().settle(row)
        self.threads.append(threading.current_thread().name)
        if self.hangs is not None:
            self.hangs.wait()
        if self.failure is not None and len(self.threads) == 1:
            raise self.failure


def noting(version: Version, *, failure: BaseException | None = None, hangs: threading.Event | None = None) -> Noting:
    """Have the dummy of a version note from now on."""
    backend = version.backend
    assert isinstance(backend, DummyBackend)
    backend.__class__ = Noting
    assert isinstance(backend, Noting)
    backend.threads, backend.failure, backend.hangs = [], failure, hangs
    return backend


def serve(models_dir: Path, scenario: Callable[[Catalog], Awaitable[None]], **settings: object) -> None:
    """Run a scenario beside a service that keeps lean."""

    async def run() -> None:
        catalog = Catalog(Settings.model_validate({"models_dir": models_dir} | settings), Metrics())
        await catalog.load(lambda manifest, golden: None)
        keeping = asyncio.create_task(keep_lean(catalog.models, trim_s=0.001, settle_s=0.002, clock=lambda: 0.0))
        try:
            async with asyncio.timeout(PATIENCE_S):
                await scenario(catalog)
            assert not keeping.done()
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            catalog.close()

    asyncio.run(run())


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110  nobody tells when the memory is given back
        await asyncio.sleep(0.001)


@pytest.mark.parametrize(("run_on", "thread"), [("loop", "MainThread"), ("thread", "run-dear/1")])
def test_the_cheapest_ready_version_is_asked_where_its_batches_run(tmp_path: Path, run_on: str, thread: str) -> None:
    for name in ("cheap", "dear", "dearest"):
        dummy_bundle(tmp_path, name, rows=2)

    async def scenario(catalog: Catalog) -> None:
        cheap, dear, dearest = (catalog.resolve(name) for name in ("cheap", "dear", "dearest"))
        for version, row_s in ((cheap, 0.001), (dear, 0.002), (dearest, 0.003)):
            version.costs = CostModel.through(1, row_s, 8, 0.01)
        cheap.become(State.SICK, "it is told to be")
        backends = [noting(version) for version in (cheap, dear, dearest)]
        await until(lambda: len(backends[1].threads) >= 3)
        assert [bool(backend.threads) for backend in backends] == [False, True, False]
        assert {name.rpartition("_")[0] or name for name in backends[1].threads} == {thread}

    serve(tmp_path, scenario, backend="dummy", run_on=run_on)


def test_nothing_is_asked_of_a_gpu(tmp_path: Path) -> None:
    dummy_bundle(tmp_path, "gpu", rows=2)
    dummy_bundle(tmp_path, "cpu", rows=2)

    async def scenario(catalog: Catalog) -> None:
        gpu, cpu = catalog.resolve("gpu"), catalog.resolve("cpu")
        gpu.device = "cuda"
        gpu.costs, cpu.costs = CostModel.through(1, 0.001, 8, 0.01), CostModel.through(1, 0.002, 8, 0.01)
        on_gpu, on_cpu = noting(gpu), noting(cpu)
        await until(lambda: len(on_cpu.threads) >= 3)
        assert not on_gpu.threads

    serve(tmp_path, scenario, backend="dummy", run_on="loop")


@pytest.mark.parametrize("run_on", ["loop", "thread"])
@pytest.mark.parametrize(
    ("failure", "told"),
    [(RuntimeError("no memory for that"), "no memory for that"), (Panic("at line 7"), "Panic: at line 7")],
)
def test_a_failure_is_told_and_the_next_time_comes(
    tmp_path: Path, run_on: str, failure: BaseException, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    dummy_bundle(tmp_path, rows=2)

    async def scenario(catalog: Catalog) -> None:
        backend = noting(catalog.resolve("dummy"), failure=failure)
        await until(lambda: len(backend.threads) >= 3)

    serve(tmp_path, scenario, backend="dummy", run_on=run_on)
    assert [record.getMessage() for record in caplog.records if record.name == "app.thrift"] == [
        f"dummy/1 gives no memory back: {told}"
    ]


def test_while_a_shadow_has_its_batches_on_a_thread_it_is_asked_there(tmp_path: Path) -> None:
    dummy_bundle(tmp_path, rows=2)

    async def scenario(catalog: Catalog) -> None:
        version = catalog.resolve("dummy")
        assert version.batcher is not None
        with ThreadPoolExecutor(1, thread_name_prefix="shadow") as executor:
            version.batcher.executor = executor
            backend = noting(version)
            await until(lambda: len(backend.threads) >= 3)
            version.batcher.executor = None
        assert {name.rpartition("_")[0] for name in backend.threads[:3]} == {"shadow"}

    serve(tmp_path, scenario, backend="dummy", run_on="loop")


def test_who_hangs_there_goes_out_of_rotation_and_the_heap_is_trimmed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dummy_bundle(tmp_path, rows=2)
    trims: list[None] = []
    monkeypatch.setattr("app.serving.thrift.memory.trim", lambda: trims.append(None))
    monkeypatch.setattr("app.serving.thrift.PATIENCE_S", 0.01)
    released = threading.Event()

    async def scenario(catalog: Catalog) -> None:
        metrics, settings = Metrics(), Settings(hung_s=1.0)
        health = Health(catalog, settings, metrics, check_contract=lambda manifest, golden: None, clock=lambda: 0.0)
        health.begin()
        version = catalog.resolve("dummy")
        backend = noting(version, hangs=released)
        await until(lambda: bool(backend.threads))
        before = len(trims)
        await until(lambda: len(trims) > before + 3)
        for _ in range(10_000):
            if version.state is State.SICK:
                break
            health.look()
            await asyncio.sleep(0)
        assert version.state is State.SICK
        assert not backend.is_closed  # it is left to the call
        released.set()

    try:
        serve(tmp_path, scenario, backend="dummy", run_on="thread")
    finally:
        released.set()


def test_who_is_unloaded_while_it_gives_back_is_left_to_that_call(tmp_path: Path) -> None:
    dummy_bundle(tmp_path, rows=2)
    released = threading.Event()

    async def scenario(catalog: Catalog) -> None:
        version = catalog.resolve("dummy")
        backend = noting(version, hangs=released)
        await until(lambda: bool(backend.threads))
        version.release()
        assert not backend.is_closed
        released.set()

    try:
        serve(tmp_path, scenario, backend="dummy", run_on="thread")
    finally:
        released.set()


def test_a_heap_that_takes_long_is_looked_at_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 0.001, 10.0, 10.02, 50.0, 51.0])
    rests: list[float] = []

    async def sleep(seconds: float) -> None:
        rests.append(round(seconds, 6))
        if len(rests) == 4:
            raise asyncio.CancelledError

    monkeypatch.setattr("app.serving.thrift.asyncio.sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(keep_lean({}, trim_s=5.0, settle_s=60.0, clock=lambda: next(times)))
    assert rests == [5.0, 5.0, 20.0, 60.0]


def test_what_a_large_batch_has_taken_of_the_runtime_is_given_back(tmp_path: Path) -> None:
    (tmp_path / "autoencoder").symlink_to(MODELS / "autoencoder")

    async def scenario(catalog: Catalog) -> None:
        backend = catalog.resolve("autoencoder").backend
        assert backend is not None
        before = resident_bytes()
        backend.run({"image": np.zeros((256, 28, 28), np.float32)})
        peak = resident_bytes()
        assert before is not None
        assert peak is not None
        assert peak - before > 16e6
        await until(lambda: peak - (resident_bytes() or peak) > 12e6)

    serve(tmp_path, scenario)
