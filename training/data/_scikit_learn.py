"""The small tables that scikit-learn carries with it: found without importing it, and checked by digest."""

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from app.bundle.manifest import Feature, Target
from training.data import Table, TableRows
from training.data._idx import read_maybe_gzipped
from training.data._source import Source, expect_digest, missing
from training.data._strata import split_table
from training.errors import DataMissing

HOW = "it comes with scikit-learn: pip install 'zero-to-one[train]'"


def read_files(source: Source, digests: Mapping[str, str], data_dir: Path | None) -> dict[str, bytes]:
    """Return the content, uncompressed, of the files of a data set.

    Args:
        source: The data set, for errors.
        digests: SHA-256 that the uncompressed content of each file must have.
        data_dir: Folder of the files; without it that of the installed scikit-learn.

    Raises:
        DataError: A file is missing, damaged or not the one expected.
    """
    folder = locate_files(source, digests, data_dir)
    content: dict[str, bytes] = {}
    for name, digest in digests.items():
        content[name] = read_maybe_gzipped(folder / name)
        expect_digest(folder / name, content[name], digest)
    return content


def locate_files(source: Source, names: Iterable[str], data_dir: Path | None) -> Path:
    """Return the folder of the files.

    Raises:
        DataMissing: One of them is not there, or scikit-learn is not.
    """
    folder = data_dir or _installed()
    for name in names:
        if not (folder / name).is_file():
            raise missing(source, name, folder)
    return folder


def _installed() -> Path:
    spec = find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise DataMissing("scikit-learn, which carries the data, is not installed: pip install 'zero-to-one[train]'")
    return Path(spec.origin).parent / "datasets" / "data"


def table_of(
    source: Source,
    rows: TableRows,
    features: tuple[Feature, ...],
    *,
    digests: Mapping[str, str],
    classes: tuple[str, ...] = (),
    target: Target | None = None,
) -> Table:
    """Split the rows of a data set as its source says, and describe them.

    Args:
        source: The data set.
        rows: All of them.
        features: Their columns, in order, without examples.
        digests: SHA-256 of the files that they were read from.
        classes: The label of each class; none where a number is told.
        target: That number; None where it is a class.
    """
    _, num_validation, num_test = source.splits
    train, validation, test = split_table(rows, num_test=num_test, num_validation=num_validation)
    return Table(
        name=source.title,
        license=source.license,
        classes=classes,
        files=dict(digests),
        train=train,
        validation=validation,
        test=test,
        features=_with_examples(features, train),
        target=target,
    )


def _with_examples(features: tuple[Feature, ...], rows: TableRows) -> tuple[Feature, ...]:
    """Give every feature the median of its column for an example, to three digits."""
    medians_F = np.median(rows.features, axis=0).tolist()
    return tuple(
        feature.model_copy(update={"example": float(f"{median:.3g}")})
        for feature, median in zip(features, medians_F, strict=True)
    )
