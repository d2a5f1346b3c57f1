"""From pydantic's errors to ours: one fault per error, each with a pointer to its place."""

from typing import Literal
from urllib.parse import quote

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from app.errors import Fault, InvalidInput, quoted

MAX_FAULTS = 64
# more than any object of ours has, but for rows of features; what it holds beyond would cost a fault each
MAX_MEMBERS = 16


def pointer(*parts: str | int) -> str:
    """Return a JSON pointer as a URI fragment (RFC 6901, section 6); a very long name in it is cut."""
    escaped = (quoted(str(part)).replace("~", "~0").replace("/", "~1") for part in parts)
    return "#" + "".join("/" + quote(part, safe="~!$&'()*+,;=:@-._", errors="replace") for part in escaped)


def invalid_input(error: ValidationError, *, place: Literal["body", "query"] = "body") -> InvalidInput:
    """Translate a validation error; at most ``MAX_FAULTS`` are spelled out, the others counted."""
    details = error.errors(include_url=False, include_input=False)
    faults = [_fault(detail, place) for detail in details[:MAX_FAULTS]]
    return InvalidInput(*faults, more=len(details) - len(faults))


def expect_few_members(value: object, *place: str | int, most: int = MAX_MEMBERS) -> None:
    """Refuse an object of so many members that the naming of each unknown one would cost far more than the request.

    Raises:
        InvalidInput: It is one.
    """
    if isinstance(value, dict) and len(value) > most:
        message = f"expected an object of at most {most} members, found {len(value)}"
        raise InvalidInput(Fault(pointer=pointer(*place), code="too_many_members", message=message))


def _fault(detail: ErrorDetails, place: Literal["body", "query"]) -> Fault:
    names = ".".join(str(part) for part in detail["loc"])
    where = pointer(*detail["loc"]) if place == "body" else f"query:{quoted(names)}"
    message = detail["msg"].removeprefix("Value error, ")
    return Fault(pointer=where, code=detail["type"], message=message, limit=detail.get("ctx", {}).get("limit"))
