"""Golden rows and test rows: given as ``.npz`` or ``.jsonl``, or drawn within the bounds."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app.tensors import Array
from training.errors import PackageRefused
from training.package.kind import Kind, Requests

NUM_DRAWN = 24
# of all rows that are drawn together, so that a bundle of large rows does not consist of golden ones
_MAX_NUMBERS = 200_000
# what goes into a bundle, of rows that were given
MAX_GOLDEN = 64

_ANSWERS = ("labels", "targets")
_ANSWER = ("label", "target")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Requests, and what is right for each where that is known.

    Attributes:
        requests: As they stand in a body.
        answers: Labels or their numbers, or targets; None where the file has none.
    """

    requests: Requests
    answers: list[Any] | None


def draw(kind: Kind, *, seed: int, steps: int) -> Requests:
    """Return rows at the edges of what can be asked, and random ones; the same seed draws the same."""
    numbers = sum(math.prod(_length(axis, steps) for axis in spec.shape[1:]) for spec in kind.inputs)
    count = max(1, min(NUM_DRAWN, _MAX_NUMBERS // numbers))
    return kind.draw(np.random.default_rng(seed), count, steps)


def read(path: Path, kind: Kind) -> Rows:
    """Read a file of rows.

    Args:
        path: ``.npz``: arrays by the names of the inputs, or one of any name; ``labels`` or ``targets`` beside them.
            ``.jsonl``: one instance a line as a request holds it, with ``label`` or ``target`` beside it.
        kind: Of the task.

    Raises:
        PackageRefused: It cannot be read, is empty, or its parts have different numbers of rows.
    """
    if path.suffix == ".npz":
        found = _read_npz(path, kind)
    elif path.suffix == ".jsonl":
        found = _read_jsonl(path)
    else:
        raise PackageRefused(f"rows are read from .npz or .jsonl, {path} is neither")
    if not found.requests:
        raise PackageRefused(f"{path} has no rows")
    if found.answers is not None and len(found.answers) != len(found.requests):
        raise PackageRefused(f"{path} has {len(found.requests)} rows and {len(found.answers)} answers to them")
    return found


def _length(axis: int | str, steps: int) -> int:
    return steps if isinstance(axis, str) else axis


def _read_npz(path: Path, kind: Kind) -> Rows:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays: dict[str, Array] = {name: archive[name] for name in archive.files}
    except Exception as exc:  # numpy answers a broken archive with many types
        raise PackageRefused(f"{path} cannot be read: {exc}") from exc
    given = [arrays.pop(name) for name in _ANSWERS if name in arrays]
    try:
        if len({len(array) for array in arrays.values()}) > 1:
            raise PackageRefused(f"the arrays of {path} have different numbers of rows")
        return Rows(requests=kind.requests(arrays), answers=given[0].tolist() if given else None)
    except (TypeError, ValueError) as exc:
        raise PackageRefused(f"{path} does not hold the rows of this model: {exc}") from exc


def _read_jsonl(path: Path) -> Rows:
    requests: Requests = []
    answers: list[Any] = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as exc:
            raise PackageRefused(f"{path}, line {number}: no JSON: {exc}") from exc
        if not isinstance(row, dict):
            raise PackageRefused(f"{path}, line {number}: expected an object, as an instance of a request")
        answers += [row.pop(key) for key in _ANSWER if key in row]
        requests.append(row)
    return Rows(requests=requests, answers=answers or None)
