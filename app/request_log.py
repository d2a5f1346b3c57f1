"""One line for each request, and now and then a payload.

structlog's processors and the standard library's records would take as long as a small model's whole request. So what
is told of a request is only kept while its answer is under way. When there are enough of them, or a moment has passed,
their lines are put together one after the other, which takes half as long as each at its own time, and are written
together, without ever waiting for whoever reads them (:mod:`app.outlet`). What is kept is written at the end of the
service too; a process that is killed takes the lines of its last moment with it.

What a caller sends stands in a line in these forms only: an id of admission's alphabet, digits of a trace, and JSON
strings, which hold no line break. A payload is told only where the operator asks for a share of them, and no more of it
than the settings say.
"""

import asyncio
import base64
import itertools
import time
from collections.abc import Callable, Iterable
from typing import Protocol, TypeAlias

import orjson

from app.logs import escaped, one_line
from app.outlet import Outlet
from app.tracing.context import Trace

# requests that are kept, whose lines take 0.1 ms; and bytes of payloads
FLUSH_REQUESTS = 128
FLUSH_BYTES = 64 * 1024
FLUSH_S = 0.2
# of clients, and of what is told alike of many requests; more than these are forgotten
MAX_KEPT = 1024


class Request(Protocol):
    """What is told of a request."""

    @property
    def request_id(self) -> bytes: ...  # noqa: D102

    @property
    def trace_id(self) -> bytes: ...  # noqa: D102

    @property
    def client(self) -> str: ...  # noqa: D102

    @property
    def trace(self) -> Trace | None: ...  # noqa: D102


# when, id, trace, members, seconds, rows and client of a request
_Told: TypeAlias = tuple[float, bytes, Trace | None, bytes, float, int, str]


def text_of(told: Iterable[tuple[str, object]]) -> bytes:
    """Return members of a JSON object, without its braces; those that are empty are left out."""
    members = {name: value for name, value in told if value not in ("", None)}
    return one_line(orjson.dumps(members).decode()).encode()[1:-1]


class RequestLog:
    """Keeps lines for a moment, and writes them.

    Args:
        outlet: Takes them.
        is_json: Whether lines are JSON; else they are text, with the same members.
        with_requests: Whether requests are told.
        payload_share: Of how many requests the body is told, 0 to 1.
        payload_bytes: Most bytes of a body.
        level: Of all lines.
        clock: Seconds since the epoch.

    Attributes:
        with_requests: As above.
        with_payloads: Whether any payload is told.
    """

    def __init__(
        self,
        outlet: Outlet,
        *,
        is_json: bool,
        with_requests: bool = True,
        payload_share: float = 0.0,
        payload_bytes: int = 1024,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._outlet = outlet
        self._form = _JSON_REQUEST if is_json else _TEXT_REQUEST
        self._payload_form = _JSON_PAYLOAD if is_json else _TEXT_PAYLOAD
        self.with_requests = with_requests
        self.with_payloads = payload_share > 0
        self._payload_share = payload_share
        self._payload_bytes = payload_bytes
        self._offered = itertools.count()
        self._clock = clock
        self._second = -1
        self._stamp = b""
        self._clients: dict[str, bytes] = {}
        self._kept: list[_Told | bytes] = []
        self._payload_size = 0
        self._timer: asyncio.TimerHandle | None = None

    def tell(self, request: Request, told: bytes, seconds: float, rows: int) -> None:
        """Tell of one request that is over.

        Args:
            request: Whose id, trace and client are told.
            told: More members of the JSON object, from :func:`text_of`.
            seconds: From its head to its answer.
            rows: Of the model's input; 0 where no model has answered.
        """
        kept = self._kept
        kept.append((self._clock(), request.request_id, request.trace, told, seconds, rows, request.client))
        if self._timer is None or len(kept) >= FLUSH_REQUESTS:
            self._flush_in_time()

    def offer(self, request: Request, body: bytes) -> None:
        """Tell the body of a request, as far as that is asked for, where it is one of those that are told."""
        share, number = self._payload_share, next(self._offered)
        # evenly: one in a hundred is every hundredth
        if int((number + 1) * share) == int(number * share):
            return
        cut = body[: self._payload_bytes]
        try:
            payload: tuple[str, str] = ("payload", cut.decode() if len(cut) == len(body) else _whole_text(cut))
        except UnicodeDecodeError:
            payload = ("payload_base64", base64.b64encode(cut).decode())
        told = text_of(
            (
                ("request_id", request.request_id.decode("ascii")), ("trace_id", request.trace_id.decode("ascii")),
                ("bytes", len(body)), payload,
            )
        )  # fmt: skip
        now = self._clock()
        line = self._payload_form % (_stamp_of(int(now)), now % 1 * 1e6, told)
        self._payload_size += len(line)
        self._kept.append(line)
        self._flush_in_time()

    def flush(self) -> None:
        """Write what is kept."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        kept, self._kept, self._payload_size = self._kept, [], 0
        if kept:
            self._outlet.write([each if isinstance(each, bytes) else self._line_of(each) for each in kept])

    def _flush_in_time(self) -> None:
        if len(self._kept) >= FLUSH_REQUESTS or self._payload_size >= FLUSH_BYTES:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self.flush)

    def close(self) -> None:
        """Write what is kept, and let go of the outlet."""
        self.flush()
        self._outlet.close()

    def _line_of(self, kept: _Told) -> bytes:
        at, request_id, trace, told, seconds, rows, client = kept
        second = int(at)
        if second != self._second:
            self._second, self._stamp = second, _stamp_of(second)
        in_trace = b"" if trace is None else b'"trace_id":"%b",' % trace.trace_id
        return self._form % (
            self._stamp, (at - second) * 1e6, request_id, in_trace, told, seconds, rows,
            self._clients.get(client) or self._know(client),
        )  # fmt: skip

    def _know(self, client: str) -> bytes:
        if len(self._clients) >= MAX_KEPT:
            self._clients.clear()
        known = self._clients[client] = orjson.dumps(escaped(client))
        return known


_JSON_REQUEST = (
    b'{"time":"%b.%06dZ","level":"info","logger":"app.request_log","event":"request","request_id":"%b",%b%b,'
    b'"seconds":%.6f,"rows":%d,"client":%b}\n'
)
_TEXT_REQUEST = (
    b'%b.%06dZ INFO    app.request_log: request "request_id":"%b",%b%b,"seconds":%.6f,"rows":%d,"client":%b\n'
)
_JSON_PAYLOAD = b'{"time":"%b.%06dZ","level":"info","logger":"app.request_log","event":"payload",%b}\n'
_TEXT_PAYLOAD = b"%b.%06dZ INFO    app.request_log: payload %b\n"


def _stamp_of(second: int) -> bytes:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()


def _whole_text(cut: bytes) -> str:
    """Return text that was cut off anywhere, up to its last whole character.

    Raises:
        UnicodeDecodeError: It is not UTF-8.
    """
    try:
        return cut.decode()
    except UnicodeDecodeError as exc:
        if len(cut) - exc.start < 4 and exc.reason == "unexpected end of data":
            return cut[: exc.start].decode()
        raise
