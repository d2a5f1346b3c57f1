"""Rows of different lengths: one input that is filled up with zeros, and beside it their ``lengths``."""

from collections.abc import Sequence

import numpy as np

from app.bundle.manifest import DType, Manifest
from app.errors import BundleError
from app.tensors import LENGTHS, Array, Tensors, concat_padded


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


def pad(name: str, rows: Sequence[Array]) -> Tensors:
    """Return rows, each of shape (length, ...), as one padded array of the given name, and their lengths, int64."""
    return concat_padded([{name: row[None], LENGTHS: np.array([len(row)], np.int64)} for row in rows])
