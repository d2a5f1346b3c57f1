"""ONNX Runtime, on the CPU or on a GPU by CUDA."""

import contextlib
import io
import logging
import os
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from app.backends import Device
from app.bundle.loader import Bundle
from app.bundle.manifest import Artifact
from app.errors import BackendUnavailable, BundleError
from app.tensors import Tensors

if TYPE_CHECKING:
    import onnxruntime

logger = logging.getLogger("app.backends")

DEVICES = ("cpu", "cuda")

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_INSTALL = (
    "pip uninstall onnxruntime, then pip install 'onnxruntime-gpu[cuda,cudnn]' (both are one package under two names), "
    "and a driver for the GPU; or set ZTO_DEVICE=auto or cpu"
)
_CUDA_OPTIONS = {
    "use_tf32": "0",  # TF32 keeps 10 bits of each factor, and the golden rows would tell
    # the default tries every algorithm for every new shape of a batch, which takes seconds while somebody waits
    "cudnn_conv_algo_search": "HEURISTIC",
}

_NO_FOLDER = "/dev/null/external-data-is-not-served"

# of address space, for batches: pages that none has touched cost nothing. Regions of 2 MiB, doubled, as by default,
# would each strand a rest that the next tensor does not fit in
_REGION_BYTES = 32 * 2**20

_ELEMENT_TYPES = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(double)": np.dtype(np.float64),
    "tensor(int64)": np.dtype(np.int64),
    "tensor(int32)": np.dtype(np.int32),
    "tensor(uint8)": np.dtype(np.uint8),
    "tensor(bool)": np.dtype(np.bool_),
}


class OnnxBackend:
    """One inference session.

    Attributes:
        device: Where it computes; operators that CUDA has no kernel for run on the CPU all the same.
    """

    def __init__(self, session: "onnxruntime.InferenceSession", output_names: list[str]) -> None:
        self.device: Literal["cpu", "cuda"] = "cuda" if _CUDA in session.get_providers() else "cpu"
        self._session = session
        self._output_names = output_names

    def run(self, inputs: Tensors) -> Tensors:
        """Run the graph; see :class:`app.backends.Backend`."""
        return dict(zip(self._output_names, self._session.run(self._output_names, inputs), strict=True))

    def settle(self, row: Tensors) -> None:
        """Run one row, and give back the regions of the arena that are then free; see :class:`app.backends.Backend`."""
        import onnxruntime

        options = onnxruntime.RunOptions()
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self._session.run(self._output_names, row, options)

    def close(self) -> None:
        """Drop the session and its weights; the arena is the process's, and serves its other sessions."""
        del self._session


def load(bundle: Bundle, *, key: str = "onnx", threads: int, device: Device = "auto") -> OnnxBackend:
    """Open a session on an ``onnx`` artifact of the bundle; see :class:`app.backends.BackendModule`.

    An int8 artifact runs on the CPU: CUDA has no kernels for what it is made of, and its operators would run on the CPU
    between copies. Files in ONNX Runtime's own format, which mobile builds read, are told apart by their first bytes.
    """
    # its official wheels report to their maker unless they are told not to before the import (its Privacy.md)
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as exc:
        raise BackendUnavailable("the onnx backend needs onnxruntime: pip install zero-to-one") from exc

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1  # ONNX Runtime parallelises inside an operator
    options.enable_mem_pattern = False  # it plans memory for shapes that stay the same, and costs 5 MB where rows vary
    _share_arena()
    options.add_session_config_entry("session.use_env_allocators", "1")
    # what it says of a failure is raised as well; its own lines go around the log, and wait for whoever reads it
    options.log_severity_level = 4
    # threads that spin while they wait take the core from the event loop
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # weights outside the file would come from beside the working directory, and no digest speaks for them
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", _NO_FOLDER)
    artifact = bundle.artifact(key)
    data = bundle.read(artifact)
    session = _open_on_cuda(data, options, artifact, wanted=device) if _may_take_cuda(artifact, device) else None
    if session is None:
        try:
            session = onnxruntime.InferenceSession(data, options, providers=[_CPU])
        except Exception as exc:  # onnxruntime raises a dozen types of its own, all directly below Exception
            raise BundleError(f"ONNX Runtime refuses the graph: {exc}") from exc
    # it keeps the file for a second try on other providers, of which there is none here: a copy of all weights
    session.disable_fallback()
    session._model_bytes = None
    _expect_signature(bundle, session)
    return OnnxBackend(session, [spec.name for spec in bundle.manifest.outputs])


