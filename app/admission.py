"""What stands in front of every door: one function that each request passes, whichever way it takes inside.

It gives the request its id and its deadline, refuses a body that is too large before it is read, and knows when the
service is leaving. It stands before FastAPI's own middleware, which the fast way never enters.
"""

import asyncio
import hmac
import itertools
import os
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from app.errors import (
    BodyTooLarge,
    ClientGone,
    DeadlineExceeded,
    Fault,
    InvalidInput,
    NotAllowed,
    Overloaded,
    RequestError,
    UnsupportedMedia,
    WrongKey,
)
from app.metrics import Metrics
from app.settings import Settings

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Any]]

# where a request that has been admitted carries its ticket in its ASGI scope
TICKET = "zto.ticket"

REQUEST_ID_HEADER = b"x-request-id"
DEADLINE_HEADER = b"x-request-timeout-ms"
# of the Open Inference Protocol
INFERENCE_HEADER = b"inference-header-content-length"
MAX_TIMEOUT_MS = 3_600_000

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_CLOSE = (b"connection", b"close")
_BYTES = b"application/octet-stream"
# as nearly everybody writes them, with nothing to cut off
_PLAIN = frozenset((b"application/json", b"*/*"))
_KNOWN_HEADERS = (
    b"content-type",
    b"content-length",
    b"accept",
    b"content-encoding",
    INFERENCE_HEADER,
    REQUEST_ID_HEADER,
    DEADLINE_HEADER,
)
# of the name of a client that is kept with its requests
MAX_CLIENT_BYTES = 128


@dataclass(slots=True, kw_only=True)
class Ticket:
    """What admission knows of a request.

    Attributes:
        request_id: The caller's own where it is well-formed, else a new one.
        received_at: When its headers were read; monotonic seconds.
        deadline: When its caller stops waiting; monotonic seconds.
        content_type: Of the body, in lower case without parameters; empty where none is stated.
        content_length: Of the body as stated; None where it comes in chunks.
        wants_bytes: Whether the answer is asked for as bytes (``Accept: application/octet-stream``).
        inference_header_length: What the caller says of the length of its JSON, where the bytes of tensors follow it.
        client: Who asks, for fairness between clients: its address, or what the operator's header says.
        refusal: Why it is not let in; None where it is.
    """

    request_id: bytes
    received_at: float
    deadline: float
    content_type: bytes = b""
    content_length: int | None = None
    wants_bytes: bool = False
    inference_header_length: bytes | None = None
    client: str = ""
    refusal: RequestError | None = None


