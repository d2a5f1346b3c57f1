"""Every committed bundle on a GPU, held against its golden rows and against the CPU.

Needs the repository, NumPy, pydantic, Pillow and pytest, and of the runtimes those that are to be held: PyTorch with
safetensors, onnxruntime-gpu. On a machine that has little else::

    python -m pytest tests/integration/test_cuda.py --noconftest -rA
"""

import asyncio
import importlib.util
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app import backends
from app.backends import Backend, Device
from app.bundle.loader import Bundle, find_bundles, open_bundle
from app.errors import BackendUnavailable, BundleNotProven
from app.serving.proof import full_batch, is_well, promised, prove

# cuDNN takes other algorithms for a row alone than for a batch, and the reconstructions differ by 3e-5
UNPROVEN = {("autoencoder", "onnx")}
MODELS = Path(__file__).parents[2] / "models"
BUNDLES = [open_bundle(ref) for ref in find_bundles(MODELS)]


def has(*modules: str) -> bool:
    return all(importlib.util.find_spec(module) is not None for module in modules)


def torch_has_cuda() -> bool:
    if not has("torch", "safetensors"):
        return False
    import torch

    return torch.cuda.is_available()


def onnxruntime_has_cuda() -> bool:
    """Tell whether a session can be had on a GPU, by opening one."""
    if not has("onnxruntime"):
        return False
    try:
        open_backend(BUNDLES[0], "onnx", "cuda").close()
    except BackendUnavailable:
        return False
    return True


def open_backend(bundle: Bundle, key: str, device: Device) -> Backend:
    return backends.load(key, bundle, threads=1, device=device)[1]


# where the system shows no GPU, the runtimes need not be imported to say so
HAS_GPU = any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists()
HAS_CUDA = {"state_dict": HAS_GPU and torch_has_cuda(), "onnx": HAS_GPU and onnxruntime_has_cuda()}
RUNTIMES = [
    pytest.param(key, marks=pytest.mark.skipif(not can, reason=f"{key} cannot use a GPU here"))
    for key, can in HAS_CUDA.items()
]
pytestmark = [
    pytest.mark.needs_cuda,
    pytest.mark.skipif(not any(HAS_CUDA.values()), reason="no runtime here can use a GPU"),
]


def cases() -> list[Any]:
    return list(_cases())


def _cases() -> Iterator[Any]:
    for bundle in BUNDLES:
        for key, can in HAS_CUDA.items():
            if bundle.manifest.artifact(key) is not None:
                skip = pytest.mark.skipif(not can, reason=f"{key} cannot use a GPU here")
                yield pytest.param(bundle, key, id=f"{bundle.manifest.name}-{key}", marks=skip)


@pytest.mark.parametrize(("bundle", "key"), cases())
def test_a_committed_bundle_is_proven_on_the_gpu(bundle: Bundle, key: str) -> None:
    backend = open_backend(bundle, key, "cuda")
    assert backends.device_of(backend) == "cuda"
    run, golden = promised(backend.run, bundle.manifest), bundle.golden(key)
    if (bundle.manifest.name, key) in UNPROVEN:
        with pytest.raises(BundleNotProven, match="alone against the same in a batch"):
            prove(run, bundle.manifest, golden, key)
    else:
        prove(run, bundle.manifest, golden, key)
        assert is_well(run, bundle.manifest, golden, key)
    backend.close()


@pytest.mark.parametrize(("bundle", "key"), cases())
def test_the_gpu_answers_as_the_cpu_does(bundle: Bundle, key: str) -> None:
    on_gpu, on_cpu = open_backend(bundle, key, "cuda"), open_backend(bundle, key, "cpu")
    assert (backends.device_of(on_gpu), backends.device_of(on_cpu)) == ("cuda", "cpu")
    golden = bundle.golden(key)
    batch = full_batch(golden.inputs, bundle.manifest.batching)
    found, expected = on_gpu.run(batch), on_cpu.run(batch)
    assert found.keys() == expected.keys()
    for name, array in found.items():
        tolerance = bundle.manifest.golden.tolerance_of(key, name)
        np.testing.assert_allclose(array, expected[name], rtol=tolerance.rtol, atol=tolerance.atol)
        assert array.dtype == expected[name].dtype
        array[...] = 0  # the caller's own
    on_gpu.close()
    on_cpu.close()