def _may_take_cuda(artifact: Artifact, wanted: Device) -> bool:
    """Tell whether a session on the GPU is to be tried.

    Raises:
        BackendUnavailable: It is asked for, and this artifact or this onnxruntime has none.
    """
    import onnxruntime

    if wanted == "cpu":
        return False
    if (artifact.variant or "").startswith("int8"):
        if wanted == "cuda":
            raise BackendUnavailable(
                f"ZTO_DEVICE=cuda: the artifact {artifact.key!r} runs on the CPU, CUDA has no kernels for int8; serve "
                f"{artifact.format!r}, or set ZTO_DEVICE=auto or cpu"
            )
        return False
    if _CUDA in onnxruntime.get_available_providers():
        return True
    if wanted == "cuda":
        raise BackendUnavailable(f"ZTO_DEVICE=cuda: the installed onnxruntime is built without CUDA: {_INSTALL}")
    return False


def _open_on_cuda(
    data: bytes, options: "onnxruntime.SessionOptions", artifact: Artifact, *, wanted: Device
) -> "onnxruntime.InferenceSession | None":
    """Return a session that has CUDA; under ``auto`` None where none can be had, so that the CPU has its turn.

    ONNX Runtime itself goes on without a provider that it cannot load, and says so on the standard output.

    Raises:
        BackendUnavailable: It is asked for, and cannot be had.
    """
    import onnxruntime

    said = _preload()
    providers: list[Any] = [(_CUDA, _CUDA_OPTIONS), _CPU]
    try:
        session = onnxruntime.InferenceSession(data, options, providers=providers, enable_fallback=0)
        if _CUDA in session.get_providers():
            return session
        reason = said or "its libraries of CUDA or cuDNN are missing"
    except Exception as exc:  # no device, a driver that is too old; or the graph, which the CPU will refuse too
        reason = str(exc)
    if wanted == "cuda":
        raise BackendUnavailable(f"ZTO_DEVICE=cuda: ONNX Runtime cannot use a GPU here ({reason}): {_INSTALL}")
    logger.warning("%s goes to the CPU, since ONNX Runtime cannot use a GPU here: %s", artifact.key, reason)
    return None


@cache
def _preload() -> str:
    """Load the libraries of CUDA and cuDNN from where pip installs them; return what ONNX Runtime says of it."""
    import onnxruntime

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        onnxruntime.preload_dlls()
    return said.getvalue().strip()


@cache
def _share_arena() -> None:
    """Give this process one arena for all sessions: what one model's batch has freed serves the next model's.

    An arena keeps the memory of its largest batch, and eight models of their own would keep eight.
    """
    import onnxruntime as ort

    info = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(info, ort.OrtArenaCfg({"initial_growth_chunk_size_bytes": _REGION_BYTES}))


def _expect_signature(bundle: Bundle, session: "onnxruntime.InferenceSession") -> None:
    for kind, specs, nodes in (
        ("input", bundle.manifest.inputs, session.get_inputs()),
        ("output", bundle.manifest.outputs, session.get_outputs()),
    ):
        graph = {node.name: _ELEMENT_TYPES.get(node.type) for node in nodes}
        for spec in specs:
            if graph.get(spec.name) != spec.dtype:  # not np.dtype(...): NumPy holds None equal to float64
                have = ", ".join(f"{node.name} {node.type}" for node in nodes)
                raise BundleError(f"the graph has no {kind} {spec.name!r} of {spec.dtype}; it has: {have}")
        if kind == "input" and (unfed := sorted(set(graph) - {spec.name for spec in specs})):
            raise BundleError(f"the graph wants inputs that the manifest does not name: {unfed}")
