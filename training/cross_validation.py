"""Cross-validation: every row is told once by a model that has not seen it.

Each fold is held out in turn; the others are split into training and validation rows as for the bundle itself, so that
what is measured is the whole procedure, early stopping included.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import numpy as np

from app.tensors import Array
from training.data import TableRows
from training.data._strata import strata_of, stratified

VALIDATION_SHARE = 0.2


class Takeable(Protocol):
    """Rows of any kind, of which some can be taken."""

    def __len__(self) -> int:
        """Return the number of rows."""
        ...

    def take(self, indices: Array, /) -> Self:
        """Return the rows at ``indices``, int64 of shape (M,)."""
        ...


RowsT = TypeVar("RowsT", bound=Takeable)

# From training, validation and held-out rows, and the fold's number, to the score of each contender.
Contest = Callable[[RowsT, RowsT, RowsT, int], dict[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldScores:
    """What one contender reached.

    Attributes:
        scores: Of each fold.
    """

    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over the folds."""
        return float(np.mean(self.scores))

    @property
    def std(self) -> float:
        """Over the folds."""
        return float(np.std(self.scores))


def folds(strata_N: Array, num_folds: int, *, seed: int) -> Iterator[tuple[Array, Array]]:
    """Yield the indices of the other rows and of the rows held out, both rising; every row is held out once.

    Args:
        strata_N: Of each row, its class or another group, int64 of shape (N,): each fold gets its share.
        num_folds: How many.
        seed: Decides which row falls into which.

    Raises:
        ValueError: There are fewer rows than folds.
    """
    if not 1 < num_folds <= len(strata_N):
        raise ValueError(f"cannot make {num_folds} folds of {len(strata_N)} rows")
    order_N = np.random.default_rng(seed).permutation(len(strata_N))
    order_N = order_N[np.argsort(strata_N[order_N], kind="stable")]
    # neighbors in that order are of one stratum, and fall into different folds
    fold_N = np.empty(len(strata_N), np.int64)
    fold_N[order_N] = np.arange(len(strata_N)) % num_folds
    for fold in range(num_folds):
        yield np.flatnonzero(fold_N != fold), np.flatnonzero(fold_N == fold)


def cross_validate(
    rows: RowsT, contest: Contest[RowsT], *, num_folds: int, seed: int, strata_N: Array | None = None
) -> dict[str, FoldScores]:
    """Hold out one fold after the other, and return what each contender reached.

    Args:
        rows: All rows.
        contest: Fits and scores all contenders.
        num_folds: How many.
        seed: Decides the folds, and the validation rows of each.
        strata_N: Of each row, its class or another group, int64 of shape (N,): each side gets its share. Without it,
            those of a table follow from its targets, and other rows are all of one kind.

    Raises:
        ValueError: There are fewer rows than folds.
    """
    if strata_N is None:
        strata_N = strata_of(rows) if isinstance(rows, TableRows) else np.zeros(len(rows), np.int64)
    scores: dict[str, list[float]] = {}
    for number, (others, held_out) in enumerate(folds(strata_N, num_folds, seed=seed), start=1):
        train, validation = stratified(strata_N[others], round(VALIDATION_SHARE * len(others)), seed=seed)
        reached = contest(rows.take(others[train]), rows.take(others[validation]), rows.take(held_out), number)
        for name, score in reached.items():
            scores.setdefault(name, []).append(score)
    return {name: FoldScores(scores=tuple(values)) for name, values in scores.items()}
