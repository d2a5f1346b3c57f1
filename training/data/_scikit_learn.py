"""The small tables that scikit-learn carries with it: found without importing it, and checked by digest."""

import hashlib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from app.bundle.manifest import Feature
from training.data import TableRows
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


def with_examples(features: tuple[Feature, ...], rows: TableRows) -> tuple[Feature, ...]:
    """Give every feature the median of its column for an example, to three digits."""
    medians_F = np.median(rows.features, axis=0).tolist()
    return tuple(
        feature.model_copy(update={"example": float(f"{median:.3g}")})
        for feature, median in zip(features, medians_F, strict=True)
    )
