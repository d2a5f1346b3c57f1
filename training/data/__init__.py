"""The data sets: every module of this folder whose name has no leading underscore is one, found by its file name.

Such a module defines ``SOURCE``, the facts of the data set; ``locate(data_dir: Path | None) -> Path``, which raises
:class:`training.errors.DataMissing` where it is not there; and ``load(data_dir: Path | None) -> DataSet``, which raises
:class:`training.errors.DataError` where the files are missing or damaged. Its rows are of the kind that its networks
take: :class:`Rows` of pictures, :class:`TableRows` of named numbers, :class:`SequenceRows` of ragged series,
:class:`TextRows` of texts.
"""

import importlib
import pkgutil
from collections.abc import Mapping, Sized
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

import numpy as np

from app.bundle.manifest import Feature, Target
from training.data._rows import Rows, SequenceRows, TableRows, TextRows
from training.data._source import Source, data_folder
from training.errors import ConfigError

__all__ = [
    "SPLIT_SEED",
    "DataSet",
    "Pictures",
    "Rows",
    "SequenceRows",
    "Sequences",
    "Source",
    "Table",
    "TableRows",
    "TextRows",
    "Texts",
    "data_folder",
    "load",
    "locate",
    "names",
    "source",
    "split",
]

# One split for every seed and architecture, so that their validation scores can be compared.
SPLIT_SEED = 20


RowsT = TypeVar("RowsT", bound=Sized)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet(Generic[RowsT]):
    """A data set, split.

    Attributes:
        name: As people write it.
        license: SPDX identifier.
        classes: The label of each class index; empty where a number is told.
        files: SHA-256 of the content of each source file, uncompressed.
        train: What the weights are fitted to.
        validation: What choices are made on.
        test: Looked at once, after all choices.
    """

    name: str
    license: str
    classes: tuple[str, ...]
    files: dict[str, str]
    train: RowsT
    validation: RowsT
    test: RowsT


Pictures = DataSet[Rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table(DataSet[TableRows]):
    """A data set whose rows are named numbers.

    Attributes:
        features: The columns, in their order.
        target: The number that is told; None where it is a class.
    """

    features: tuple[Feature, ...]
    target: Target | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequences(DataSet[SequenceRows]):
    """A data set whose rows are series of several lengths.

    Attributes:
        num_channels: Numbers of each step.
        min_length: Steps of the shortest series, as the source states it.
        max_length: Steps of the longest, as the source states it.
    """

    num_channels: int
    min_length: int
    max_length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts(DataSet[TextRows]):
    """A data set whose rows are texts.

    Attributes:
        private_words: Words, in lower case, that name persons; no vocabulary may learn them.
        num_dropped: How many texts were dropped before the split because another stays: "same", "near".
    """

    private_words: frozenset[str] = frozenset()
    num_dropped: Mapping[str, int] = field(default_factory=dict)


def split(rows: Rows, num_validation: int, *, seed: int = SPLIT_SEED) -> tuple[Rows, Rows]:
    """Split rows by a seeded shuffle into (train, validation), each in its original order.

    Raises:
        ValueError: One side would be empty.
    """
    if not 0 < num_validation < len(rows):
        raise ValueError(f"cannot take {num_validation} validation rows out of {len(rows)}")
    order = np.random.default_rng(seed).permutation(len(rows))
    return rows.take(np.sort(order[num_validation:])), rows.take(np.sort(order[:num_validation]))


def names() -> list[str]:
    """Return the names of all data sets, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def load(name: str, data_dir: Path | None = None) -> DataSet[Any]:
    """Read a data set.

    Args:
        name: One of :func:`names`.
        data_dir: Where its files lie; without it the data set looks in its usual places.

    Raises:
        ConfigError: There is no such data set.
        DataError: Its files are missing, damaged or others.
    """
    data: DataSet[Any] = _module(name).load(data_dir)
    return data


def source(name: str) -> Source:
    """Return the facts of a data set, which need not be here.

    Raises:
        ConfigError: There is no such data set.
    """
    facts: Source = _module(name).SOURCE
    return facts


def locate(name: str, data_dir: Path | None = None) -> Path:
    """Return where a data set lies, not yet checked.

    Raises:
        ConfigError: There is no such data set.
        DataMissing: It is not there.
    """
    path: Path = _module(name).locate(data_dir)
    return path


def _module(name: str) -> ModuleType:
    if name not in names():
        raise ConfigError(f"there is no data set {name!r}, there are: {', '.join(names())}")
    return importlib.import_module(f"{__name__}.{name}")
