"""What a batch costs: known before the first request, and corrected by every batch that runs.

The cost is a line, a call's own seconds and those of each unit: of a row, or of an element (rows times padded length)
where rows have ``lengths``. The line comes from what the trainer measured, moved to what the warm-up measures here; how
a batch of about its size has compared with the line since, is a factor on it.
"""

from collections.abc import Callable, Mapping

import numpy as np

from app.bundle.manifest import Manifest
from app.serving.proof import Run, fastest_s, full_batch
from app.tensors import LENGTHS, Tensors, num_rows, take, trim

# how far a batch moves its factor, and the most that a single one counts for: ten stalls in a row are believed, not one
_WEIGHT = 0.1
_MOST = 2.0


class CostModel:
    """Predicts the seconds of a batch.

    Args:
        fixed_s: Seconds of a call, whatever it holds.
        unit_s: Seconds of each unit.
        row_units: Of one row, as rows are: 1, or a usual length.
        full_units: Of a full batch.
    """

    __slots__ = ("_factors", "_fixed_s", "_overall", "_unit_s", "full_units", "row_units")

    def __init__(self, fixed_s: float, unit_s: float, *, row_units: int = 1, full_units: int = 1) -> None:
        self._fixed_s = fixed_s
        self._unit_s = unit_s
        self.row_units = row_units
        self.full_units = full_units
        self._overall = 1.0
        # by the binary digits of the units: batches of a size are as fast as their like, which no line tells
        self._factors: dict[int, float] = {}

    @classmethod
    def through(cls, row_units: int, row_s: float, full_units: int, full_s: float) -> "CostModel":
        """Return the line through the seconds of one row and of a full batch."""
        unit_s = max(0.0, full_s - row_s) / max(1, full_units - row_units)
        fixed_s = full_s - unit_s * full_units
        if fixed_s < 0:  # many cost more than as many times one, as where attention grows with the square
            fixed_s, unit_s = 0.0, full_s / full_units
        model = cls(fixed_s, unit_s, row_units=row_units, full_units=full_units)
        if row_s > 0 and full_s > 0:
            model._factors[row_units.bit_length()] = row_s / model.seconds(row_units)
            model._factors[full_units.bit_length()] = 1.0
        return model

    @property
    def row_s(self) -> float:
        """Seconds of one row alone."""
        return self.seconds(self.row_units)

    @property
    def full_s(self) -> float:
        """Seconds of a full batch."""
        return self.seconds(self.full_units)

    def seconds(self, units: float) -> float:
        """Return the seconds of a batch."""
        factor = self._factors.get(int(units).bit_length(), self._overall)
        return (self._fixed_s + self._unit_s * units) * factor

    def observe(self, units: int, seconds: float) -> None:
        """Correct the factor of batches of this size by one that ran; one outlier moves it by a tenth at most."""
        predicted_s = self.seconds(units)
        if predicted_s <= 0:  # nothing is known yet
            self._unit_s, self._overall = seconds / units, 1.0
            return
        step = _WEIGHT * (min(max(seconds / predicted_s, 1 / _MOST), _MOST) - 1)
        size = units.bit_length()
        self._factors[size] = self._factors.get(size, self._overall) * (1 + step)
        self._overall *= 1 + step


def learn(
    run: Run, inputs: Tensors, manifest: Manifest, key: str, *, clock: Callable[[], float]
) -> tuple[CostModel, float]:
    """Warm a model up, and return what its batches will cost.

    Args:
        run: Calls the backend.
        inputs: Rows to run, those of the golden file.
        manifest: Holds the bounds of a batch, and what the trainer measured.
        key: Of the artifact that the backend has loaded.
        clock: Monotonic seconds.

    Returns:
        The model, and the seconds of the fastest full batch.
    """
    full = full_batch(inputs, manifest.batching)
    full_s = fastest_s(run, full, clock=clock)
    if LENGTHS in inputs:  # how long the rows were that the trainer measured, nobody has noted
        lengths_B = inputs[LENGTHS]
        middle = int(np.argsort(lengths_B, kind="stable")[len(lengths_B) // 2])
        row = trim(take(inputs, middle, middle + 1))
        longest = max(1, int(full[LENGTHS].max()))
        units = max(1, int(lengths_B[middle])), num_rows(full) * longest
        return CostModel.through(units[0], fastest_s(run, row, clock=clock), units[1], full_s), full_s
    artifact = manifest.artifact(key)
    full_rows = num_rows(full)
    row_s = _row_s({} if artifact is None else artifact.latency_ms, full_rows, full_s)
    if row_s is None:
        row_s = fastest_s(run, take(inputs, 0, 1), clock=clock)
    return CostModel.through(1, row_s, full_rows, full_s), full_s


def _row_s(latency_ms: Mapping[str, float], full_rows: int, full_s: float) -> float | None:
    """Return the seconds of one row here, from what the trainer measured of one and of several; None without that."""
    measured = {int(rows): ms for rows, ms in latency_ms.items() if rows.isdigit() and int(rows) > 0}
    most = max(measured, default=1)
    if 1 not in measured or most == 1:
        return None
    unit_ms = (measured[most] - measured[1]) / (most - 1)
    full_ms = max(measured[1] + unit_ms * (full_rows - 1), measured[1])
    return full_s * measured[1] / full_ms
