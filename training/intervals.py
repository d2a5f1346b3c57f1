"""How far a number measured on a few hundred or thousand rows can be trusted, and whether two models differ at all.

Shape suffixes: N rows of the split, C classes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from app.tensors import Array

CONFIDENCE = 0.95
NUM_DRAWS = 1000
SEED = 20

# From the indices of the rows drawn, int64 of shape (N,), to a score.
ScoreOfRows = Callable[[NDArray[np.int64]], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Where a number lies, with 95% confidence.

    Attributes:
        low: Its lower end.
        high: Its upper end.
    """

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedLabels:
    """Two classifiers on the same rows, after McNemar.

    Attributes:
        only_first: Rows that only the first gets right.
        only_second: Rows that only the second gets right.
        p_value: How likely so uneven a count is where both are equally good; exact, two-sided.
    """

    only_first: int
    only_second: int
    p_value: float

    @property
    def differ(self) -> bool:
        """Whether the difference is more than luck, at the level of the intervals."""
        return self.p_value < 1 - CONFIDENCE


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedErrors:
    """Two models' errors on the same rows.

    Attributes:
        difference: Mean of the first's errors less the second's; below 0 the first is better.
        interval: Of that difference.
    """

    difference: float
    interval: Interval

    @property
    def differ(self) -> bool:
        """Whether the difference is more than luck: the interval leaves out 0."""
        return 0.0 not in self.interval


def wilson(num_right: int, num_rows: int) -> Interval:
    """Return the interval of a share (Wilson, 1927); it holds where the share is near 0 or 1, and rows are few.

    Raises:
        ValueError: There are no rows, or more are right than there are.
    """
    if not 0 <= num_right <= num_rows or not num_rows:
        raise ValueError(f"there is no share of {num_right} in {num_rows}")
    interval = binomtest(num_right, num_rows).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(low=float(interval.low), high=float(interval.high))


def bootstrap(
    score: ScoreOfRows,
    num_rows: int,
    *,
    strata_N: NDArray[np.int64] | None = None,
    num_draws: int = NUM_DRAWS,
    seed: int = SEED,
) -> Interval:
    """Return the interval of any score: that of the middle 95% when rows are drawn again and again (Efron, 1979).

    Args:
        score: Of the rows drawn; those drawn twice count twice.
        num_rows: Rows of the split.
        strata_N: The class of each row, where each draw must have as many of each: without all classes, some scores do
            not exist.
        num_draws: How often all rows are drawn, with replacement.
        seed: Decides the draws.

    Raises:
        ValueError: There are no rows.
    """
    if not num_rows:
        raise ValueError("there is no interval without rows")
    rng = np.random.default_rng(seed)
    everyone = np.arange(num_rows)
    groups = [everyone] if strata_N is None else [np.flatnonzero(strata_N == each) for each in np.unique(strata_N)]
    scores = [
        score(np.concatenate([group[rng.integers(0, len(group), len(group))] for group in groups]))
        for _ in range(num_draws)
    ]
    return _middle(np.array(scores))


def bootstrap_mean(values_N: Array, *, num_draws: int = NUM_DRAWS, seed: int = SEED) -> Interval:
    """Return the interval of a mean, as of errors row by row, float of shape (N,)."""
    wide_N = values_N.astype(np.float64)
    return bootstrap(lambda drawn_N: float(wide_N[drawn_N].mean()), len(wide_N), num_draws=num_draws, seed=seed)


def macro_f1(predicted_N: NDArray[np.int64], labels_N: NDArray[np.int64], num_classes: int) -> ScoreOfRows:
    """Return the macro F1 of drawn rows, made quick by counting; as `training.metrics` has it."""
    cells_N = labels_N * num_classes + predicted_N

    def score(drawn_N: NDArray[np.int64]) -> float:
        counts_CC = np.bincount(cells_N[drawn_N], minlength=num_classes**2).reshape(num_classes, num_classes)
        both_C = counts_CC.sum(axis=0) + counts_CC.sum(axis=1)
        return float((2 * counts_CC.diagonal() / np.maximum(both_C, 1)).mean())

    return score


def roc_auc(probabilities_NC: Array, labels_N: NDArray[np.int64]) -> ScoreOfRows:
    """Return the mean one-vs-rest ROC AUC of drawn rows, made quick by sorting once; as `training.metrics` has it.

    Classes that the split does not have, or has nothing but, are left out; the draws must be stratified by class.
    """
    present = [index for index in np.unique(labels_N) if 0 < (labels_N == index).sum() < len(labels_N)]
    ranked = [_Ranked.of(probabilities_NC[:, index], labels_N == index) for index in present]

    def score(drawn_N: NDArray[np.int64]) -> float:
        times_N = np.bincount(drawn_N, minlength=len(labels_N))
        return float(np.mean([each.area(times_N) for each in ranked]))

    return score


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ranked:
    """Rows in the order of their scores, ties together."""

    order_N: NDArray[np.int64]
    starts: NDArray[np.int64]
    is_positive_N: NDArray[np.bool_]

    @classmethod
    def of(cls, scores_N: Array, is_positive_N: NDArray[np.bool_]) -> "_Ranked":
        order_N = np.argsort(scores_N, kind="stable")
        is_new_N = np.diff(scores_N[order_N], prepend=-np.inf) > 0
        return cls(order_N=order_N, starts=np.flatnonzero(is_new_N), is_positive_N=is_positive_N[order_N])

    def area(self, times_N: NDArray[np.int64]) -> float:
        """Return the share of pairs in the right order, each tie for half, where a row counts so many times."""
        ordered_N = times_N[self.order_N]
        positives = np.add.reduceat(ordered_N * self.is_positive_N, self.starts)
        negatives = np.add.reduceat(ordered_N * ~self.is_positive_N, self.starts)
        below = np.cumsum(negatives) - negatives
        return float((positives * (below + negatives / 2)).sum() / (positives.sum() * negatives.sum()))


def compare_labels(
    first_N: NDArray[np.int64], second_N: NDArray[np.int64], labels_N: NDArray[np.int64]
) -> PairedLabels:
    """Hold two classifiers' labels against each other on the same rows, all int64 of shape (N,).

    Raises:
        ValueError: The rows do not match.
    """
    if not len(first_N) == len(second_N) == len(labels_N):
        raise ValueError(f"cannot pair {len(first_N)} and {len(second_N)} labels of {len(labels_N)} rows")
    first_is_right_N, second_is_right_N = first_N == labels_N, second_N == labels_N
    only_first = int((first_is_right_N & ~second_is_right_N).sum())
    only_second = int((second_is_right_N & ~first_is_right_N).sum())
    contested = only_first + only_second
    p_value = float(binomtest(only_first, contested, 0.5).pvalue) if contested else 1.0
    return PairedLabels(only_first=only_first, only_second=only_second, p_value=p_value)


def compare_errors(first_N: Array, second_N: Array) -> PairedErrors:
    """Hold two models' errors against each other, row by row, both float of shape (N,).

    Raises:
        ValueError: The rows do not match.
    """
    if len(first_N) != len(second_N):
        raise ValueError(f"cannot pair the errors of {len(first_N)} and {len(second_N)} rows")
    differences_N = first_N.astype(np.float64) - second_N
    return PairedErrors(difference=float(differences_N.mean()), interval=bootstrap_mean(differences_N))


def _middle(scores: NDArray[np.float64]) -> Interval:
    low, high = np.quantile(scores, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(low=float(low), high=float(high))