class Admission:
    """Lets requests in, or says why not.

    Args:
        settings: Of the service.
        metrics: Told of refusals.
        clock: Monotonic seconds.

    Attributes:
        is_draining: Whether the service is leaving: it is unready, and closes each connection with its next answer.
    """

    def __init__(self, settings: Settings, metrics: Metrics, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._admin_key = None if settings.admin_key is None else settings.admin_key.get_secret_value().encode("ascii")
        self._max_body_bytes = settings.max_body_bytes
        self._max_bytes_on_their_way = settings.max_incoming_bytes
        self._bytes_on_their_way = 0
        self._timeout_s = settings.timeout_ms / 1e3
        self._client_header = settings.client_header.lower().encode() if settings.client_header else None
        self._known_headers = {*_KNOWN_HEADERS, *([self._client_header] if self._client_header else [])}
        self._metrics = metrics
        self._clock = clock
        self._id_prefix = os.urandom(6).hex().encode() + b"-"
        self._id_counter = itertools.count(1)
        self.is_draining = False

    def admit(self, scope: Mapping[str, Any]) -> Ticket:
        """Look at the headers of a request. Never raises: a refusal stands on the ticket."""
        now = self._clock()
        ticket = Ticket(request_id=b"", received_at=now, deadline=now + self._timeout_s)
        if address := scope.get("client"):
            ticket.client = address[0]
        for name, value in scope["headers"]:
            if name in self._known_headers:  # most are not
                self._admit_header(ticket, name, value)
        if not ticket.request_id:
            ticket.request_id = self._id_prefix + b"%d" % next(self._id_counter)
        return ticket

    def _admit_header(self, ticket: Ticket, name: bytes, value: bytes) -> None:  # noqa: C901  a table soon
        if name == b"content-length":
            self._admit_length(ticket, value)
        elif name == b"content-type":
            ticket.content_type = value if value in _PLAIN else value.partition(b";")[0].strip().lower()
        elif name == b"accept":
            ticket.wants_bytes = value not in _PLAIN and value.partition(b";")[0].strip().lower() == _BYTES
        elif name == b"content-encoding":
            if value.strip().lower() not in (b"", b"identity"):
                ticket.refusal = UnsupportedMedia(
                    f"the body is encoded as {value.decode('latin-1')[:32]!r}; send it as it is, without "
                    "Content-Encoding"
                )
        elif name == REQUEST_ID_HEADER:
            if _REQUEST_ID.fullmatch(value):
                ticket.request_id = value
        elif name == DEADLINE_HEADER:
            self._admit_deadline(ticket, value)
        elif name == INFERENCE_HEADER:
            ticket.inference_header_length = value
        if name == self._client_header:  # which may be one of the others
            # of a list the last entry, which the nearest proxy wrote: those before it are the caller's own words
            ticket.client = value.rpartition(b",")[2].strip()[-MAX_CLIENT_BYTES:].decode("latin-1")

    async def read_body(self, ticket: Ticket, receive: Receive) -> bytes:
        """Read the whole body.

        Raises:
            BodyTooLarge: It grew beyond the limit; what came is forgotten and the rest not read.
            Overloaded: Too many bytes of other bodies are on their way.
            DeadlineExceeded: The deadline passed before its end.
            ClientGone: The caller hung up before its end.
        """
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            body: bytes = message.get("body", b"")
            if len(body) > self._max_body_bytes:
                raise BodyTooLarge(self._max_body_bytes)
            return body
        try:
            async with asyncio.timeout(ticket.deadline - self._clock()):
                return await self._read_parts(message, receive)
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed while the body came") from None

    async def _read_parts(self, message: Message, receive: Receive) -> bytes:
        """Read a body that comes in several parts, counting what all such bodies hold."""
        parts: list[bytes] = []
        size = 0
        try:
            while message["type"] == "http.request":
                part = message.get("body", b"")
                size += len(part)
                self._bytes_on_their_way += len(part)
                if size > self._max_body_bytes:
                    raise BodyTooLarge(self._max_body_bytes)
                if self._bytes_on_their_way > self._max_bytes_on_their_way:
                    raise Overloaded("too many large bodies are on their way", retry_after_s=1.0)
                parts.append(part)
                if not message.get("more_body", False):
                    return b"".join(parts)
                message = await receive()
            raise ClientGone("the caller hung up before the whole body had come")
        finally:
            self._bytes_on_their_way -= size

    def receipts(self, ticket: Ticket) -> list[tuple[bytes, bytes]]:
        """Return the headers that every answer carries."""
        if self.is_draining:
            return [(REQUEST_ID_HEADER, ticket.request_id), _CLOSE]
        return [(REQUEST_ID_HEADER, ticket.request_id)]

    def receipt_lines(self, ticket: Ticket) -> bytes:
        """Return the receipts as they are written."""
        close = b"connection: close\r\n" if self.is_draining else b""
        return b"x-request-id: %b\r\n%b" % (ticket.request_id, close)

    def expect_admin(self, authorization: bytes | None) -> None:
        """Let only those on who have the admin key.

        Args:
            authorization: The value of the request's header; None where it has none.

        Raises:
            NotAllowed: This service has no admin key.
            WrongKey: The request has none, or another one.
        """
        if self._admin_key is None:
            raise NotAllowed(
                "this service has no admin key; set ZTO_ADMIN_KEY, and send it as Authorization: Bearer KEY"
            )
        scheme, _, key = (authorization or b"").partition(b" ")
        # takes as long whether the first byte is wrong or the last
        if not hmac.compare_digest(key.strip(), self._admin_key) or scheme.lower() != b"bearer":
            told = "the admin key is wrong" if authorization else "this needs the admin key"
            raise WrongKey(f"{told}; send it as Authorization: Bearer KEY")

    def count_refusal(self, error: Exception) -> None:
        """Count a request that got no answer from a model."""
        self._metrics.refusals[getattr(error, "code", type(error).__name__)] += 1

    def _admit_length(self, ticket: Ticket, value: bytes) -> None:
        if value.isdigit():  # the server has refused what is no number
            ticket.content_length = int(value)
            if ticket.content_length > self._max_body_bytes:
                ticket.refusal = BodyTooLarge(self._max_body_bytes)

    def _admit_deadline(self, ticket: Ticket, value: bytes) -> None:
        if value.isdigit() and len(value) <= 9 and 0 < int(value) <= MAX_TIMEOUT_MS:
            ticket.deadline = ticket.received_at + int(value) / 1e3
            return
        message = f"expected whole milliseconds from 1 to {MAX_TIMEOUT_MS}, found {value.decode('latin-1')[:32]!r}"
        ticket.refusal = InvalidInput(
            Fault(pointer="header:X-Request-Timeout-Ms", code="out_of_range", message=message)
        )
