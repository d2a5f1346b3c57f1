"""What a source hands over: chunks of rows, each row a question to the model.

A chunk is what is read, computed and written as one, by whichever thread. Where chunks begin follows from the input
alone, and a batch never holds rows of two chunks: so the same input gives the same bytes, wherever it was interrupted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from app.errors import Fault
from app.tensors import Array

MAX_QUOTED_CHARS = 1024


@dataclass(frozen=True, slots=True)
class JsonText:
    """An instance, as JSON."""

    body: bytes


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance, as parsed JSON would hold it."""

    document: object


@dataclass(frozen=True, slots=True)
class File:
    """A whole file of one of the task's media types."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row that no instance can be made of; the source says why."""

    code: str
    message: str


Question: TypeAlias = JsonText | Instance | File | Unreadable


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the input.

    Attributes:
        question: What is asked of the model.
        line: Where it begins in the input, counted from 1; None where the input has no lines.
        id: Of the caller, as the input has it.
        kept: What is passed on to the output.
        text: The row as it stands in the input, for the file of rejected rows.
    """

    question: Question
    line: int | None = None
    id: Any = None
    kept: Sequence[Any] = ()
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of numbers as one array; checked as a body of plain bytes is.

    Attributes:
        array: Shape (B, ...), as the one input of the model; of any number's dtype.
        ids: One for each row, or none at all.
        kept: Columns that are passed on, by name.
    """

    array: Array
    ids: Sequence[Any] | None = None
    kept: Mapping[str, Sequence[Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Rows that go together.

    Attributes:
        first_row: Of the input, counted from 0.
        num_rows: How many.
        end: Where the next chunk begins, as JSON holds it; for the source that made it.
        done: How much of the input has then been read, in the units of the source.
        content: For the source that made it.
    """

    first_row: int
    num_rows: int
    end: Mapping[str, int]
    done: int
    content: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A row that was set aside.

    Attributes:
        row: Of the input, counted from 0.
        code: Of the error, stable.
        message: For people.
        faults: Each fault, as the HTTP door tells it.
        line: See :class:`Row`.
        id: See :class:`Row`.
        text: See :class:`Row`.
    """

    row: int
    code: str
    message: str
    faults: Sequence[Fault] = ()
    line: int | None = None
    id: Any = None
    text: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the line of the file of rejected rows; of a long row, nothing is quoted."""
        told: dict[str, Any] = {"row": self.row}
        if self.line is not None:
            told["line"] = self.line
        if self.id is not None:
            told["id"] = self.id
        told |= {"code": self.code, "detail": self.message}
        if self.faults:
            told["errors"] = [
                {"pointer": fault.pointer, "code": fault.code, "detail": fault.message} for fault in self.faults
            ]
        if self.text is not None and len(self.text) <= MAX_QUOTED_CHARS:
            told["text"] = self.text
        return told
