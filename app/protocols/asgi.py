"""What the doors over HTTP do alike: write a reply as ASGI has it, notice a caller who leaves, refuse."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from fastapi import Response

from app.admission import Admission, Receive, Ticket
from app.errors import ModelNotReady, ServingError
from app.protocols.answers import Reply

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
        logger.error("request %s failed", ticket.request_id.decode("ascii"), exc_info=error)
    admission.count_refusal(error)
    ticket.explain(error)
    return Reply(*render(error, ticket.request_id))
