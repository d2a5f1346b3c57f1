"""Whole test splits as requests, and what is right for each of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from training import data
from training.config import recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """A test split: one instance a row, and the class or the number of each; None where the row is its own answer."""

    instances: list[Any]
    targets: np.ndarray | None


def of_pictures(rows: data.Rows) -> Questions:
    return Questions(instances=[{"image": image.tolist()} for image in rows.images], targets=rows.labels)


def _of_series(data_set: data.Sequences) -> Questions:
    rows = data_set.test
    # to the shortest number that is the same float32, as people write them
    instances = [{"sequence": [[float(str(value)) for value in step] for step in each]} for each in rows.series]
    return Questions(instances=instances, targets=rows.labels)


def _of_texts(data_set: data.Texts) -> Questions:
    return Questions(instances=[{"text": text} for text in data_set.test.texts], targets=data_set.test.labels)


def _of_table(data_set: data.Table) -> Questions:
    names = [feature.name for feature in data_set.features]
    instances = [{"features": dict(zip(names, row.tolist(), strict=True))} for row in data_set.test.features]
    return Questions(instances=instances, targets=data_set.test.targets)


_KINDS: dict[str, Callable[[Any], Questions]] = {
    "image_classification": lambda data_set: of_pictures(data_set.test),
    "image_reconstruction": lambda data_set: of_pictures(data_set.test),
    "sequence_classification": _of_series,
    "tabular_classification": _of_table,
    "tabular_regression": _of_table,
    "text_classification": _of_texts,
}


def whole_test_split(name: str, kind: str) -> Questions:
    """Return the test split that a model of the repository was measured on."""
    return _KINDS[kind](data.load(recipe(name).data_set))
