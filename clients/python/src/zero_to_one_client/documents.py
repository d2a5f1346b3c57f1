"""Reads what the service answers: every value is held to its type, and what is not there has an error that says so."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from zero_to_one_client.errors import UnexpectedAnswer

Document: TypeAlias = Mapping[str, Any]


def parse(body: bytes, what: str) -> Document:
    """Return a JSON object.

    Raises:
        UnexpectedAnswer: It is none.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as exc:  # UnicodeDecodeError is a ValueError; nested too deep is neither
        raise UnexpectedAnswer(f"{what}: expected JSON, found {body[:64]!r}") from exc
    if not isinstance(document, dict):
        raise UnexpectedAnswer(f"{what}: expected a JSON object, found {type(document).__name__}")
    return document


def text(document: Document, key: str) -> str:
    """Return a member that is a string."""
    value: str = _of(document, key, str)
    return value


def text_or_none(document: Document, key: str) -> str | None:
    """Return a member that is a string; None where it is null or not there."""
    return None if document.get(key) is None else text(document, key)


def number(document: Document, key: str) -> float:
    """Return a member that is a number."""
    value = _of(document, key, (int, float))
    return float(value)


def number_or_none(document: Document, key: str) -> float | None:
    """Return a member that is a number; None where it is null or not there."""
    return None if document.get(key) is None else number(document, key)


def whole(document: Document, key: str) -> int:
    """Return a member that is a whole number."""
    value: int = _of(document, key, int)
    return value


def truth(document: Document, key: str) -> bool:
    """Return a member that is true or false."""
    value = document.get(key)
    if not isinstance(value, bool):
        raise _unlike(key, "true or false", value)
    return value


def members(document: Document, key: str) -> Document:
    """Return a member that is an object."""
    value: Document = _of(document, key, dict)
    return value


def objects(document: Document, key: str) -> Sequence[Document]:
    """Return a member that is a list of objects; empty where it is null or not there."""
    values = items(document, key)
    for value in values:
        if not isinstance(value, dict):
            raise _unlike(key, "objects", value)
    return values


def items(document: Document, key: str) -> Sequence[Any]:
    """Return a member that is a list; empty where it is null or not there."""
    return () if document.get(key) is None else _of(document, key, list)


def numbers(document: Document, key: str) -> Mapping[str, float]:
    """Return a member that is an object of numbers, in its order."""
    values = members(document, key)
    return {name: number(values, name) for name in values}


def _of(document: Document, key: str, kind: type | tuple[type, ...]) -> Any:
    value = document.get(key)
    # a truth value is an int to Python, and no number to JSON
    if not isinstance(value, kind) or isinstance(value, bool):
        raise _unlike(key, getattr(kind, "__name__", "a number"), value)
    return value


def _unlike(key: str, expected: str, found: object) -> UnexpectedAnswer:
    return UnexpectedAnswer(f"expected {key!r} to be {expected}, found {type(found).__name__}")
