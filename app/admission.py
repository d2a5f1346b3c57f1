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
from dataclasses import dataclass, field
from typing import Any

from app import encodings
from app.encodings import Acceptable, Inflater
from app.errors import (
    BodyTooLarge,
    ClientGone,
    DeadlineExceeded,
    Fault,
    InvalidInput,
    MalformedBody,
    NotAllowed,
    RequestError,
    UnsupportedEncoding,
    WrongKey,
    code_of,
)
from app.incoming import Incoming, Share
from app.metrics import Metrics
from app.observer import Observer
from app.settings import Settings
from app.tracing import context
from app.tracing.context import Trace
from app.tracing.facts import Facts

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
# calls a function with its arguments off the event loop, unless a deadline (monotonic seconds) passes first
Offload = Callable[..., Awaitable[Any]]

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
# of the headers that say how an answer may be encoded: clients send the same ones again and again
MAX_ACCEPTABLES = 256
# a longer body is inflated on a thread, and so is what a shorter one comes to beyond this: others would wait for longer
# than 0.2 ms; the way to a thread and back takes 0.03 ms of the processor
MAX_INFLATED_ON_LOOP = 64 * 1024
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
        content_encoding: Of the body; empty where it comes as it is.
        wants_bytes: Whether the answer is asked for as bytes (``Accept: application/octet-stream``).
        inference_header_length: What the caller says of the length of its JSON, where the bytes of tensors follow it.
        acceptable: How the answer may be encoded; None where nobody asked for that.
        client: Who asks, for fairness between clients: its address, or what the operator's header says.
        refusal: Why it is not let in; None where it is.
        trace: Where it stands in a trace; None where it stands in none.
    """

    request_id: bytes
    received_at: float
    deadline: float
    content_type: bytes = b""
    content_length: int | None = None
    content_encoding: bytes = b""
    wants_bytes: bool = False
    inference_header_length: bytes | None = None
    acceptable: Acceptable | None = None
    client: str = ""
    refusal: RequestError | None = None
    trace: Trace | None = None
    _facts: Facts | None = field(default=None, init=False, repr=False)

    @property
    def trace_id(self) -> bytes:
        """The trace that it belongs to; empty where it belongs to none."""
        return b"" if self.trace is None else self.trace.trace_id

    @property
    def facts(self) -> Facts:
        """What is told of it when it is over; its door notes it here."""
        if self._facts is None:  # the short way needs none
            self._facts = Facts()
        return self._facts


class Admission:
    """Lets requests in, or says why not.

    Args:
        settings: Of the service.
        metrics: Told of refusals.
        clock: Monotonic seconds.
        offload: Where large bodies are inflated; None for the event loop.
        observer: Told of every request when it is over; None for nobody.

    Attributes:
        observer: As above.
        is_draining: Whether the service is leaving: it is unready, and closes each connection with its next answer.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        *,
        clock: Callable[[], float] = time.monotonic,
        offload: Offload | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._admin_key = None if settings.admin_key is None else settings.admin_key.get_secret_value().encode("ascii")
        self._max_body_bytes = settings.max_body_bytes
        self._incoming = Incoming(settings.max_incoming_bytes)
        self._timeout_s = settings.timeout_ms / 1e3
        self._readers: dict[bytes, Callable[[Ticket, bytes], None]] = {
            b"content-length": self._admit_length,
            b"content-type": _admit_type,
            b"content-encoding": _admit_encoding,
            b"accept": _admit_accept,
            b"accept-encoding": self._admit_accept_encoding,
            REQUEST_ID_HEADER: _admit_id,
            DEADLINE_HEADER: _admit_deadline,
            INFERENCE_HEADER: _admit_inference_header,
            context.HEADER: _admit_trace,
        }
        if settings.client_header:
            self._read_client_from(settings.client_header.lower().encode())
        self._acceptables: dict[bytes, Acceptable] = {}
        self._metrics = metrics
        self.observer = observer
        self._offload = offload
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
        reader_of = self._readers.get
        for name, value in scope["headers"]:
            if (read := reader_of(name)) is not None:  # most are not read
                read(ticket, value)
        if not ticket.request_id:
            ticket.request_id = self._id_prefix + b"%d" % next(self._id_counter)
        if self.observer is not None:
            ticket.trace = self.observer.begin(ticket.trace)
        return ticket

    def share(self) -> Share:
        """Return the account of one body or message, which all that are held share the limit of; see :class:`Share`."""
        return self._incoming.share()

    async def read_body(self, ticket: Ticket, receive: Receive) -> bytes:
        """Read the whole body, and inflate it where it is encoded.

        Raises:
            BodyTooLarge: It grew beyond the limit; what came is forgotten and the rest not read.
            DeadlineExceeded: The deadline passed before its end.
            DeadlineExceeded: The deadline passed before it was inflated.
            MalformedBody: It is not encoded as it says.
            Overloaded: Too many bytes of other bodies are on their way.
            ClientGone: The caller hung up before its end.
        """
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            body: bytes = message.get("body", b"")
            if len(body) > self._max_body_bytes:
                raise BodyTooLarge(self._max_body_bytes)
            return await self._inflate(ticket, body) if ticket.content_encoding else body
        with self._incoming.share() as share:
            try:
                async with asyncio.timeout(ticket.deadline - self._clock()):
                    body = await self._read_parts(message, receive, share)
            except TimeoutError:
                raise DeadlineExceeded("the deadline passed while the body came") from None
            return await self._inflate(ticket, body) if ticket.content_encoding else body

    async def _read_parts(self, message: Message, receive: Receive, share: Share) -> bytes:
        """Read a body that comes in several parts, counting what all such bodies hold."""
        parts: list[bytes] = []
        while message["type"] == "http.request":
            part = message.get("body", b"")
            share.add(len(part))
            if share.size > self._max_body_bytes:
                raise BodyTooLarge(self._max_body_bytes)
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)
            message = await receive()
        raise ClientGone("the caller hung up before the whole body had come")

    async def _inflate(self, ticket: Ticket, body: bytes) -> bytes:
        """Inflate a body, counting what all bodies hold; what takes long is done off the event loop."""
        if not body:
            raise MalformedBody(f"the body is empty, which no {ticket.content_encoding.decode()} is")
        with self._incoming.share() as share:
            inflater = Inflater(ticket.content_encoding, body, limit_bytes=self._max_body_bytes, count=share.add)
            if self._offload is None:
                on_loop_bytes = self._max_body_bytes
            else:
                on_loop_bytes = MAX_INFLATED_ON_LOOP if len(body) <= MAX_INFLATED_ON_LOOP else -1
            inflated = inflater.advance(on_loop_bytes)
            if inflated is None and self._offload is not None:
                # one that is given up at the deadline ends by itself: its share is closed
                inflated = await self._offload(ticket.deadline, inflater.advance, self._max_body_bytes)
            assert inflated is not None  # what is larger was refused
            return inflated

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
        self._metrics.refusals[code_of(error)] += 1

    def offer(self, ticket: Ticket, body: bytes) -> None:
        """Show a whole body to whoever has been asked to tell of some."""
        if self.observer is not None and self.observer.with_payloads:
            self.observer.offer(ticket, body)

    def finish(self, ticket: Ticket, status: int | str) -> None:
        """Count what the answer of a model took to write, and tell of a request that is over, as its door has noted.

        Args:
            ticket: Of the request.
            status: It was answered with; 0 where it got no answer.
        """
        facts, now = ticket.facts, self._clock()
        facts.status = status
        if facts.answered_at and facts.model and not facts.code:
            self._metrics.stage_s[facts.model, "write"].observe(now - facts.answered_at)
            self._metrics.request_s[facts.door, facts.model].observe(now - ticket.received_at)
        if self.observer is not None:
            self.observer.finish(ticket, facts, now=now)

    def _admit_length(self, ticket: Ticket, value: bytes) -> None:
        if value.isdigit():  # the server has refused what is no number
            ticket.content_length = int(value)
            if ticket.content_length > self._max_body_bytes:
                ticket.refusal = BodyTooLarge(self._max_body_bytes)

    def _admit_accept_encoding(self, ticket: Ticket, value: bytes) -> None:
        if ticket.acceptable is not None:  # a list may come in several headers
            value = b"%b,%b" % (ticket.acceptable.header, value)
        found = self._acceptables.get(value)
        if found is None:
            found = encodings.read_accept_encoding(value)
            if len(value) <= encodings.MAX_ACCEPT_BYTES:
                if len(self._acceptables) >= MAX_ACCEPTABLES:
                    self._acceptables.clear()
                self._acceptables[value] = found
        ticket.acceptable = found

    def _read_client_from(self, header: bytes) -> None:
        """Read the client from a header, which may be one of those that are read anyway."""
        read = self._readers.get(header)

        def read_both(ticket: Ticket, value: bytes) -> None:
            if read is not None:
                read(ticket, value)
            _admit_client(ticket, value)

        self._readers[header] = read_both


