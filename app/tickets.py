"""What admission knows of a request, and how it is read out of the headers."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from app import encodings
from app.access.networks import network_of
from app.encodings import Acceptable
from app.errors import DeadlineExceeded, Fault, InvalidInput, Limit, RequestError, UnsupportedEncoding
from app.tracing import context
from app.tracing.context import Trace
from app.tracing.facts import Facts

REQUEST_ID_HEADER = b"x-request-id"
DEADLINE_HEADER = b"x-request-timeout-ms"
# of the Open Inference Protocol
INFERENCE_HEADER = b"inference-header-content-length"
MAX_TIMEOUT_MS = 3_600_000
# of the name of a client that is kept with its requests
MAX_CLIENT_BYTES = 128

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_BYTES = b"application/octet-stream"
# as nearly everybody writes them, with nothing to cut off
_PLAIN = frozenset((b"application/json", b"*/*"))


@dataclass(slots=True, kw_only=True)
class Ticket:
    """What admission knows of a request.

    Attributes:
        request_id: The caller's own where it is well-formed, else a new one.
        received_at: When its headers were read; monotonic seconds.
        deadline: When its caller stops waiting; monotonic seconds.
        is_default_deadline: Whether the service set it, and not the caller.
        content_type: Of the body, in lower case without parameters; empty where none is stated.
        content_length: Of the body as stated; None where it comes in chunks.
        content_encoding: Of the body; empty where it comes as it is.
        wants_bytes: Whether the answer is asked for as bytes (``Accept: application/octet-stream``).
        inference_header_length: What the caller says of the length of its JSON, where the bytes of tensors follow it.
        acceptable: How the answer may be encoded; None where nobody asked for that.
        client: Who asks: its address, or what the operator's header says.
        authorization: The header, where a key may be; empty where there is none.
        api_key: Likewise, ``X-API-Key``.
        key: Name of the key that it has; empty where none is needed.
        usage: The header lines that tell what is left of its limits; empty where it has none.
        origin: Of the page that asks, where pages of other origins may; else empty.
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
    authorization: bytes = field(default=b"", repr=False)  # secrets
    api_key: bytes = field(default=b"", repr=False)
    key: str = ""
    usage: bytes = b""
    is_default_deadline: bool = True
    origin: bytes = b""
    refusal: RequestError | None = None
    trace: Trace | None = None
    _facts: Facts | None = field(default=None, init=False, repr=False)

    @property
    def lane(self) -> str:
        """Who shares a queue with others: whoever asks, and with it everybody in its network of IPv6."""
        return network_of(self.client)

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

    def explain(self, error: Exception) -> None:
        """Let an error say that it was the service's own deadline that passed, where it was."""
        if isinstance(error, DeadlineExceeded) and self.is_default_deadline:
            error.limit = Limit("default_timeout_ms", round((self.deadline - self.received_at) * 1e3))


def _admit_type(ticket: Ticket, value: bytes) -> None:
    ticket.content_type = value if value in _PLAIN else value.partition(b";")[0].strip().lower()


def _admit_accept(ticket: Ticket, value: bytes) -> None:
    ticket.wants_bytes = value not in _PLAIN and value.partition(b";")[0].strip().lower() == _BYTES


def _admit_authorization(ticket: Ticket, value: bytes) -> None:
    # of one that is there twice, nothing that is any good
    ticket.authorization = b"%b, %b" % (ticket.authorization, value) if ticket.authorization else value


def admit_origin(ticket: Ticket, value: bytes) -> None:
    """Read the origin of the page that asks."""
    ticket.origin = value


def _admit_api_key(ticket: Ticket, value: bytes) -> None:
    ticket.api_key = b"%b, %b" % (ticket.api_key, value) if ticket.api_key else value


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


def admit_client(ticket: Ticket, value: bytes) -> None:
    """Read who asks from the header that the operator has named."""
    # of a list the last entry, which the nearest proxy wrote: those before it are the caller's own words
    ticket.client = value.rpartition(b",")[2].strip()[-MAX_CLIENT_BYTES:].decode("latin-1")


def _admit_deadline(ticket: Ticket, value: bytes) -> None:
    if value.isdigit() and len(value) <= 9 and 0 < int(value) <= MAX_TIMEOUT_MS:
        ticket.deadline = ticket.received_at + int(value) / 1e3
        ticket.is_default_deadline = False
        return
    message = f"expected whole milliseconds from 1 to {MAX_TIMEOUT_MS}, found {value.decode('latin-1')[:32]!r}"
    place, limit = "header:X-Request-Timeout-Ms", Limit("max_timeout_ms", MAX_TIMEOUT_MS)
    ticket.refusal = InvalidInput(Fault(pointer=place, code="out_of_range", message=message, limit=limit))


Reader = Callable[[Ticket, bytes], None]
# what is read of each header, but for those that admission itself reads
READERS: dict[bytes, Reader] = {
    b"content-type": _admit_type,
    b"content-encoding": _admit_encoding,
    b"accept": _admit_accept,
    b"authorization": _admit_authorization,
    b"x-api-key": _admit_api_key,
    REQUEST_ID_HEADER: _admit_id,
    DEADLINE_HEADER: _admit_deadline,
    INFERENCE_HEADER: _admit_inference_header,
    context.HEADER: _admit_trace,
}
