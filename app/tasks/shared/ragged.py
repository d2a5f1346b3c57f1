"""Rows of different lengths: one input that is filled up with zeros, and beside it their ``lengths``."""

import math
from collections.abc import Sequence

import numpy as np

from app.bundle.manifest import DType, Manifest
from app.errors import BundleError, Fault, InvalidInput
from app.tasks import Limits
from app.tasks.decoding.named import InputRule, NamedRows
from app.tensors import LENGTHS, Array, Tensors, concat_padded

# of all rows of one request together, as they are padded; a single row may have more where its manifest says so
MAX_NUMBERS_TOGETHER = 2**22
# likewise, in its JSON: an array costs the parser far more than a number
MAX_ARRAYS_TOGETHER = 2**18


def expect_ragged_input(manifest: Manifest, name: str, dtype: DType, *axes: int) -> None:
    """Hold the inputs of a manifest against what a task of ragged rows feeds.

    Args:
        manifest: Whose inputs.
        name: Of the input beside the lengths.
        dtype: Of that input.
        axes: Lengths of its axes behind the batch and the padded one.

    Raises:
        BundleError: They are others.
    """
    specs = {spec.name: spec for spec in manifest.inputs}
    # the manifest itself holds `lengths` to int64 of shape (batch,), and the second axis beside it to a name
    if set(specs) != {name, LENGTHS} or (specs[name].dtype, specs[name].shape[2:]) != (dtype, axes):
        shape = ", ".join(("batch", name, *map(str, axes)))
        raise BundleError(f"{manifest.task.kind} takes the inputs {name!r}, {dtype} ({shape}), and {LENGTHS!r}")


def ragged_rows(manifest: Manifest, *, low: float, high: float, lengths: range, limits: Limits) -> NamedRows:
    """Return the reader of the named tensors of a ragged input and its ``lengths``.

    Args:
        manifest: Whose inputs; those that :func:`expect_ragged_input` has accepted.
        low: Least number that is accepted.
        high: Greatest number that is accepted.
        lengths: That a row may have.
        limits: What one request may hold.
    """
    rules = [
        InputRule(spec=spec, low=lengths.start, high=lengths.stop - 1)
        if spec.name == LENGTHS
        else InputRule(spec=spec, low=low, high=high, lengths={str(spec.shape[1]): lengths})
        for spec in manifest.inputs
    ]
    longest = max(
        (lengths.stop - 1) * math.prod(axis for axis in spec.shape[2:] if isinstance(axis, int))
        for spec in manifest.inputs
        if spec.name != LENGTHS
    )
    # `lengths` themselves are numbers too
    most = max(MAX_NUMBERS_TOGETHER, longest) + limits.max_instances
    return NamedRows(rules, max_rows=limits.max_instances, max_numbers=most)


def pad(name: str, rows: Sequence[Array]) -> Tensors:
    """Return rows, each of shape (length, ...), as one padded array of the given name, and their lengths, int64.

    Raises:
        InvalidInput: One long row among many short ones would take far more memory than the body that brought them.
    """
    if len(rows) > 1:
        expect_affordable(len(rows) * max(row.size for row in rows), MAX_NUMBERS_TOGETHER)
    return concat_padded([{name: row[None], LENGTHS: np.array([len(row)], np.int64)} for row in rows])


def expect_affordable(numbers: int, most: int) -> None:
    """Refuse rows that have too many numbers once they are padded.

    Raises:
        InvalidInput: They have more than the most.
    """
    if numbers > most:
        message = (
            f"the rows of one request, padded to the longest, may have {most} numbers together, not {numbers}; "
            "send several requests"
        )
        raise InvalidInput(Fault(pointer="#/instances", code="too_many_numbers", message=message))
