"""Questions to tensors, by the very task that serves them; what is refused is set aside with the door's own words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import orjson

from app.errors import InvalidInput, RequestError, ServingError
from app.predict.rows import Block, File, Instance, JsonText, Question, Rejection, Row, Unreadable
from app.tasks import Task
from app.tasks.decoding.strict_json import parse_json
from app.tensors import LENGTHS, Array, Tensors, num_rows, take

_BEFORE, _BEHIND = b'{"instances":[', b"]}"


@dataclass(frozen=True, slots=True)
class Decoded:
    """What became of the rows of a chunk.

    Attributes:
        rows_B: Numbers of the good rows in the chunk, rising.
        parts: Their tensors: of one row each, or of all of them together.
        rejections: The others.
    """

    rows_B: Array
    parts: Sequence[Tensors]
    rejections: list[Rejection]


def decode_rows(task: Task, rows: Sequence[Row], first_row: int, *, is_ragged: bool) -> Decoded:
    """Decode rows, one by one where need be.

    Args:
        task: Of the model.
        rows: Of a chunk.
        first_row: Number of the first in the input.
        is_ragged: Whether rows may be of different shapes, so that they are not to be joined yet.
    """
    if not is_ragged:
        together = _all_at_once(task, rows)
        if together is not None:
            return Decoded(np.arange(len(rows)), [together], [])
    good: list[int] = []
    parts: list[Tensors] = []
    rejections: list[Rejection] = []
    for index, row in enumerate(rows):
        try:
            parts.append(decode_row(task, row.question))
            good.append(index)
        except RequestError as exc:
            rejections.append(_reject(exc, first_row + index, row))
        except _Unreadable as exc:
            reason = exc.reason
            rejections.append(
                Rejection(
                    row=first_row + index, code=reason.code, message=reason.message, line=row.line, id=row.id,
                    text=row.text,
                )
            )  # fmt: skip
    return Decoded(np.array(good, np.int64), parts, rejections)


def decode_row(task: Task, question: Question) -> Tensors:
    """Return the tensors of one row, as a request with this one instance would become.

    Raises:
        RequestError: The door would refuse it.
    """
    if isinstance(question, File):
        return task.decode_file(question.data)
    if isinstance(question, Unreadable):
        raise _Unreadable(question)
    body = question.body if isinstance(question, JsonText) else _dump(question.document)
    if body is not None:
        tensors = task.decode_fast(_BEFORE + body + _BEHIND)
        if tensors is not None and num_rows(tensors) == 1:
            return tensors
    document = parse_json(question.body, task.json_limits) if isinstance(question, JsonText) else question.document
    return task.decode_json({"instances": [document]})


def decode_block(task: Task, block: Block, first_row: int) -> Decoded:
    """Check rows of numbers as the door for plain bytes does; task.raw must be there, and its rows of a fixed shape."""
    assert task.raw is not None
    array = block.array
    with np.errstate(over="ignore", invalid="ignore"):  # what has no float32 is infinite, and refused
        array = np.ascontiguousarray(array, task.raw.dtype)
    count = len(array)
    if count:
        tensors = task.raw.decode_fast(array.reshape(-1).view(np.uint8).data)
        if tensors is not None:
            return Decoded(np.arange(count), [tensors], [])
    good: list[int] = []
    parts: list[Tensors] = []
    rejections: list[Rejection] = []
    for index, row in enumerate(array):
        number, id_ = first_row + index, None if block.ids is None else block.ids[index]
        try:
            parts.append(task.raw.decode(row.tobytes()))
            good.append(index)
        except RequestError as exc:
            rejections.append(_reject(exc, number, None, id_=id_))
    return Decoded(np.array(good, np.int64), parts, rejections)


class _Unreadable(Exception):
    def __init__(self, reason: Unreadable) -> None:
        super().__init__(reason.message)
        self.reason = reason


def _all_at_once(task: Task, rows: Sequence[Row]) -> Tensors | None:
    """Return the tensors of all rows, where all are plain and good; the numbers are those that each alone becomes."""
    documents = [row.question.document for row in rows if isinstance(row.question, Instance)]
    if len(documents) != len(rows) or len(rows) < 2:
        return None
    body = _dump(documents)
    if body is None:
        return None
    tensors = task.decode_fast(b'{"instances":' + body + b"}")
    return tensors if tensors is not None and LENGTHS not in tensors and num_rows(tensors) == len(rows) else None


def _dump(document: object) -> bytes | None:
    """Return a document as JSON; None where it holds what JSON has not, or what would become null in it."""
    try:
        return orjson.dumps(document)
    except (TypeError, ValueError):
        return None


def _reject(error: ServingError, row: int, of: Row | None, *, id_: object = None) -> Rejection:
    return Rejection(
        row=row,
        code=error.code,
        message=str(error),
        faults=error.faults if isinstance(error, InvalidInput) else (),
        line=None if of is None else of.line,
        id=id_ if of is None else of.id,
        text=None if of is None else of.text,
    )


def single_rows(tensors: Tensors) -> Iterator[Tensors]:
    """Yield the rows of tensors one by one, as views."""
    for index in range(num_rows(tensors)):
        yield take(tensors, index, index + 1)
