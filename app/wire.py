"""HTTP/1.1 on the wire: uvicorn's protocol over httptools, with what a server at an open port needs besides.

- An ``Upgrade`` is ignored, as RFC 9110, section 7.8 lets a server do; the body of its request is not. (The parser
  stops behind such a head and would skip the body. ``curl --http2`` and Java's HttpClient send one.)
- The head and the trailers of a request have a limit, in bytes and in number, before anything is kept of them.
- Trailers never become headers (RFC 9110, section 6.5.1).
- Idle connections, and heads that come too slowly, are found by a look at all connections now and then: a timer for
  each answer costs more than the answer's own bytes.
- What cannot be read is answered with an error in the form of its door, behind the answers to what was read before it,
  and the connection is closed only when the caller has had time to read it: closing a socket that still receives would
  reset it.
"""

import asyncio
import logging
from collections.abc import Collection
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Protocol, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from app.admission import Admission
from app.errors import Limit
from app.protocols.limits import MAX_HEAD_BYTES, MAX_HEADERS
from app.protocols.open_inference import errors as open_inference
from app.protocols.problem import MEDIA_TYPE, LimitBody, Problem

logger = logging.getLogger("app.wire")

# a caller that is still sending gets this long to notice the answer
LINGER_S = 1.0
_FIELD_OVERHEAD_BYTES = 4  # ": " and CRLF


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something is refused before it has become a request."""

    status: int
    code: str
    title: str
    detail: str
    limit: Limit | None = None


MALFORMED = Refusal(HTTPStatus.BAD_REQUEST, "bad_request", "Bad request", "this is not HTTP/1.1 that can be read")
HEAD_TOO_LARGE = Refusal(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "request_header_fields_too_large",
    "Request header fields too large",
    f"request line, headers and trailers may have {MAX_HEAD_BYTES} bytes, and headers be {MAX_HEADERS}",
    Limit("max_header_bytes", MAX_HEAD_BYTES),
)
TOO_MANY_HEADERS = replace(HEAD_TOO_LARGE, limit=Limit("max_headers", MAX_HEADERS))
HEAD_TOO_SLOW = Refusal(
    HTTPStatus.REQUEST_TIMEOUT, "request_timeout", "Request timeout", "the head of the request has not come in time"
)
NO_PROXY = Refusal(HTTPStatus.NOT_IMPLEMENTED, "not_implemented", "Not implemented", "this service is no proxy")
TOO_MANY_CONNECTIONS = {
    "all": Refusal(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "too_many_connections",
        "Too many connections",
        "this service has as many connections as it may; see ZTO_MAX_CONNECTIONS",
    ),
    "address": Refusal(
        HTTPStatus.TOO_MANY_REQUESTS,
        "too_many_connections",
        "Too many connections",
        "your address has as many connections as it may; see ZTO_MAX_CONNECTIONS_PER_ADDRESS",
    ),
}
# connections beyond the limit that are told why; more than these are cut off, since each is held for a moment
MAX_TOLD = 64
SHUTTING_DOWN = Refusal(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "service_unavailable",
    "Service unavailable",
    "the service is shutting down, and the body of the request has not come in time",
)


class _Flow(FlowControl):
    """Reads no further while requests are pipelined: each answer would let more of them in than it takes out."""

    def __init__(self, transport: asyncio.Transport, pipeline: Collection[object]) -> None:
        super().__init__(transport)
        self._pipeline = pipeline

    def resume_reading(self) -> None:
        """Go on reading, unless requests wait."""
        if not self._pipeline:
            super().resume_reading()


class _Refused(Exception):  # inside the callbacks of the parser
    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        self.code = refusal.code


class _App(Protocol):
    admission: Admission


class WireProtocol(HttpToolsProtocol):
    """One connection; ``uvicorn.Config(app, http=WireProtocol)``. The app is a :class:`app.main.ZeroToOne`."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._admission = cast("_App", config.app).admission
        self._head_bytes = 0  # of the request being read, trailers included
        self._unparsed_bytes = 0  # since the parser last handed over a whole head or a piece of a body
        self._is_head_read = False
        self._refusal: Refusal | None = None
        self._idle_since: float | None = None  # on the loop's clock
        # since when the rest of something is waited for, and behind which request, as far as anybody has looked
        self._owed_since: float | None = None
        self._owed_behind: RequestResponseCycle | None = None
        self._address = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the base class
        """Wait for the first request as long as for any other; where there are too many connections, for none."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)
        self._idle_since = self.loop.time()
        self._address = self.client[0] if self.client else ""
        too_many = self._admission.connections.open(self._address)
        if self._admission.is_closed:  # its handshake has taken too long
            transport.abort()
        elif too_many is not None:
            limit = self._admission.connections.limit_of(too_many)
            self._turn_away(replace(TOO_MANY_CONNECTIONS[too_many], limit=limit))

    def connection_lost(self, exc: Exception | None) -> None:
        """Count one connection less."""
        super().connection_lost(exc)
        self._admission.connections.close(self._address)

    def data_received(self, data: bytes) -> None:
        """Parse what came, past any upgrade."""
        if self._refusal is not None:
            return  # nobody reads it any more
        self._idle_since = None
        self._unparsed_bytes += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError as exc:
            ours = exc.__context__  # where a callback raised
            if ours is not None and not isinstance(ours, _Refused):
                logger.error("a request could not be read", exc_info=ours)
            self._refuse(ours.refusal if isinstance(ours, _Refused) else MALFORMED)
        else:
            # one endless header is invisible to the callbacks: the parser keeps it until its end
            if self._unparsed_bytes > MAX_HEAD_BYTES:
                self._refuse(HEAD_TOO_LARGE)

    def on_message_begin(self) -> None:
        """Count from zero."""
        super().on_message_begin()
        self._begin_counting()

    def on_url(self, url: bytes) -> None:
        """Keep a piece of the request's target, within the limit."""
        self._head_bytes += len(url)
        if self._head_bytes > MAX_HEAD_BYTES:
            raise _Refused(HEAD_TOO_LARGE)
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, within the limit; count a trailer."""
        # written out, without super() and helpers: the one place that runs for every header of every request
        self._head_bytes += len(name) + len(value) + _FIELD_OVERHEAD_BYTES
        if self._head_bytes > MAX_HEAD_BYTES or (len(self.headers) >= MAX_HEADERS and not self._is_head_read):
            raise _Refused(HEAD_TOO_LARGE if self._head_bytes > MAX_HEAD_BYTES else TOO_MANY_HEADERS)
        if self._is_head_read:
            return
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Start the request; not yet where its head asks for an upgrade, since it is fed again without."""
        self._unparsed_bytes = 0
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise _Refused(NO_PROXY)
            return
        self._is_head_read = True
        self._on_head()

    def on_body(self, body: bytes) -> None:
        """Hand over a piece of the body."""
        self._unparsed_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request; not where it will be fed again."""
        self._unparsed_bytes = 0
        if self._is_head_read:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with what is next in the pipeline: a request, or the refusal behind them."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        waiting = self.pipeline.pop() if self.pipeline else None
        self.flow.resume_reading()
        if waiting is not None:
            self._start_asgi_task(*waiting)
        elif self._refusal is not None:
            self._answer(self._refusal)
        elif self._is_head_read:  # else the head of the next request has begun
            self._idle_since = self.loop.time()

    def close_if_idle(self, since: float) -> None:
        """Hang up where nothing has been asked since a time of the loop's clock."""
        if self._idle_since is not None and self._idle_since <= since:
            self.transport.close()

    def hurry(self, now: float, within_s: float) -> None:
        """Refuse a head that has been coming for too long, or hang up on what should have ended after its answer.

        A head is timed from the first look at it. The body of a request that is under way has the deadline of that.

        Args:
            now: On the loop's clock.
            within_s: What has been coming for so many seconds, or more, is too late.
        """
        cycle = self._last_cycle()
        is_owed = self._idle_since is None and self._refusal is None and (cycle is None or cycle.response_complete)
        if not is_owed or self._owed_since is None or self._owed_behind is not cycle:
            self._owed_since, self._owed_behind = (now, cycle) if is_owed else (None, None)
        elif self._owed_since <= now - within_s:
            if self._is_head_read:  # the rest of a body that is answered already, or empty lines
                self.transport.close()
            else:
                self._refuse(replace(HEAD_TOO_SLOW, limit=Limit("head_timeout_s", round(within_s))))

    def cut(self) -> None:
        """Refuse the request whose body is still coming, if there is one."""
        if self._refusal is None and self._is_receiving():
            self._refuse(SHUTTING_DOWN)

    def _begin_counting(self) -> None:
        self._head_bytes = 0
        self._is_head_read = False

    def _on_head(self) -> None:
        """Start the request whose head has been read."""
        super().on_headers_complete()

    def _feed(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                head = self._head_without_upgrade()
                # a view: many such requests in one packet would be copied as often
                data = memoryview(data)[upgrade.args[0] :]  # type: ignore[assignment]  # the parser takes both
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as the base class
                self.parser.feed_data(head)
            else:
                return

    def _head_without_upgrade(self) -> bytes:
        """Write the head that was just read once more; it is whole, and has passed the parser."""
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join((*lines, b"", b""))

    def _last_cycle(self) -> RequestResponseCycle | None:
        return self.cycle  # which uvicorn declares without the None that it starts as

    def _is_receiving(self) -> bool:
        cycle = self._last_cycle()
        return cycle is not None and cycle.more_body and not cycle.response_complete

    def _refuse(self, refusal: Refusal) -> None:
        """Read no further, and answer with the refusal once what came before it is answered."""
        self._refusal = refusal
        cycle = self._last_cycle()
        if cycle is None or cycle.response_complete:
            self._answer(refusal)
        elif not cycle.more_body:
            return  # on_response_complete() answers
        elif self.pipeline:  # the request at fault is the last of those that wait, and has not started
            self.pipeline.popleft()
        elif cycle.response_started:
            self.transport.close()
        else:  # to the app, the caller is gone
            cycle.disconnected = True
            cycle.waiting_for_100_continue = False  # or it would be written behind the answer, whoever has gone
            cycle.message_event.set()
            self._answer(refusal)

    def _turn_away(self, refusal: Refusal) -> None:
        """Refuse a connection before anything is read of it."""
        if self._admission.connections.told < MAX_TOLD:
            self._admission.connections.told += 1
            self.loop.call_later(LINGER_S, self._forget_told)
            self._refuse(refusal)
            return
        self._refusal = refusal
        self._admission.count_refusal(_Refused(refusal))
        self.transport.abort()

    def _forget_told(self) -> None:
        self._admission.connections.told -= 1

    def _answer(self, refusal: Refusal) -> None:
        if self.transport.is_closing():
            return
        self._idle_since = None
        self._admission.count_refusal(_Refused(refusal))
        ticket = self._admission.admit({"headers": self.headers or (), "client": self.client}, None)
        ticket.facts.path, ticket.facts.code = self._path(), refusal.code
        request_id = ticket.request_id
        media_type, body = _render(refusal, self._path(), request_id.decode("ascii"))
        headers = [
            *self.server_state.default_headers,
            *(header for header in self._admission.receipts(ticket) if header[0] != b"connection"),
            (b"content-type", media_type.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        if refusal.status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
            headers.append((b"retry-after", b"1"))
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[refusal.status] + lines + b"\r\n" + body)
        if self.transport.can_write_eof():  # TLS cannot
            self.transport.write_eof()
        self._admission.finish(ticket, refusal.status)
        self.loop.call_later(LINGER_S, self.transport.close)

    def _path(self) -> str:
        """Return the path of the request that was begun last, as far as it has come."""
        url = cast("bytes | None", getattr(self, "url", None))  # which uvicorn sets with the first request
        return (url or b"").partition(b"?")[0].decode("latin-1")


def _render(refusal: Refusal, path: str, request_id: str) -> tuple[str, bytes]:
    """Return the media type and the body of a refusal, in the form that the door has."""
    if open_inference.is_form_of(path):
        told = refusal.detail if refusal.limit is None else refusal.limit.beside(refusal.detail)
        return open_inference.MEDIA_TYPE, open_inference.render_message(told)
    problem = Problem(
        type=f"urn:zero-to-one:problem:{refusal.code}",
        title=refusal.title,
        status=refusal.status,
        detail=refusal.detail,
        code=refusal.code,
        request_id=request_id,
        limit=None if refusal.limit is None else LimitBody(name=refusal.limit.name, value=refusal.limit.value),
    )
    return MEDIA_TYPE, problem.model_dump_json(exclude_none=True).encode()
