"""Answers that are compressed where their client asks for it, and where that is worth its time.

Nearly every client asks, most of them by default; so small answers go as they are. Plain predictions that take the
short way are encoded by their own door, all others where the application sends them.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from app.admission import Ticket
from app.encodings import Acceptable, encode
from app.errors import DeadlineExceeded, Overloaded
from app.protocols.answers import Written
from app.protocols.decoders import Decoders

Send = Callable[[Any], Awaitable[None]]

# a larger answer is encoded on a thread: others would wait for 0.25 ms; the way there and back takes 0.03 ms
MAX_BYTES_ON_LOOP = 32 * 1024
_VARY = (b"vary", b"accept-encoding")


class Compression:
    """Encodes answers.

    Args:
        from_bytes: Of the smallest answer that is worth it.
        decoders: Where large answers are encoded, off the event loop.
    """

    def __init__(self, from_bytes: int, *, decoders: Decoders) -> None:
        self._from_bytes = from_bytes
        self._decoders = decoders

    def applies(self, ticket: Ticket, num_bytes: int) -> bool:
        """Tell whether an answer of so many bytes is to be encoded."""
        acceptable = ticket.acceptable
        if acceptable is None or not acceptable.coding or num_bytes == 0:
            return False
        return num_bytes >= self._from_bytes or acceptable.must_encode

    async def encoded(self, ticket: Ticket, written: Written) -> Written:
        """Return an answer as its client is to have it.

        Args:
            ticket: Of the request.
            written: The answer, which may go as it is: where nothing is gained, or no thread has time.
        """
        acceptable = ticket.acceptable
        if acceptable is None or not self.applies(ticket, len(written.body)):
            return written
        if len(written.body) <= MAX_BYTES_ON_LOOP:
            return encode_written(written, acceptable)
        try:
            return await self._decoders.run(ticket.deadline, encode_written, written, acceptable)
        except (Overloaded, DeadlineExceeded):
            return written

    def sending(self, ticket: Ticket, method: str, send: Send) -> Send:
        """Return a ``send`` of ASGI that encodes the answer to a request, where that is one message."""
        is_read_again = method == "GET"  # out of a cache, maybe by a client that takes other codings
        if method == "HEAD" or (ticket.acceptable is None and not is_read_again):
            return send
        started: Mapping[str, Any] | None = None

        async def send_encoded(message: Mapping[str, Any]) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = message
                return
            if started is not None:
                start, started = started, None
                if not message.get("more_body", False):
                    start, message = await self._encoded_messages(ticket, start, message, is_read_again)
                await send(start)
            await send(message)

        return send_encoded

    async def _encoded_messages(
        self, ticket: Ticket, start: Mapping[str, Any], message: Mapping[str, Any], is_read_again: bool
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        headers = start["headers"]
        known = dict(headers)
        body = message.get("body", b"")
        if b"content-encoding" in known:
            return start, message
        media_type = known.get(b"content-type", b"").partition(b";")[0]
        written = await self.encoded(ticket, Written(media_type, body))
        if written.body is not body:
            assert ticket.acceptable is not None
            length = (b"content-length", b"%d" % len(written.body))
            headers = [length if name == b"content-length" else (name, value) for name, value in headers]
            headers += [(b"content-encoding", ticket.acceptable.coding), _VARY]
        elif is_read_again and len(body) >= self._from_bytes:
            headers = [*headers, _VARY]
        return {**start, "headers": headers}, {**message, "body": written.body}


def encode_written(written: Written, acceptable: Acceptable) -> Written:
    """Return an answer encoded, with the header lines that say so; as it is where nothing is gained."""
    body = encode(written.body, written.media_type, acceptable)
    if body is None:
        return written
    lines = b"content-encoding: %b\r\nvary: accept-encoding\r\n" % acceptable.coding
    return written._replace(body=body, lines=written.lines + lines)
