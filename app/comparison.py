"""What the comparison of a shadow with the version that answers has found so far: sums that processes can add up."""

from collections.abc import Sequence
from typing import Any

# what becomes of a row that was drawn for the shadow
OUTCOMES = ("agreed", "disagreed", "failed", "over_budget", "dropped")


class Comparison:
    """Sums over the rows that were drawn for one shadow beside one serving version.

    Attributes:
        agreed: Rows on which both answer the same; :class:`app.serving.agreement.Agreement` says what the same is.
        disagreed: Rows on which they do not.
        failed: Rows for which the shadow had no answer: it raised, answered NaN, or hangs.
        over_budget: Rows that were not computed because the time that the shadow may take was used up.
        dropped: Rows that were not computed because too many others waited for it.
        max_difference: The largest difference between two outputs.
        difference_sum: Of the largest difference of each row compared.
        timed: Rows of the batches that both computed at the first try.
        serving_s: Seconds that the serving version computed for these.
        shadow_s: Seconds that the shadow did.
    """

    __slots__ = (*OUTCOMES, "difference_sum", "max_difference", "serving_s", "shadow_s", "timed")

    _SUMS = (*OUTCOMES, "difference_sum", "serving_s", "shadow_s", "timed")

    def __init__(self) -> None:
        self.agreed = self.disagreed = self.failed = self.over_budget = self.dropped = self.timed = 0
        self.max_difference = self.difference_sum = self.serving_s = self.shadow_s = 0.0

    @property
    def compared(self) -> int:
        """Rows that both have answered."""
        return self.agreed + self.disagreed

    @property
    def agreement(self) -> float | None:
        """The share of the rows compared on which both answer the same; None before the first."""
        return self.agreed / self.compared if self.compared else None

    @property
    def mean_difference(self) -> float | None:
        """The mean of the largest difference of each row; None before the first."""
        return self.difference_sum / self.compared if self.compared else None

    @property
    def row_seconds(self) -> tuple[float, float] | None:
        """Seconds of a row in the mean, of the serving version and of the shadow; None before the first."""
        return (self.serving_s / self.timed, self.shadow_s / self.timed) if self.timed else None

    def count(self, outcome: str, rows: int) -> None:
        """Count rows with one of :data:`OUTCOMES`."""
        setattr(self, outcome, getattr(self, outcome) + rows)

    def state(self) -> list[Any]:
        """Return what :meth:`add` of another one takes."""
        return [[getattr(self, name) for name in self._SUMS], self.max_difference]

    def add(self, sums: Sequence[float], max_difference: float) -> None:
        """Count what another one has counted."""
        for name, theirs in zip(self._SUMS, sums, strict=True):
            setattr(self, name, getattr(self, name) + theirs)
        self.max_difference = max(self.max_difference, max_difference)
