"""The ``onnx`` artifact: one graph with scaling and softmax inside, and named axes of any length."""

import inspect
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import onnx
import torch
from onnxscript.optimizer import optimize
from torch import nn

from app.bundle.manifest import TensorSpec

FORMAT = "onnx"
FILE_NAME = "model.onnx"

# The one that torch's exporter translates to; a newer one would be reached through a converter, for nothing.
OPSET = 20

# Largest tensor that is computed while exporting, in numbers.
_FOLDED_SIZE = 2**24

_RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")
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
    examples = _examples(inputs)
    dynamic = tuple({i: axis for i, axis in enumerate(spec.shape) if isinstance(axis, str)} for spec in inputs)
    with _quiet_exporter(), _own_recurrent_operators():
        program = torch.onnx.export(
            served,
            examples,
            input_names=[spec.name for spec in inputs],
            output_names=[spec.name for spec in outputs],
            opset_version=OPSET,
            # one level more where the served module takes its inputs as *inputs
            dynamic_shapes=(dynamic,) if _takes_any_number(served) else dynamic,
            external_data=False,
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        # weights that are cut and joined again are written as they end up: the exporter itself stops at small ones
        optimize(program.model, input_size_limit=_FOLDED_SIZE, output_size_limit=_FOLDED_SIZE)
    model: onnx.ModelProto = program.model_proto
    strip_traces(model)
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _examples(inputs: Sequence[TensorSpec]) -> tuple[torch.Tensor, ...]:
    """Return zeros of the shapes of the inputs, whose named axes each have a length of their own.

    They start at 2, as torch.export takes an axis of length 1 for a fixed one; and it may take two axes of the same
    length for the same.
    """
    names = dict.fromkeys(axis for spec in inputs for axis in spec.shape if isinstance(axis, str))
    lengths = {name: length for length, name in enumerate(names, start=2)}
    return tuple(
        torch.zeros(
            [lengths[axis] if isinstance(axis, str) else axis for axis in spec.shape], dtype=_DTYPES[spec.dtype]
        )
        for spec in inputs
    )


def _takes_any_number(served: nn.Module) -> bool:
    parameters = inspect.signature(served.forward).parameters.values()
    return any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters)


def strip_traces(model: onnx.ModelProto) -> None:
    """Remove what the exporter noted of its own run: stack traces, with file paths, module names and doc strings."""
    graph = model.graph
    del model.metadata_props[:]
    model.doc_string = ""
    parts: list[Any] = [graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer]
    for part in parts:
        del part.metadata_props[:]
        part.doc_string = ""


@contextmanager
def _own_recurrent_operators() -> Iterator[None]:
    """Let the exporter have its own way with recurrent layers, and nobody else.

    PyTorch keeps with each operator what it once chose to run for it. After `torch.export` of a recurrent layer that is
    a loop over the steps, and the exporter, which replaces the operator, would not be asked any more.
    """
    _forget_recurrent_operators()
    try:
        yield
    finally:
        _forget_recurrent_operators()


def _forget_recurrent_operators() -> None:
    for name in _RECURRENT:
        packet = getattr(torch.ops.aten, name)
        for overload in packet.overloads():
            getattr(packet, overload)._dispatch_cache.clear()


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence what the exporter says about torchvision, its own deprecated calls, and inputs that share an axis."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            # it takes the name from the first of them, which is the same name
            warnings.filterwarnings("ignore", message="# The axis name", category=UserWarning)
            yield
    finally:
        logger.setLevel(level)
