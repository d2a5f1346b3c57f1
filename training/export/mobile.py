"""The ``onnx-mobile`` artifact: the graph in ONNX Runtime's own format, which its builds for phones can read.

Such builds read no ONNX, and hold only the operators that they were built with; :func:`required_operators` lists them
in the file that the build takes (``--include_ops_by_config``). The full build reads the format too, so the service
proves and serves it like any other artifact.
"""

import logging
import tempfile
import warnings
from pathlib import Path

import onnxruntime

from training.export import onnx
from training.export.verify import onnx_runner

FORMAT = onnx.FORMAT
VARIANT = "mobile"
FILE_NAME = "model.ort"
OPERATORS_FILE_NAME = "model.required_operators.config"

runner = onnx_runner


def dump(graph: bytes) -> bytes:
    """Convert an ONNX model.

    The graph is optimized on the way, as far as that holds on every processor: layouts that one kind of processor
    likes are left out. ONNX Runtime writes its tables in the order of their addresses, so two files of one graph differ
    in a few hundred bytes, and not in what they compute.
    """
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / FILE_NAME
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(target)
        options.add_session_config_entry("session.save_model_format", "ORT")
        onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        return target.read_bytes()


def required_operators(model: bytes) -> bytes:
    """List the operators of a file of :func:`dump`, as a build of ONNX Runtime for it is told them."""
    root, handlers = logging.getLogger(), logging.getLogger().handlers[:]
    # late, and undone: the import gives the root logger a handler, which is not its to give
    from onnxruntime.tools import ort_format_model

    root.handlers[:] = handlers
    logging.getLogger("ort_format_model.utils").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves the file open
        source, target = Path(folder) / FILE_NAME, Path(folder) / OPERATORS_FILE_NAME
        source.write_bytes(model)
        ort_format_model.create_config_from_models([source], target, enable_type_reduction=False)
        lines = [line for line in target.read_text().splitlines() if not line.startswith("#")]
    return ("# Operators that a build of ONNX Runtime needs for this model\n" + "\n".join(lines) + "\n").encode()
