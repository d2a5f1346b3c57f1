"""A prediction as the columns of a table: what the task answers, member by member.

Which columns there are follows from a prediction of a golden row, so a new task has its table without a line here. A
member that is an object becomes a column for each of its own, ``member.name``; the probabilities of all labels are left
out unless they are asked for.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.tensors import Array

PROBABILITIES = "probabilities"


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        name: In the head.
        path: Of the member in a prediction.
        example: A value of it.
    """

    name: str
    path: tuple[str, ...]
    example: Any


def columns_of(sample: Mapping[str, Any], *, with_probabilities: bool) -> list[Column]:
    """Return the columns that predictions like this one have."""
    found: list[Column] = []
    for name, value in sample.items():
        if name == PROBABILITIES and not with_probabilities:
            continue
        if isinstance(value, dict):
            found += [Column(f"{name}.{inner}", (name, inner), example) for inner, example in value.items()]
        else:
            found.append(Column(name, (name,), value))
    return found


@dataclass(frozen=True, slots=True)
class Predictions:
    """Those of a chunk: written out, or as arrays where these are all that is wanted of them.

    Attributes:
        members: By path, its values, shape (B,).
        written: One document a row; empty where ``members`` has all columns.
    """

    members: Mapping[tuple[str, ...], Array]
    written: Sequence[Mapping[str, Any]] = ()


def values(column: Column, predictions: Predictions) -> Array | list[Any]:
    """Return a column of predictions; None where one has it not, as a label beyond ``top_k``."""
    if (array := predictions.members.get(column.path)) is not None:
        return array
    if len(column.path) == 1:
        (name,) = column.path
        return [prediction.get(name) for prediction in predictions.written]
    outer, inner = column.path
    return [prediction[outer].get(inner) for prediction in predictions.written]


def cells(column: Column, predictions: Predictions) -> list[Any]:
    """Return a column for CSV: lists as JSON, truth values in its words, nothing for what is not there."""
    found = values(column, predictions)
    if not isinstance(found, list):
        found = found.tolist()
    if isinstance(column.example, list):
        return ["" if value is None else json.dumps(value, separators=(",", ":")) for value in found]
    if isinstance(column.example, bool):
        return ["" if value is None else ("true" if value else "false") for value in found]
    return found
