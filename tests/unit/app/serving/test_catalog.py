"""A model of series in the catalog: proven, batched within its bounds, counted."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from app import backends
from app.backends import Device
from app.backends.dummy import Behavior, DummyBackend
from app.bundle.loader import Bundle, BundleRef
from app.bundle.tuning import path_of, write_tuning
from app.metrics import Metrics
from app.serving.catalog import Catalog
from app.serving.versions import State, Version
from app.settings import Settings
from app.tensors import Tensors, num_rows
from tests.support.bundles import dummy_bundle, open_folder
from tests.support.jobs import FOREVER
from tests.support.ragged import series, series_bundle, series_outputs
from tests.support.tunings import tuning_of

LENGTHS = [3, 9, 1, 20, 2, 7]


@pytest.mark.parametrize(
    ("length_buckets", "rows", "elements", "padding_elements"),
    [(True, [3, 2, 1], 9 + 18 + 20, 3 + 2 + 0), (False, [3, 1, 2], 27 + 20 + 14, 14 + 0 + 5)],
)
def test_series_of_different_lengths_are_served_and_their_padding_is_counted(
    tmp_path: Path, length_buckets: bool, rows: list[int], elements: int, padding_elements: int
) -> None:
    series_bundle(tmp_path, [4, 1, 6], max_rows=4, max_elements=30)

    async def scenario() -> None:
        metrics = Metrics()
        catalog = Catalog(
            Settings(models_dir=tmp_path, backend="dummy", run_on="loop", length_buckets=length_buckets), metrics
        )
        await catalog.load(lambda manifest, golden: None)
        version = catalog.resolve("series")
        assert version.state is State.READY
        assert version.batcher is not None
        assert isinstance(version.backend, DummyBackend)
        version.backend.rows_per_call.clear()
        requests = [series([length], start=100 * length) for length in LENGTHS]
        answers = await asyncio.gather(*(version.batcher.submit(request, deadline=FOREVER) for request in requests))
        for request, answer in zip(requests, answers, strict=True):
            expected = series_outputs(request)
            for name in expected:
                assert abs(answer.outputs[name] - expected[name]).max() <= 1e-6
        assert version.backend.rows_per_call == rows
        assert metrics.batch_elements == {("series", "1"): elements}
        assert metrics.padding_elements == {("series", "1"): padding_elements}
        rendered = metrics.render().decode()
        assert f'zto_batch_elements_total{{model="series",version="1"}} {elements:.1f}' in rendered
        assert f'zto_padding_elements_total{{model="series",version="1"}} {padding_elements:.1f}' in rendered
        assert version.costs is not None
        for batch, seconds in (("one_row", version.costs.row_s), ("full", version.costs.full_s)):
            assert f'zto_predicted_batch_seconds{{batch="{batch}",model="series",version="1"}} {seconds}' in rendered
        catalog.close()

    asyncio.run(scenario())


def test_a_model_settles_on_one_row_without_its_padding_before_it_serves(tmp_path: Path) -> None:
    series_bundle(tmp_path, [4, 1, 6], max_rows=4, max_elements=30)

    async def scenario() -> None:
        catalog = Catalog(Settings(models_dir=tmp_path, backend="dummy", run_on="loop"), Metrics())
        await catalog.load(lambda manifest, golden: None)
        version = catalog.resolve("series")
        assert isinstance(version.backend, DummyBackend)
        assert version.backend.settled_on is not None
        assert version.backend.settled_on["lengths"].tolist() == [4]
        assert {array.shape[1] for name, array in version.backend.settled_on.items() if name != "lengths"} == {4}
        catalog.close()

    asyncio.run(scenario())


class OnGpu(DummyBackend):
    """Says that it computes on a GPU."""

    device = "cuda"


def put_on_gpu(monkeypatch: pytest.MonkeyPatch, kind: type[OnGpu]) -> None:
    """Have the dummy compute on a GPU, unless it is to stay on the CPU."""
    load = backends.load

    def load_somewhere(key: str, bundle: Bundle, *, device: Device, **rest: Any) -> tuple[str, backends.Backend]:
        name, backend = load(key, bundle, device="cpu", **rest)
        return name, backend if device == "cpu" else kind(Behavior(), bundle.manifest.outputs)

    monkeypatch.setattr(backends, "load", load_somewhere)


def loaded(folder: Path, *, device: Device) -> Version:
    """Return the one version of a folder as the service loads it."""

    async def scenario() -> Version:
        catalog = Catalog(Settings(models_dir=folder, device=device), Metrics())
        await catalog.load(lambda manifest, golden: None)
        catalog.close()
        return catalog.models["dummy"].default

    return asyncio.run(scenario())


@pytest.mark.parametrize(("device", "state"), [("auto", State.READY), ("cuda", State.FAILED)])
def test_a_bundle_that_is_not_proven_on_the_gpu_is_served_on_the_cpu_unless_the_gpu_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: Device, state: State
) -> None:
    dummy_bundle(tmp_path)

    class Inexact(OnGpu):
        """A GPU that adds up in another order."""

        def run(self, inputs: Tensors) -> Tensors:
            return {name: array * (1 + 1e-3 * len(array)) for name, array in super().run(inputs).items()}

    put_on_gpu(monkeypatch, Inexact)
    version = loaded(tmp_path, device=device)
    assert version.state is state
    if state is State.READY:
        assert version.device == "cpu"
    else:
        assert "golden" in version.reason


class SmallMemory(OnGpu):
    """A GPU that has no room for a full batch."""

    def run(self, inputs: Tensors) -> Tensors:
        if num_rows(inputs) > 4:
            raise RuntimeError("CUDA error: out of memory")
        return super().run(inputs)


class Unsettled(OnGpu):
    """A GPU that is lost in the end."""

    def settle(self, row: Tensors) -> None:
        raise RuntimeError("CUDA error: out of memory")


@pytest.mark.parametrize("fault", [SmallMemory, Unsettled])
@pytest.mark.parametrize(("device", "state"), [("auto", State.READY), ("cuda", State.FAILED)])
def test_a_gpu_that_fails_in_the_warm_up_gives_way_to_the_cpu_unless_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: type[OnGpu], device: Device, state: State
) -> None:
    dummy_bundle(tmp_path, rows=4, max_rows=8)
    put_on_gpu(monkeypatch, fault)
    version = loaded(tmp_path, device=device)
    assert version.state is state
    if state is State.READY:
        assert version.device == "cpu"
    else:
        assert version.reason == "warm-up: CUDA error: out of memory"


def test_a_model_that_falls_back_to_the_cpu_is_served_as_it_was_tuned_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = dummy_bundle(tmp_path, rows=4, max_rows=8)
    bundle = open_folder(folder)
    ref = BundleRef(name="dummy", version=1, folder=folder)
    write_tuning(tuning_of(bundle, max_rows=16), path_of(ref))
    put_on_gpu(monkeypatch, Unsettled)
    version = loaded(tmp_path, device="auto")
    assert (version.state, version.device) == (State.READY, "cpu")
    assert version.plan is not None
    assert version.plan.tuning is not None
    assert version.plan.batching.max_rows == 16
