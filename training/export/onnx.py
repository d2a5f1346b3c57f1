"""The ``onnx`` artifact: one graph with scaling and softmax inside, and a batch axis of any length."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import onnx
import torch
from torch import nn

from app.bundle.manifest import TensorSpec

FORMAT = "onnx"
FILE_NAME = "model.onnx"

# The one that torch's exporter translates to; a newer one would be reached through a converter, for nothing.
OPSET = 20

_DTYPES = {"float32": torch.float32, "int64": torch.int64}


def dump(served: nn.Module, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> bytes:
    """Export a module as it is served.

    Args:
        served: In inference mode; takes the inputs in order, returns the outputs in order.
        inputs: Their names, dtypes and shapes; a named axis is dynamic.
        outputs: Their names.

    Returns:
        A checked ONNX model with its weights inside, and without traces of the machine that wrote it.

    Raises:
        onnx.checker.ValidationError: The exporter wrote something that is no valid model.
    """
    # two rows, as torch.export takes an axis of one row for a fixed one
    examples = tuple(
        torch.zeros([2 if isinstance(axis, str) else axis for axis in spec.shape], dtype=_DTYPES[spec.dtype])
        for spec in inputs
    )
    dynamic = tuple({i: axis for i, axis in enumerate(spec.shape) if isinstance(axis, str)} for spec in inputs)
    with _quiet_exporter():
        program = torch.onnx.export(
            served,
            examples,
            input_names=[spec.name for spec in inputs],
            output_names=[spec.name for spec in outputs],
            opset_version=OPSET,
            # one level more: the served module takes its inputs as *inputs
            dynamic_shapes=(dynamic,),
            external_data=False,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    strip_traces(model)
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def strip_traces(model: onnx.ModelProto) -> None:
    """Remove what the exporter noted of its own run: stack traces, with file paths, module names and doc strings."""
    graph = model.graph
    del model.metadata_props[:]
    model.doc_string = ""
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence what the exporter says about torchvision and about its own deprecated calls."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logger.setLevel(level)
