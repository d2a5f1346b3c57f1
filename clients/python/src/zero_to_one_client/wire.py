"""The forms that every door of the service shares: what a bad answer says, and when it says to come back."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from zero_to_one_client.errors import ClientError, Fault, Limit, Problem, UnexpectedAnswer, error_of
from zero_to_one_client.flows import HttpResponse

JSON = "application/json"
BYTES = "application/octet-stream"
WallClock = Callable[[], float]


def error_in(response: HttpResponse, now: WallClock) -> ClientError | None:
    """Return the error that an answer is; None where it is a good one.

    Args:
        response: As it came.
        now: Seconds since 1970, for a ``Retry-After`` that is a date.
    """
    if response.status == HTTPStatus.OK:
        return None
    if response.status < HTTPStatus.BAD_REQUEST:
        return UnexpectedAnswer(f"expected an answer, found status {response.status}; is this the service's address?")
    return error_of(problem_of(response, now))


def problem_of(response: HttpResponse, now: WallClock) -> Problem:
    """Return what a bad answer says, whoever wrote it: this service, its V2 door, or a proxy that knows neither."""
    told = _told(response.body)
    phrase = _phrase(response.status)
    detail = told.get("detail", told.get("error"))
    return Problem(
        status=response.status,
        code=_text(told.get("code")) or phrase.lower().replace(" ", "_"),
        title=_text(told.get("title")) or phrase,
        detail=_text(detail) or response.body[:256].decode("utf-8", "replace").strip() or phrase,
        faults=tuple(_faults(told.get("errors"))),
        request_id=_text(told.get("request_id")) or response.headers.get("x-request-id"),
        retry_after_s=retry_after_s(response.headers, now),
        limit=_limit(told.get("limit")),
    )


def retry_after_s(headers: Mapping[str, str], now: WallClock) -> float | None:
    """Return the seconds that ``Retry-After`` asks for, as a number or as a date; None where it says nothing."""
    value = headers.get("retry-after", "").strip()
    # isdecimal alone takes the digits of every script
    if value.isascii() and value.isdecimal():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    # a date of HTTP is one of Greenwich; what says nothing of its zone is taken as such
    return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now())


def _told(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _faults(entries: object) -> list[Fault]:
    found = entries if isinstance(entries, list) else []
    return [
        Fault(
            pointer=_text(entry.get("pointer")) or "#",
            code=_text(entry.get("code")) or "",
            detail=_text(entry.get("detail")) or "",
        )
        for entry in found
        if isinstance(entry, dict)
    ]


def _limit(entry: object) -> Limit | None:
    if not isinstance(entry, dict) or (name := _text(entry.get("name"))) is None:
        return None
    value = entry.get("value")
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    return Limit(name=name, value=value)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"Status {status}"
