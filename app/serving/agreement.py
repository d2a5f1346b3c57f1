"""When two versions of a model answer the same.

What a caller acts on decides. Of a classification that is the label: the index of the greatest of ``probabilities``.
Of all other tasks it is the numbers, each within ``|a - b| <= atol + rtol * |b|``, where b is what the serving version
says. The code of an autoencoder is left out: two networks that were trained apart write each its own.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from app.bundle.manifest import ImageReconstruction, Manifest, Tolerance
from app.tensors import Array, Tensors, num_rows

_PROBABILITIES, _CODE = "probabilities", "code"


class Compared(NamedTuple):
    """How far two versions are apart on B rows.

    Attributes:
        agree_B: Whether they answer the same, bool, shape (B,).
        difference_B: The largest difference between two numbers of a row, float64, shape (B,); outputs of different
            shapes have none.
    """

    agree_B: Array
    difference_B: Array


class Agreement:
    """Holds the answers of a shadow against those of the serving version.

    Args:
        manifest: Of the shadow; task and outputs are those of the serving version too.
        backend_name: The artifact that serves the shadow, whose golden tolerances hold where there is no other.
        tolerance: Of all outputs; None for the golden ones.

    Attributes:
        definition: What it looks at, for people.
    """

    def __init__(self, manifest: Manifest, backend_name: str, tolerance: Tolerance | None = None) -> None:
        self._tolerances: Mapping[str, Tolerance] = {}
        self._names: tuple[str, ...] = (_PROBABILITIES,)
        self._is_of_labels = hasattr(manifest.task, "labels")
        if self._is_of_labels:
            self.definition = f"the label, that is the greatest of {_PROBABILITIES!r}, is the same"
            return
        left_out = _CODE if isinstance(manifest.task, ImageReconstruction) else None
        self._names = tuple(spec.name for spec in manifest.outputs if spec.name != left_out)
        self._tolerances = {
            name: manifest.golden.tolerance_of(backend_name, name) if tolerance is None else tolerance
            for name in self._names
        }
        told = ", ".join(f"{name!r} (atol {t.atol:g}, rtol {t.rtol:g})" for name, t in self._tolerances.items())
        whose = "golden tolerances of the shadow" if tolerance is None else "tolerance of the policy"
        self.definition = f"every number lies within the {whose}: {told}"

    def compare(self, serving: Tensors, shadow: Tensors) -> Compared:
        """Compare the outputs of the same rows, as many of both."""
        rows = num_rows(serving)
        agree_B, difference_B = np.ones(rows, bool), np.zeros(rows)
        for name in self._names:
            served, shadowed = serving[name], shadow[name]
            if served.shape != shadowed.shape:  # along an axis that the manifest leaves open
                agree_B[:] = False
                continue
            served_BN = served.reshape(rows, -1).astype(np.float64)
            apart_BN = np.abs(shadowed.reshape(rows, -1).astype(np.float64) - served_BN)
            difference_B = np.maximum(difference_B, apart_BN.max(axis=1, initial=0.0))
            if self._is_of_labels:
                agree_B &= served.argmax(axis=1) == shadowed.argmax(axis=1)
            else:
                allows = self._tolerances[name]
                agree_B &= (apart_BN <= allows.atol + allows.rtol * np.abs(served_BN)).all(axis=1)
        return Compared(agree_B, difference_B)
