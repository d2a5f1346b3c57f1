"""What stands in front of every door: one function that each request passes, whichever way it takes inside.

It asks for a key where one is needed, counts requests against the limits of whoever sends them, gives each its id and
its deadline, refuses a body that is too large before it is read, and knows when the service is leaving. It stands
before FastAPI's own middleware, which the fast way never enters.
"""

import asyncio
import itertools
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from app import encodings
from app.access.connections import Connections
from app.access.keys import Keys
from app.access.origins import Origins
from app.access.rates import Rates, Table
from app.access.roles import Role
from app.encodings import Acceptable, Inflater
from app.errors import (
    BodyTooLarge,
    ClientGone,
    DeadlineExceeded,
    MalformedBody,
    RequestError,
    code_of,
)
from app.header_lines import as_headers
from app.incoming import Incoming, Share
from app.metrics import Metrics
from app.observer import Observer
from app.settings import Settings
from app.tickets import MAX_TIMEOUT_MS, READERS, REQUEST_ID_HEADER, Reader, Ticket, admit_client, admit_origin

__all__ = ["MAX_TIMEOUT_MS", "REQUEST_ID_HEADER", "TICKET", "Admission", "Receive", "Ticket"]

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
# calls a function with its arguments off the event loop, unless a deadline (monotonic seconds) passes first
Offload = Callable[..., Awaitable[Any]]

# where a request that has been admitted carries its ticket in its ASGI scope
TICKET = "zto.ticket"

_CLOSE = (b"connection", b"close")
# of the headers that say how an answer may be encoded: clients send the same ones again and again
MAX_ACCEPTABLES = 256
# a longer body is inflated on a thread, and so is what a shorter one comes to beyond this: others would wait for longer
# than 0.2 ms; the way to a thread and back takes 0.03 ms of the processor
MAX_INFLATED_ON_LOOP = 64 * 1024


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
        is_closed: Whether the ports are closed, and no further connection is taken.
        origins: Whose pages may ask from a browser.
        connections: How many there are.
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
        admin_key = None if settings.admin_key is None else settings.admin_key.get_secret_value().encode("ascii")
        self._keys = Keys(settings.api_keys_file, admin_key)
        self._rates = Rates(settings.rate_limit, on_refusal=self._count_limited)
        self.origins = Origins(settings)
        self._has_origins = bool(self.origins)
        self.connections = Connections(settings)
        self._is_guarded = self._keys.are_needed or self._rates.are_for_all
        self._max_body_bytes = settings.max_body_bytes
        self._incoming = Incoming(settings.max_incoming_bytes)
        self._timeout_s = settings.timeout_ms / 1e3
        self._readers: dict[bytes, Reader] = READERS | {
            b"content-length": self._admit_length,
            b"accept-encoding": self._admit_accept_encoding,
        }
        if self.origins:
            self._readers[b"origin"] = admit_origin
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
        self.is_closed = False

    def admit(self, scope: Mapping[str, Any], role: Role | None = Role.PREDICT) -> Ticket:
        """Look at the headers of a request. Never raises: a refusal stands on the ticket.

        Args:
            scope: Of ASGI; ``headers`` and ``client`` are enough.
            role: What the request needs; None where anybody may send it, as often as it likes.
        """
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
        if self.observer is not None and self.observer.keeps_traces:
            ticket.trace = self.observer.begin(ticket.trace)
        if role is not None and (self._is_guarded or role is Role.ADMIN):
            self._guard(ticket, role)
        return ticket

    def _guard(self, ticket: Ticket, role: Role) -> None:
        """Ask for the key, and count the request; whoever has no good key is counted by its address."""
        key: str | None = None
        rate: str | None = None
        try:
            holder = self._keys.expect(role, ticket.authorization, ticket.api_key)
        except RequestError as exc:
            ticket.refusal = exc  # before anything that is wrong with the request
        else:
            if holder is not None:
                ticket.key = key = holder.name
                rate = holder.rate
        ticket.usage, limited = self._rates.count(ticket.received_at, key=key, rate=rate, address=ticket.client)
        if limited is not None:
            ticket.refusal = limited

    def refresh(self) -> None:
        """Read the keys again where they have changed; called once a second, by whoever serves."""
        was_read = self._keys.refresh()
        if was_read is None:
            return
        self._metrics.key_reads["ok" if was_read else "broken"] += 1
        self._rates.forget_keys()

    @property
    def needs_keys(self) -> bool:
        """Whether predicting and reading need a key."""
        return self._keys.are_needed

    @property
    def has_rates(self) -> bool:
        """Whether everybody has limits."""
        return self._rates.are_for_all

    def share_rates(self, table: Table) -> None:
        """Count requests together with other processes."""
        self._rates.share(table)

    def _count_limited(self, by: str) -> None:
        self._metrics.rate_limited[by] += 1

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
        receipts = [(REQUEST_ID_HEADER, ticket.request_id)]
        if ticket.usage:
            receipts += as_headers(ticket.usage)
        if self._has_origins:
            receipts += self.origins.answer(ticket.origin)
        if self.is_draining:
            receipts.append(_CLOSE)
        return receipts

    def receipt_lines(self, ticket: Ticket) -> bytes:
        """Return the receipts as they are written."""
        lines = b"x-request-id: %b\r\n%b" % (ticket.request_id, ticket.usage)
        if self._has_origins:
            lines += b"".join(b"%b: %b\r\n" % header for header in self.origins.answer(ticket.origin))
        return lines + b"connection: close\r\n" if self.is_draining else lines

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
            admit_client(ticket, value)

        self._readers[header] = read_both
