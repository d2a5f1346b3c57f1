"""The ``torch_export`` artifact: a graph of ATen operators with its weights as raw bytes, ``.pt2``.

The file is written as :mod:`app.bundle.pt2` leaves it: no sample inputs (torch pickles them), no guards, no stack
traces of the machine that wrote it, and the same bytes for the same network.
"""

import io
import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from app.bundle.manifest import TensorSpec
from app.bundle.pt2 import clean
from app.tensors import Tensors
from training.errors import NotExportable
from training.export.shapes import dynamic_shapes, examples, named_axes
from training.export.verify import Run

FORMAT = "torch_export"
FILE_NAME = "model.pt2"


def dump(
    served: nn.Module,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    *,
    fixed_axes: Mapping[str, int] | None = None,
) -> bytes:
    """Export a module as it is served, with a batch of any number of rows.

    Args:
        served: In inference mode; takes the inputs in order, returns the outputs in order.
        inputs: Their names, dtypes and shapes; a named axis is dynamic.
        outputs: Unused: a program returns what the module returns, without names.
        fixed_axes: Named axes that are fixed all the same, with their lengths: torch.export cannot leave the steps of
            a recurrent layer open.

    Raises:
        NotExportable: torch.export refuses the module, or finds that an axis is not dynamic; the message says why.
    """
    del outputs
    fixed_axes = fixed_axes or {}
    names = dict.fromkeys(axis for spec in inputs for axis in spec.shape if isinstance(axis, str))
    axes = {axis: torch.export.Dim(axis, min=1) for axis in names if axis not in fixed_axes}
    buffer = io.BytesIO()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # a recurrent layer keeps its weights in a list beside its parameters, which are registered all the same
            warnings.filterwarnings("ignore", message="The tensor attributes .* were assigned during export")
            program = torch.export.export(
                served,
                examples(inputs, lengths=fixed_axes),
                dynamic_shapes=dynamic_shapes(served, inputs, axes),
                strict=False,
            )
        torch.export.save(program, buffer)
        return clean(buffer.getvalue(), is_operator=lambda target: target.startswith("torch.ops.aten."))
    except Exception as exc:  # torch has many types for what it cannot export
        raise NotExportable(f"torch.export cannot export the network: {exc}") from exc


def dump_or_fix(
    served: nn.Module, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], *, longest: Mapping[str, int]
) -> tuple[bytes, dict[str, int]]:
    """Export a module with its named axes open, or, where that cannot be, fixed at their longest.

    Args:
        served: As in :func:`dump`.
        inputs: As in :func:`dump`.
        outputs: As in :func:`dump`.
        longest: The greatest length of each named axis beyond the batch.

    Returns:
        The file, and what was fixed in it, for the manifest; empty where nothing was.

    Raises:
        NotExportable: Neither can be exported.
    """
    try:
        return dump(served, inputs, outputs), {}
    except NotExportable:
        fixed = {axis: longest[axis] for axis in named_axes(inputs)}
        if not fixed:
            raise
        return dump(served, inputs, outputs, fixed_axes=fixed), fixed


def runner(
    data: bytes,
    inputs: Sequence[TensorSpec],
    output_names: Sequence[str],
    *,
    fixed_axes: Mapping[str, int] | None = None,
) -> Run:
    """Return a function that runs a file of :func:`dump`; shorter inputs are padded to the axes that are fixed."""
    module = torch.export.load(io.BytesIO(data)).module(check_guards=False)
    fixed_axes = fixed_axes or {}

    def argument(spec: TensorSpec, tensors: Tensors) -> torch.Tensor:
        tensor = torch.tensor(tensors[spec.name])
        more = [
            fixed_axes[axis] - length if isinstance(axis, str) and axis in fixed_axes else 0
            for axis, length in zip(spec.shape, tensor.shape, strict=True)
        ]
        # `pad` wants the last axis first, each with what comes before and behind it
        return nn.functional.pad(tensor, [part for missing in reversed(more) for part in (0, missing)])

    def run(tensors: Tensors) -> Tensors:
        with torch.inference_mode():
            outputs = module(*(argument(spec, tensors) for spec in inputs))
        return {name: output.numpy() for name, output in zip(output_names, outputs, strict=True)}

    return run
