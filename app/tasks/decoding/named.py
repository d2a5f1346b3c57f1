"""Named tensors as their sender has them, held against what the model takes: for doors that skip the typed request.

Names, shapes and the size of everything are checked before any element is read; the elements are then checked to the
very bounds that the typed requests have. Of rows with ``lengths``, what lies behind a length is padding, whatever its
sender put there: it is not looked at, and the model gets zeros.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from app.bundle.manifest import TensorSpec
from app.errors import Fault, InvalidInput, Limit, TooManyInstances, quoted
from app.tensors import LENGTHS, Array, Tensors

MAX_FAULTS = 8
# of the rows of one request, in JSON: an array costs the parser far more than a number
MAX_ARRAYS_TOGETHER = 2**18
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class InputRule:
    """What one input may hold.

    Attributes:
        spec: Of the manifest; its first axis is the batch.
        low: Least number that is accepted; or one for each place of the last axis, shape (F,).
        high: Greatest number that is accepted, likewise.
        lengths: What the open axes behind the batch may be, by name; whole numbers from 1 where none is stated.
    """

    spec: TensorSpec
    low: float | Array
    high: float | Array
    lengths: Mapping[str, range] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.spec.dtype != "bool":
            # as the numbers are: what JSON takes at a bound is the nearest number of the input's own dtype
            for bound in ("low", "high"):
                object.__setattr__(self, bound, np.asarray(getattr(self, bound)).astype(self.spec.dtype)[()])

    def holds(self, array: Array) -> bool:
        """Tell whether all numbers lie within the bounds, of which there may be one for each place of the last axis."""
        if self.spec.dtype == "bool" or not array.size:
            return True
        if np.ndim(self.low):
            return bool(((array >= self.low) & (array <= self.high)).all())
        # NaN is found as the greatest and as the least, and is neither; two places are found faster than the values
        flat = array.reshape(-1)
        return bool(flat[flat.argmax()] <= self.high and flat[flat.argmin()] >= self.low)


class NamedRows:
    """Reads the rows of one model from named tensors.

    Args:
        rules: One for each input of the manifest, ``lengths`` included.
        max_rows: Most rows of one request.
        max_numbers: Most numbers that all inputs may hold together.

    Attributes:
        rules: By name of the input.
        max_numbers: As above.
    """

    def __init__(self, rules: Sequence[InputRule], *, max_rows: int, max_numbers: int) -> None:
        self.rules = {rule.spec.name: rule for rule in rules}
        self._max_rows = max_rows
        self.max_numbers = max_numbers
        self._has_lengths = LENGTHS in self.rules
        self._others = tuple(name for name in self.rules if name != LENGTHS)

    @property
    def max_arrays(self) -> int:
        """Arrays that the JSON of the largest request holds, where its data are nested as their shapes are."""
        arrays = sum(_arrays_of_row(rule) for rule in self.rules.values())
        return len(self.rules) + min(self._max_rows * arrays, max(MAX_ARRAYS_TOGETHER, arrays))

    def expect_shapes(self, shapes: Shapes) -> None:
        """Hold the stated shapes against the model, and against each other.

        Args:
            shapes: By name; of the inputs of the model, each once.

        Raises:
            InvalidInput: One is not that of its input, or two disagree; every fault names its input.
            TooManyInstances: They hold more rows than one request may.
        """
        if faults := list(islice(self._wrong_shapes(shapes), MAX_FAULTS)):
            raise InvalidInput(*faults)
        rows = {name: shape[0] for name, shape in shapes.items()}
        first = next(iter(rows))
        for name, count in rows.items():
            if count != rows[first]:
                raise InvalidInput(_fault(name, "wrong_shape", f"{count} rows, and {first!r} has {rows[first]}"))
        self.expect_rows(first, rows[first])
        self._expect_same_axes(shapes)
        if (numbers := sum(math.prod(shape) for shape in shapes.values())) > self.max_numbers:
            raise InvalidInput(
                _fault(
                    max(shapes, key=lambda name: math.prod(shapes[name])),
                    "too_many_numbers",
                    f"the tensors of one request may have {self.max_numbers} numbers together, not {numbers}; send "
                    "several requests",
                    Limit("max_tensor_numbers", self.max_numbers),
                )
            )

    def expect_rows(self, name: str, count: int) -> None:
        """Raise :class:`TooManyInstances` where an input has more rows than one request may hold."""
        if count > self._max_rows:
            raise TooManyInstances(count, self._max_rows, place=input_pointer(name))

    def settle(self, tensors: Tensors) -> Tensors | None:
        """Return the rows as the model takes them; None where a number is out of range.

        Args:
            tensors: Of shapes that :meth:`expect_shapes` has accepted; not written to.
        """
        if not self._has_lengths:
            for name, rule in self.rules.items():
                if not rule.holds(tensors[name]):
                    return None
            return tensors
        lengths_B = tensors[LENGTHS]
        longest = int(lengths_B[0]) if len(lengths_B) == 1 else int(lengths_B.max())
        if longest > min(tensors[name].shape[1] for name in self._others) or int(lengths_B.min()) < self._least:
            return None
        settled: Tensors = {}
        is_padding_BT = None if len(lengths_B) == 1 else np.arange(longest) >= lengths_B[:, None]
        for name in self._others:
            array = tensors[name][:, :longest]
            if is_padding_BT is None or not is_padding_BT.any():
                real = array
            else:
                real = array[~is_padding_BT]
                array = array.copy()
                array[is_padding_BT] = 0
            if not self.rules[name].holds(real):
                return None
            settled[name] = array
        return {name: lengths_B if name == LENGTHS else settled[name] for name in self.rules}

    def faults(self, tensors: Tensors) -> InvalidInput:
        """Say why :meth:`settle` does not take tensors."""
        if self._has_lengths:
            lengths_B = tensors[LENGTHS]
            steps = min(tensors[name].shape[1] for name in self._others)
            least = self._least
            wrong = np.flatnonzero((lengths_B < least) | (lengths_B > steps))[:MAX_FAULTS]
            if len(wrong):
                expected = f"expected lengths from {least} to {steps}, the second axis of {self._others[0]!r}"
                return InvalidInput(
                    *(
                        _fault(LENGTHS, "out_of_range", f"{expected}, found {lengths_B[row]} at [{row}]")
                        for row in wrong
                    )
                )
        found: list[Fault] = []
        for name in self._others:
            found += self._wrong_numbers(name, tensors)
        return InvalidInput(*found[:MAX_FAULTS])

    @property
    def _least(self) -> int:
        """The least length of a row."""
        starts = [lengths.start for rule in self.rules.values() for lengths in rule.lengths.values()]
        return max(1, *starts) if starts else 1

    def _wrong_shapes(self, shapes: Shapes) -> Iterator[Fault]:
        for name, shape in shapes.items():
            rule = self.rules[name]
            expected = rule.spec.shape
            told = f"expected the shape [{', '.join(map(str, expected))}]"
            if len(shape) != len(expected):
                yield _fault(name, "wrong_shape", f"{told}, found [{_listed(shape)}]")
                continue
            for axis, length in zip(expected, shape, strict=True):
                if length < 1 or (isinstance(axis, int) and length != axis):
                    yield _fault(name, "wrong_shape", f"{told}, found [{_listed(shape)}]")
                    break
                lengths = rule.lengths.get(axis) if isinstance(axis, str) else None
                # the least is that of a row's own length, where rows are padded
                if lengths is not None and length >= lengths.stop:
                    most = lengths.stop - 1
                    told = f"{axis!r} may be {most} at most, found {_short(length)}"
                    yield _fault(name, "too_long", told, Limit(f"max_lengths.{axis}", most))
                    break
                if lengths is not None and length < lengths.start:
                    told = f"{axis!r} must be {lengths.start} at least, found {length}"
                    yield _fault(name, "too_short", told, Limit(f"min_lengths.{axis}", lengths.start))
                    break

    def _expect_same_axes(self, shapes: Shapes) -> None:
        """Hold open axes of one name against each other; beside ``lengths``, the second axis of each is the same."""
        first: dict[str, tuple[str, int]] = {}
        for name in self._others:
            for depth, axis in enumerate(self.rules[name].spec.shape[1:], 1):
                if not isinstance(axis, str):
                    continue
                key = LENGTHS if self._has_lengths and depth == 1 else axis
                other, length = first.setdefault(key, (name, shapes[name][depth]))
                if shapes[name][depth] != length:
                    message = f"expected {length} along {axis!r}, as in {other!r}, found {shapes[name][depth]}"
                    raise InvalidInput(_fault(name, "wrong_shape", message))

    def _wrong_numbers(self, name: str, tensors: Tensors) -> Iterator[Fault]:
        rule, array = self.rules[name], tensors[name]
        if rule.spec.dtype == "bool":
            return
        is_wrong = ~((array >= rule.low) & (array <= rule.high))
        if self._has_lengths:
            padded = np.arange(array.shape[1]) >= tensors[LENGTHS][:, None]
            is_wrong &= ~padded.reshape(padded.shape + (1,) * (array.ndim - 2))
        for place in islice(np.argwhere(is_wrong).tolist(), MAX_FAULTS):
            low, high = (np.broadcast_to(bound, array.shape)[tuple(place)] for bound in (rule.low, rule.high))
            found = array[tuple(place)]
            code = "out_of_range" if np.isfinite(found) else "not_finite"
            message = f"expected a number from {_shown(low)} to {_shown(high)}, found {found} at {place}"
            yield _fault(name, code, message)


def input_pointer(name: str) -> str:
    """Return the place of an input in a fault."""
    return f"input:{quoted(name)}"


def _fault(name: str, code: str, message: str, limit: Limit | None = None) -> Fault:
    return Fault(pointer=input_pointer(name), code=code, message=message, limit=limit)


def _arrays_of_row(rule: InputRule) -> int:
    longest = [
        axis if isinstance(axis, int) else rule.lengths[axis].stop - 1 if axis in rule.lengths else 1
        for axis in rule.spec.shape[1:]
    ]
    return sum(math.prod(longest[:depth]) for depth in range(len(longest)))


def _shown(bound: "np.number[Any]") -> str:
    return f"{bound:g}" if isinstance(bound, np.floating) else str(bound)


def _listed(shape: Sequence[int]) -> str:
    shown = ", ".join(map(_short, shape[:8]))
    return shown + (f", ... {len(shape)} axes" if len(shape) > 8 else "")


def _short(number: int) -> str:
    return quoted(str(number)) if abs(number) < 10**30 else f"a number of {len(str(abs(number)))} digits"
