"""The small tables that scikit-learn carries with it: found without importing it, checked by digest, split.

The splits are stratified, so that few rows are shared out evenly.
"""

import hashlib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from app.bundle.manifest import Feature
from app.tensors import Array
from training.data import SPLIT_SEED, TableRows
from training.data._idx import read_maybe_gzipped
from training.errors import DataError


def read_files(title: str, digests: Mapping[str, str], data_dir: Path | None) -> dict[str, bytes]:
    """Return the content, uncompressed, of the files of a data set.

    Args:
        title: As people write the data set's name.
        digests: SHA-256 that the uncompressed content of each file must have.
        data_dir: Folder of the files; without it that of the installed scikit-learn.

    Raises:
        DataError: A file is missing, damaged or not the one expected.
    """
    folder = data_dir or _installed()
    content: dict[str, bytes] = {}
    for name, digest in digests.items():
        path = folder / name
        if not path.is_file():
            raise DataError(
                f"{title} is not in {folder}: {name} is missing; it comes with scikit-learn: "
                "pip install 'zero-to-one[train]'"
            )
        content[name] = read_maybe_gzipped(path)
        actual = hashlib.sha256(content[name]).hexdigest()
        if actual != digest:
            raise DataError(
                f"{path} is damaged or another file: its {len(content[name])} uncompressed bytes have SHA-256 "
                f"{actual}, expected {digest}"
            )
    return content


def _installed() -> Path:
    spec = find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise DataError("scikit-learn, which carries the data, is not installed: pip install 'zero-to-one[train]'")
    return Path(spec.origin).parent / "datasets" / "data"


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


def quantile_groups(numbers_N: Array, num_groups: int = 5) -> Array:
    """Return the group of each number, 0 to ``num_groups - 1``, all about as large; int64 of shape (N,)."""
    edges = np.quantile(numbers_N, np.arange(1, num_groups) / num_groups)
    return np.digitize(numbers_N, edges)


def split_table(
    rows: TableRows, strata_N: Array, *, num_test: int, num_validation: int
) -> tuple[TableRows, TableRows, TableRows]:
    """Split rows by strata, always the same way, into (train, validation, test), each in its original order."""
    rest, test = stratified(strata_N, num_test)
    train, validation = stratified(strata_N[rest], num_validation)
    return rows.take(rest[train]), rows.take(rest[validation]), rows.take(test)


def with_examples(features: tuple[Feature, ...], rows: TableRows) -> tuple[Feature, ...]:
    """Give every feature the median of its column for an example, to three digits."""
    medians_F = np.median(rows.features, axis=0).tolist()
    return tuple(
        feature.model_copy(update={"example": float(f"{median:.3g}")})
        for feature, median in zip(features, medians_F, strict=True)
    )
