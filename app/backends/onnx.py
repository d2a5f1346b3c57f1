"""ONNX Runtime."""

import os
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from app.bundle.loader import Bundle
from app.errors import BackendUnavailable, BundleError
from app.tensors import Tensors

if TYPE_CHECKING:
    import onnxruntime

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
    """One inference session."""

    def __init__(self, session: "onnxruntime.InferenceSession", output_names: list[str]) -> None:
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
        """Drop the session, and with it the arena."""
        del self._session


def load(bundle: Bundle, *, key: str = "onnx", threads: int) -> OnnxBackend:
    """Open a session on an ``onnx`` artifact of the bundle; see :class:`app.backends.BackendModule`.

    Files in ONNX Runtime's own format, which mobile builds read, are told apart by their first bytes.
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
    options.log_severity_level = 3  # its warnings speak to whoever exports the graph
    # threads that spin while they wait take the core from the event loop
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # weights outside the file would come from beside the working directory, and no digest speaks for them
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", _NO_FOLDER)
    data = bundle.read(bundle.artifact(key))
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # onnxruntime raises a dozen types of its own, all directly below Exception
        raise BundleError(f"ONNX Runtime refuses the graph: {exc}") from exc
    # it keeps the file for a second try on other providers, of which there is none here: a copy of all weights
    session.disable_fallback()
    session._model_bytes = None
    _expect_signature(bundle, session)
    return OnnxBackend(session, [spec.name for spec in bundle.manifest.outputs])


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
