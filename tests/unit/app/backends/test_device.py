"""Where models compute, on a machine without a GPU: what is asked for by name is had or refused, never replaced."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from app import backends
from app.backends import onnx, state_dict
from app.bundle.loader import Bundle
from app.errors import BackendUnavailable, BundleError
from app.settings import Settings
from tests.support.bundles import dummy_bundle, open_folder
from tests.support.committed import LATEST, copy_as_first
from tests.support.exported import exported_bundle


def torch_sees_a_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def onnxruntime_knows_cuda() -> bool:
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


without_gpu = pytest.mark.skipif(torch_sees_a_gpu() or onnxruntime_knows_cuda(), reason="there is a GPU")


@pytest.fixture
def cnn() -> Bundle:
    return open_folder(LATEST["cnn"].folder)


@without_gpu
@pytest.mark.parametrize("key", ["onnx", "state_dict", "onnx-int8"])
@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_the_cpu_is_taken_where_it_is_all_there_is(cnn: Bundle, key: str, device: backends.Device) -> None:
    _, backend = backends.load(key, cnn, threads=1, device=device)
    assert backends.device_of(backend) == "cpu"
    backend.close()


@without_gpu
@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("onnx", "ZTO_DEVICE=cuda: the installed onnxruntime is built without CUDA: .*onnxruntime-gpu"),
        (
            "state_dict",
            r"the installed torch \S+ .*(has no CUDA|finds no GPU); install a build with CUDA",
        ),
        ("onnx-int8", "'onnx-int8' runs on the CPU, CUDA has no kernels for int8; serve 'onnx'"),
        ("auto", "built without CUDA.*; .*the installed torch"),
    ],
)
def test_a_gpu_that_is_not_there_is_refused_with_the_way_out(cnn: Bundle, key: str, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        backends.load(key, cnn, threads=1, device="cuda")


@without_gpu
@pytest.mark.parametrize("fmt", ["torchscript", "torch_export"])
def test_the_other_formats_of_torch_refuse_it_likewise(tmp_path: Path, fmt: str) -> None:
    bundle = open_folder(exported_bundle(tmp_path, "mlp", fmt))
    with pytest.raises(BackendUnavailable, match="ZTO_DEVICE=cuda: the installed torch"):
        backends.load(fmt, bundle, threads=1, allowed=("torchscript",), device="cuda")


@pytest.fixture
def gpu_that_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have torch see a GPU that no module can be moved to."""
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)


@without_gpu
@pytest.mark.usefixtures("gpu_that_takes_nothing")
@pytest.mark.parametrize("fmt", ["state_dict", "torchscript", "torch_export"])
def test_a_gpu_that_does_not_take_the_module_leaves_it_to_the_cpu_unless_it_is_asked_for(
    tmp_path: Path, cnn: Bundle, fmt: str, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = cnn if fmt == "state_dict" else open_folder(exported_bundle(tmp_path, "mlp", fmt))
    _, backend = backends.load(fmt, bundle, threads=1, allowed=("torchscript",), device="auto")
    assert backends.device_of(backend) == "cpu"
    assert "goes to the CPU, since torch cannot use the GPU for it" in caplog.text
    golden = bundle.golden(fmt)
    for name, array in backend.run(golden.inputs).items():
        assert abs(array - golden.outputs[name]).max() < 1e-3
    with pytest.raises(BackendUnavailable, match="ZTO_DEVICE=cuda: torch cannot use the GPU for the"):
        backends.load(fmt, bundle, threads=1, allowed=("torchscript",), device="cuda")


def test_a_backend_that_knows_no_devices_computes_on_the_cpu(tmp_path: Path) -> None:
    bundle = open_folder(dummy_bundle(tmp_path))
    _, backend = backends.load("dummy", bundle, threads=1, device="auto")
    assert backends.device_of(backend) == "cpu"
    with pytest.raises(BackendUnavailable, match="the dummy backend computes on the CPU: set ZTO_DEVICE"):
        backends.load("dummy", bundle, threads=1, device="cuda")


class CudaOnPaper:
    """Tells of CUDA in ONNX Runtime, whose libraries a machine without a GPU has not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import onnxruntime

        monkeypatch.setattr(
            onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
        )
        onnx._preload.cache_clear()


@without_gpu
def test_a_build_with_cuda_that_cannot_open_a_session_goes_to_the_cpu_and_says_so(
    cnn: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    CudaOnPaper(monkeypatch)
    with caplog.at_level(logging.WARNING), pytest.warns(UserWarning, match="not in available provider names"):
        backend = onnx.load(cnn, threads=1, device="auto")
    assert backend.device == "cpu"
    assert "onnx goes to the CPU, since ONNX Runtime cannot use a GPU here" in caplog.text
    assert capsys.readouterr().out == ""
    with (
        pytest.warns(UserWarning, match="not in available"),
        pytest.raises(BackendUnavailable, match="cannot use a GPU"),
    ):
        onnx.load(cnn, threads=1, device="cuda")


@without_gpu
def test_a_graph_that_nothing_can_run_is_told_as_such_and_not_as_a_missing_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.support.bundles import write_file_with_digest

    folder = copy_as_first("cnn", tmp_path)
    write_file_with_digest(folder, "model.onnx", b"garbage")
    CudaOnPaper(monkeypatch)
    with pytest.warns(UserWarning, match="not in available"), pytest.raises(BundleError, match="refuses the graph"):
        onnx.load(open_folder(folder), threads=1, device="auto")


def test_the_setting_knows_three_devices() -> None:
    read: Callable[[str], Settings] = lambda value: Settings.from_environ({"ZTO_DEVICE": value})  # noqa: E731
    assert [read(value).device for value in ("auto", "cpu", "cuda")] == ["auto", "cpu", "cuda"]
    with pytest.raises(Exception, match="ZTO_DEVICE='tpu': Input should be 'auto', 'cpu' or 'cuda'"):
        read("tpu")


def test_torch_multiplies_in_full_float32_wherever_it_may_meet_a_gpu(cnn: Bundle) -> None:
    import torch

    state_dict.load(cnn, threads=1, device="auto")
    if torch.cuda.is_available():
        assert not torch.backends.cuda.matmul.allow_tf32
        assert not torch.backends.cudnn.allow_tf32
    else:
        assert state_dict.load(cnn, threads=1, device="cpu").device == "cpu"
