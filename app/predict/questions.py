"""Files to the bodies of requests: a picture as it is, a text as text, JSON as a body or an instance, numbers in lines.

What a model takes is told by the type of its requests, which a running service tells in the model's card.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.predict.errors import BadUse

JSON = "application/json"
TEXT = "text/plain"
_PICTURES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8": "image/jpeg"}
STDIN = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a model takes.

    Attributes:
        media_types: Of whole bodies.
        members: Of an instance; of a member that is an object, the names of its own, else nothing.
    """

    media_types: Sequence[str]
    members: Mapping[str, Sequence[str]]

    @classmethod
    def of_schema(cls, media_types: Sequence[str], request_schema: Mapping[str, Any]) -> "Taken":
        """Read it off the JSON Schema of the requests."""
        defined = request_schema.get("$defs", {})

        def resolve(schema: Mapping[str, Any]) -> Mapping[str, Any]:
            name = schema.get("$ref", "").rpartition("/")[2]
            return defined[name] if name else schema

        instance = resolve(request_schema["properties"]["instances"]["items"])
        members = {
            name: tuple(resolve(schema).get("properties", {})) for name, schema in instance["properties"].items()
        }
        return cls(media_types=tuple(media_types), members=members)


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """The body of a request, and its media type."""

    data: bytes
    media_type: str


def read(name: str, most: int) -> bytes:
    """Return what a file, or the standard input as ``-``, holds.

    Raises:
        BadUse: It cannot be read, or holds more bytes than the most.
    """
    try:
        if name == STDIN:
            data = sys.stdin.buffer.read(most + 1)
        else:
            with Path(name).open("rb") as file:
                data = file.read(most + 1)
    except OSError as exc:
        raise BadUse(f"{name} cannot be read: {exc.strerror or exc}") from exc
    if len(data) > most:
        raise BadUse(f"{name} is larger than {most} bytes; for files of many rows there is --input FILE --output FILE")
    return data


def body_of(data: bytes, name: str, taken: Taken) -> Body:
    """Return the body that asks about the content of a file.

    Raises:
        BadUse: The model takes nothing of that kind.
    """
    for magic, media_type in _PICTURES.items():
        if data.startswith(magic):
            if media_type not in taken.media_types:
                raise BadUse(f"{name} is a picture, and this model takes {', '.join(taken.media_types)}")
            return Body(data=data, media_type=media_type)
    # a text may begin with a brace too: what it is, its name says
    if TEXT in taken.media_types and not name.lower().endswith(".json"):
        return Body(data=data, media_type=TEXT)
    document = _document(data, name)
    if not _is_body(document):
        document = {"instances": _instances(document, name, taken)}
    return Body(data=json.dumps(document).encode(), media_type=JSON)


def _document(data: bytes, name: str) -> Any:
    """Return a file as JSON; lines of numbers are lists of numbers."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise BadUse(f"{name} is no picture, no JSON and no text: byte {exc.start} is not UTF-8") from exc
    try:
        return json.loads(text)
    except ValueError as exc:
        if text.lstrip().startswith(("{", "[")) or name.lower().endswith(".json"):
            raise BadUse(f"{name} is no JSON: {exc}") from exc
    lines = [line for line in text.splitlines() if line.strip()]
    try:
        rows = [[float(cell) for cell in line.replace(",", " ").split()] for line in lines]
    except ValueError as exc:
        raise BadUse(f"{name} is neither JSON nor lines of numbers: {exc}") from exc
    if not rows:
        raise BadUse(f"{name} is empty")
    return rows[0] if len(rows) == 1 else rows


def _is_body(document: Any) -> bool:
    return isinstance(document, dict) and "instances" in document


def _instances(document: Any, name: str, taken: Taken) -> list[Any]:
    if isinstance(document, dict):
        return [document]
    if isinstance(document, list) and document and all(isinstance(item, dict) for item in document):
        return document
    if len(taken.members) != 1:
        raise BadUse(f"{name}: expected an instance, an object of {', '.join(taken.members)}")
    ((member, inner),) = taken.members.items()
    if not inner:
        return [{member: document}]
    if len(inner) == 1:
        return [{member: {inner[0]: document}}]
    rows = document if isinstance(document, list) and document and isinstance(document[0], list) else [document]
    for row in rows:
        if not isinstance(row, list) or len(row) != len(inner):
            found = f"{len(row)}" if isinstance(row, list) else "something else"
            raise BadUse(f"{name}: expected {len(inner)} numbers ({', '.join(inner[:3])}, ...), found {found}")
    return [{member: dict(zip(inner, row, strict=True))} for row in rows]
