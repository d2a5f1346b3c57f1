"""Stratified splits: where rows are few, every side gets its share of each class, or of low and high numbers."""

import numpy as np

from app.tensors import Array
from training.data import SPLIT_SEED, TableRows

NUM_GROUPS = 5


def strata_of(rows: TableRows) -> Array:
    """Return the stratum of each row, int64 of shape (N,): its class, or the fifth in which its number lies."""
    if rows.targets.dtype.kind == "i":
        return rows.targets
    groups_N: Array = np.digitize(rows.targets, np.quantile(rows.targets, np.arange(1, NUM_GROUPS) / NUM_GROUPS))
    return groups_N


def stratified(strata_N: Array, num_taken: int, *, seed: int = SPLIT_SEED) -> tuple[Array, Array]:
    """Take rows at random, of each stratum its share; return the indices of those left and those taken, both rising.

    The rows are shuffled, sorted by their stratum, and taken at equal distances.

    Args:
        strata_N: Of each row, its class or another group, int64 of shape (N,).
        num_taken: How many rows are taken.
        seed: Decides which.

    Raises:
        ValueError: One side would be empty.
    """
    num_rows = len(strata_N)
    if not 0 < num_taken < num_rows:
        raise ValueError(f"cannot take {num_taken} rows out of {num_rows}")
    order_N = np.random.default_rng(seed).permutation(num_rows)
    order_N = order_N[np.argsort(strata_N[order_N], kind="stable")]
    is_taken_N = np.zeros(num_rows, bool)
    is_taken_N[order_N[((np.arange(num_taken) + 0.5) * num_rows / num_taken).astype(np.int64)]] = True
    return np.flatnonzero(~is_taken_N), np.flatnonzero(is_taken_N)


def split_table(rows: TableRows, *, num_test: int, num_validation: int) -> tuple[TableRows, TableRows, TableRows]:
    """Split rows, always the same way, into (train, validation, test), each in its original order."""
    strata_N = strata_of(rows)
    rest, test = stratified(strata_N, num_test)
    train, validation = stratified(strata_N[rest], num_validation)
    return rows.take(rest[train]), rows.take(rest[validation]), rows.take(test)
