"""What tracing and exporting need of the tensors that go in: examples of them, and which of their axes may vary.

Shape suffixes: B rows of the batch, T steps.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from app.bundle.manifest import TensorSpec
from app.tensors import LENGTHS

# more than one: torch.export takes an axis of one for a fixed one
NUM_ROWS = 2
NUM_STEPS = 3

_DTYPES = {
    "bool": torch.bool,
    "float32": torch.float32,
    "float64": torch.float64,
    "int32": torch.int32,
    "int64": torch.int64,
    "uint8": torch.uint8,
}


def named_axes(inputs: Sequence[TensorSpec]) -> tuple[str, ...]:
    """Return the names of the dynamic axes beyond the batch, in their order."""
    axes = [axis for spec in inputs for axis in spec.shape[1:] if isinstance(axis, str)]
    return tuple(dict.fromkeys(axes))


def examples(
    inputs: Sequence[TensorSpec], *, rows: int = NUM_ROWS, lengths: Mapping[str, int] | None = None
) -> tuple[Tensor, ...]:
    """Return tensors of zeros as the inputs say, whose rows are all as long as they can be.

    Args:
        inputs: Names, dtypes and shapes.
        rows: Of the batch.
        lengths: Of the named axes; what is not among them is of ``NUM_STEPS``.
    """
    lengths = lengths or {}

    def size(axis: int | str) -> int:
        return lengths.get(axis, NUM_STEPS) if isinstance(axis, str) else axis

    steps = next((size(axis) for axis in named_axes(inputs)), NUM_STEPS)
    return tuple(
        torch.full((rows, *map(size, spec.shape[1:])), steps if spec.name == LENGTHS else 0, dtype=_DTYPES[spec.dtype])
        for spec in inputs
    )


def dynamic_shapes(served: nn.Module, inputs: Sequence[TensorSpec], axes: Mapping[str, object]) -> tuple[Any, ...]:
    """Return what `torch.export.export` is told of the axes that may vary.

    Args:
        served: Tells, by its signature, whether it takes the inputs one by one or as ``*inputs``.
        inputs: A named axis is dynamic.
        axes: What stands for each named axis; one that is missing is fixed.
    """
    per_input = tuple(
        {i: axes[axis] for i, axis in enumerate(spec.shape) if isinstance(axis, str) and axis in axes}
        for spec in inputs
    )
    parameters = inspect.signature(served.forward).parameters.values()
    is_variadic = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters)
    return (per_input,) if is_variadic else per_input
