"""What an instance is made of, as the columns of a table: read off the type of the task's own requests.

A member of an instance is a column; of a member that is an object, as ``features``, each of its members is one. So a
new task is read from tables without a line here.
"""

import base64
import json
import math
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from app.errors import BodyTooLarge
from app.predict.errors import BadUse
from app.predict.rows import File, Instance, Question, Unreadable
from app.tasks import Task

Kind = Literal["number", "text", "picture", "json"]
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True, slots=True)
class Field:
    """One column.

    Attributes:
        column: Its name.
        path: Of the member in an instance.
        kind: What a cell holds.
        is_required: Whether the table has to have it.
    """

    column: str
    path: tuple[str, ...]
    kind: Kind
    is_required: bool


def fields_of(task: Task) -> tuple[Field, ...]:
    """Return the columns that make an instance of a task."""
    (instance,) = get_args(task.request_model.model_fields["instances"].annotation)
    takes_pictures = any(media_type.startswith("image/") for media_type in task.media_types)
    found: list[Field] = []
    for name, info in instance.model_fields.items():
        member = info.alias or name
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += [
                Field(of.alias or own, (member, of.alias or own), _kind(of, is_picture=False), of.is_required())
                for own, of in inner.model_fields.items()
            ]
        else:
            is_picture = takes_pictures and member == "image"
            found.append(Field(member, (member,), _kind(info, is_picture=is_picture), info.is_required()))
    return tuple(found)


def _kind(info: FieldInfo, *, is_picture: bool) -> Kind:
    if is_picture:
        return "picture"
    if info.annotation is str:
        return "text"
    return "number" if info.annotation is float else "json"


def expect_columns(fields: Sequence[Field], columns: Sequence[str], where: str) -> None:
    """Refuse a table without all columns of an instance, or with one of them twice.

    Raises:
        BadUse: It is one; the message names the columns.
    """
    if missing := [field.column for field in fields if field.is_required and field.column not in columns]:
        raise BadUse(
            f"{where}: no column {', '.join(map(repr, missing))}; there are: {', '.join(map(repr, columns)) or 'none'}"
        )
    wanted = {field.column for field in fields}
    if twice := sorted({column for column in columns if columns.count(column) > 1 and column in wanted}):
        raise BadUse(f"{where}: the column {', '.join(map(repr, twice))} is there twice")


@dataclass(frozen=True, slots=True)
class Files:
    """The files that rows name.

    Attributes:
        folder: That their paths are relative to.
        max_bytes: Of one; a larger one is not read.
    """

    folder: Path
    max_bytes: int

    def read(self, name: str) -> Question:
        """Return a file, or why it cannot be had."""
        path = self.folder / name
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # of a pipe, the end would be waited for
                return Unreadable("unreadable_file", f"{name} is no file")
            with path.open("rb") as file:
                data = file.read(self.max_bytes + 1)
        except (OSError, ValueError) as exc:  # a name with a NUL is a ValueError
            return Unreadable("unreadable_file", f"{name} cannot be read: {getattr(exc, 'strerror', None) or exc}")
        if len(data) > self.max_bytes:
            return Unreadable(BodyTooLarge.code, f"{name} is larger than {self.max_bytes} bytes")
        return File(data)


def from_cells(fields: Sequence[Field], places: Sequence[int | None], cells: Sequence[str], files: Files) -> Question:
    """Return what a row of texts asks.

    Args:
        fields: Of the task.
        places: Of each field in the row; None where the table has no such column.
        cells: The row.
        files: That cells may name.
    """
    document: dict[str, Any] = {}
    for field, place in zip(fields, places, strict=True):
        if place is None:
            continue
        cell = cells[place]
        if field.kind == "number":
            value: Any = _number(cell)
        elif field.kind == "text":
            value = cell
        elif field.kind == "picture" and not cell.startswith("["):
            return picture(cell, files)
        else:
            if not cell and not field.is_required:
                continue
            value = _json(cell)
            if value is _NOT_JSON:
                return Unreadable("bad_cell", f"the cell of {field.column!r} is no JSON: {cell[:60]!r}")
        if value == "" and field.kind == "number":
            return Unreadable("empty_cell", f"the cell of {field.column!r} is empty")
        _put(document, field.path, value)
    return Instance(document)


def from_values(fields: Sequence[Field], values: Mapping[str, Any], files: Files) -> Question:
    """Return what a row of typed values asks, as Parquet has them; columns that are not there are left out."""
    document: dict[str, Any] = {}
    for field in fields:
        if field.column not in values:
            continue
        value = values[field.column]
        if field.kind == "picture" and isinstance(value, bytes):
            return File(value)
        if field.kind == "picture" and isinstance(value, str):
            return picture(value, files)
        if value is None and not field.is_required:
            continue
        _put(document, field.path, value)
    return Instance(document)


def picture(text: str, files: Files) -> Question:
    """Return the picture that a cell names by its path, or holds as base64.

    A path ends as pictures do; base64 has no dot.
    """
    if not text.lower().endswith(PICTURE_SUFFIXES):
        return Instance({"image": text})
    return files.read(text)


def as_base64(data: bytes) -> str:
    """Return a file as the member of an instance has it."""
    return base64.b64encode(data).decode()


_NOT_JSON = object()


def _json(cell: str) -> Any:
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return _NOT_JSON


def _number(cell: str) -> Any:
    """Return the number that a cell holds; what is none stays text, which the task then refuses."""
    try:
        # Python takes digits of all scripts and underscores for numbers, and nobody else does
        number = float(cell) if cell.isascii() and "_" not in cell else math.nan
    except ValueError:
        return cell.strip()
    return cell if math.isnan(number) and cell.strip().lower().lstrip("+-") != "nan" else number


def _put(document: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for name in path[:-1]:
        document = document.setdefault(name, {})
    document[path[-1]] = value