@pytest.mark.parametrize(("bundle", "key"), cases())
def test_by_itself_a_model_takes_the_gpu(bundle: Bundle, key: str) -> None:
    backend = open_backend(bundle, key, "auto")
    assert backends.device_of(backend) == "cuda"
    backend.close()


@pytest.mark.parametrize(("bundle", "key"), cases())
def test_a_full_batch_is_timed_on_both(bundle: Bundle, key: str, record_property: Any) -> None:
    """No bar: the figures are for whoever reads them (``-rA`` prints them)."""
    lines: list[str] = []
    for device in ("cpu", "cuda"):
        backend = open_backend(bundle, key, device)  # type: ignore[arg-type]
        for rows in (1, bundle.manifest.batching.max_rows, 1024):
            golden = bundle.golden(key).inputs
            batching = bundle.manifest.batching.model_copy(update={"max_rows": rows, "max_elements": None})
            batch = full_batch(golden, batching)
            seconds: list[float] = []
            for _ in range(8):
                started_at = time.perf_counter()
                backend.run(batch)
                seconds.append(time.perf_counter() - started_at)
            lines.append(f"{device} {rows} rows {statistics.median(seconds[2:]) * 1e3:.3f} ms")
        backend.close()
    sys.stdout.write(f"{bundle.manifest.name} {key}: {'; '.join(lines)}\n")
    record_property("timings", lines)


@pytest.mark.skipif(not HAS_CUDA["onnx"], reason="onnxruntime cannot use a GPU here")
def test_int8_runs_on_the_cpu_and_says_so_where_a_gpu_is_asked_for() -> None:
    bundle = next(bundle for bundle in BUNDLES if bundle.manifest.artifact("onnx-int8") is not None)
    backend = open_backend(bundle, "onnx-int8", "auto")
    assert backends.device_of(backend) == "cpu"
    backend.close()
    with pytest.raises(BackendUnavailable, match="CUDA has no kernels for int8"):
        open_backend(bundle, "onnx-int8", "cuda")


@pytest.mark.skipif(not has("prometheus_client"), reason="the metrics need prometheus-client")
@pytest.mark.parametrize("key", RUNTIMES)
def test_the_catalog_serves_all_bundles_on_the_gpu(key: str) -> None:
    from app.metrics import Metrics
    from app.serving.catalog import Catalog
    from app.serving.versions import State
    from app.settings import Settings
    from app.tensors import take, trim

    async def scenario() -> None:
        settings = Settings(models_dir=MODELS, device="auto", backend=key, tuning=False)
        catalog = Catalog(settings, Metrics())
        await catalog.load(lambda manifest, golden: None)
        for version in catalog.versions():
            assert version.state is State.READY, version.reason
            is_proven = (version.ref.name, key) not in UNPROVEN
            assert version.device == ("cuda" if is_proven else "cpu")
            assert version.runs_on == "thread" or not is_proven
            assert version.bundle is not None
            assert version.batcher is not None
            golden = version.bundle.golden(key)
            deadline = time.monotonic() + 60
            answers = await asyncio.gather(
                *(
                    version.batcher.submit(trim(take(golden.inputs, row, row + 1)), deadline=deadline)
                    for row in range(len(golden))
                )
            )
            for name, outputs in golden.outputs.items():
                tolerance = version.bundle.manifest.golden.tolerance_of(key, name)
                found = np.concatenate([answer.outputs[name] for answer in answers])
                np.testing.assert_allclose(found, outputs, rtol=tolerance.rtol, atol=tolerance.atol)
        catalog.close()

    asyncio.run(scenario())


@pytest.mark.skipif(not has("orjson", "simdjson", "tokenizers"), reason="the tasks need orjson, pysimdjson, tokenizers")
@pytest.mark.parametrize("key", RUNTIMES)
def test_a_model_is_tuned_on_the_gpu(key: str) -> None:
    from app.settings import Settings
    from app.tune.candidates import Bounds
    from app.tune.measure import Bench
    from app.tune.search import Search

    bundle = next(bundle for bundle in BUNDLES if bundle.manifest.name == "cnn")
    bench = Bench(bundle, Settings(device="cuda", backend=key), clients=256)
    found = asyncio.run(
        Search(bench, Bounds(clients=256), time_budget_s=20, tell=lambda line: None).run(
            bundle.manifest, [key], threads=1
        )
    )
    assert bench.device_of(found.choice) == "cuda"
    assert found.candidates
    bench.close()
