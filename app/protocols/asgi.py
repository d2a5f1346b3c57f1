"""What the doors over HTTP do alike: write a reply as ASGI has it, notice a caller who leaves, refuse."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from fastapi import Response

from app.admission import Admission, Receive, Ticket
from app.errors import ModelNotReady, ServingError, code_of
from app.logs import about
from app.protocols.answers import Reply
from app.serving.jobs import Answer
from app.serving.versions import Version

Send: TypeAlias = Callable[[Any], Awaitable[None]]
# returns status, headers and body of an error; takes the id of the request too
Render: TypeAlias = Callable[[Exception, bytes], tuple[int, list[tuple[bytes, bytes]], bytes]]


async def send_reply(reply: Reply, receipts: list[tuple[bytes, bytes]], send: Send) -> None:
    """Send a whole answer, with the receipts of admission."""
    await send({"type": "http.response.start", "status": reply.status, "headers": [*reply.headers, *receipts]})
    await send({"type": "http.response.body", "body": reply.body})


def as_response(reply: Reply) -> Response:
    """Return a whole answer for FastAPI's routes; the application adds the receipts."""
    response = Response(reply.body, reply.status)
    response.raw_headers = list(reply.headers)
    return response


def note(ticket: Ticket, door: str, version: Version | None) -> None:
    """Note who has answered a request, for whoever tells of it when it is over."""
    facts = ticket.facts
    facts.door = door
    if version is not None:
        facts.model, facts.version = version.ref.name, str(version.ref.version)


def note_answer(ticket: Ticket, answer: Answer, parse_s: float, now: float) -> None:
    """Note how a model has answered a request, likewise."""
    ticket.facts.answer(
        answer, rows=answer.stop - answer.start, parse_s=parse_s, at=now, batch=answer.batch.trace
    )  # fmt: skip


async def hung_up(receive: Receive) -> None:
    """Return when the caller has gone; the body has been read, so nothing else can come."""
    while (await receive())["type"] != "http.disconnect":
        pass


def refuse(
    error: Exception | asyncio.CancelledError,
    ticket: Ticket,
    admission: Admission,
    render: Render,
    *,
    logger: logging.Logger,
) -> Reply:
    """Return what a caller is told instead of an answer, and count it; a defect of ours is logged with its story.

    Raises:
        CancelledError: That is the error, and not because the service ends.
    """
    if isinstance(error, asyncio.CancelledError):  # uvicorn cuts what has outlasted the end of the service
        if not admission.is_draining:
            raise error
        error = ModelNotReady("the service is shutting down")
    elif not isinstance(error, ServingError):
        logger.error("request %s failed", ticket.request_id.decode("ascii"), exc_info=error, extra=about(ticket))
    admission.count_refusal(error)
    ticket.facts.code = code_of(error)
    ticket.explain(error)
    return Reply(*render(error, ticket.request_id))