def _admit_type(ticket: Ticket, value: bytes) -> None:
    ticket.content_type = value if value in _PLAIN else value.partition(b";")[0].strip().lower()


def _admit_accept(ticket: Ticket, value: bytes) -> None:
    ticket.wants_bytes = value not in _PLAIN and value.partition(b";")[0].strip().lower() == _BYTES


def _admit_encoding(ticket: Ticket, value: bytes) -> None:
    try:
        coding = encodings.read_content_encoding(value)
    except UnsupportedEncoding as exc:
        ticket.refusal = exc
        return
    if coding and ticket.content_encoding:  # a list may come in several headers
        ticket.refusal = UnsupportedEncoding("the body has more than one Content-Encoding; encode it once")
    ticket.content_encoding = coding or ticket.content_encoding


def _admit_id(ticket: Ticket, value: bytes) -> None:
    if _REQUEST_ID.fullmatch(value):
        ticket.request_id = value


def _admit_trace(ticket: Ticket, value: bytes) -> None:
    ticket.trace = context.parse(value)


def _admit_inference_header(ticket: Ticket, value: bytes) -> None:
    ticket.inference_header_length = value


def _admit_client(ticket: Ticket, value: bytes) -> None:
    # of a list the last entry, which the nearest proxy wrote: those before it are the caller's own words
    ticket.client = value.rpartition(b",")[2].strip()[-MAX_CLIENT_BYTES:].decode("latin-1")


def _admit_deadline(ticket: Ticket, value: bytes) -> None:
    if value.isdigit() and len(value) <= 9 and 0 < int(value) <= MAX_TIMEOUT_MS:
        ticket.deadline = ticket.received_at + int(value) / 1e3
        return
    message = f"expected whole milliseconds from 1 to {MAX_TIMEOUT_MS}, found {value.decode('latin-1')[:32]!r}"
    ticket.refusal = InvalidInput(Fault(pointer="header:X-Request-Timeout-Ms", code="out_of_range", message=message))
