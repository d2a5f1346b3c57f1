"""Told of every request when it is over, whichever door it came by: writes its line in the log, and its span.

There is none where neither is asked for, so that costs one comparison a request.
"""

from typing import TYPE_CHECKING, Protocol

from app.logs import escaped
from app.request_log import MAX_KEPT, RequestLog, text_of
from app.tracing.context import Trace
from app.tracing.facts import MAX_PATH, Facts

if TYPE_CHECKING:
    from app.tracing.tracer import Tracer


class Request(Protocol):
    """What admission knows of a request."""

    request_id: bytes
    received_at: float
    client: str
    key: str
    trace: Trace | None

    @property
    def trace_id(self) -> bytes: ...  # noqa: D102


class Observer:
    """Tells of requests that are over.

    Args:
        log: Takes their lines; None for no log of requests.
        tracer: Takes their spans; None for no traces.

    Attributes:
        keeps_traces: Whether a request needs a place in a trace.
        with_payloads: Whether bodies are to be offered.
    """

    def __init__(self, log: RequestLog | None, tracer: "Tracer | None") -> None:
        self._log = log
        self._lines = log if log is not None and log.with_requests else None
        self._tracer = tracer
        self._told: dict[tuple[object, ...], bytes] = {}
        self.keeps_traces = tracer is not None
        self.with_payloads = log is not None and log.with_payloads

    def begin(self, trace: Trace | None) -> Trace | None:
        """Return the place of a new request in a trace: that of its caller, or one of its own where traces are kept."""
        return trace if self._tracer is None else self._tracer.begin(trace)

    def offer(self, request: Request, body: bytes) -> None:
        """Tell of the body of a request, where that is asked for."""
        if self._log is not None:
            self._log.offer(request, body)

    def line(self, request: Request, told: bytes, seconds: float, rows: int) -> bool:
        """Write the line of a request whose members are known, and nothing else.

        Returns:
            Whether that is all there is to tell; else :meth:`finish` is to be called in its place.
        """
        if self._tracer is not None and (request.trace is None or request.trace.is_sampled):
            return False
        if self._lines is not None:
            self._lines.tell(request, told, seconds, rows)
        return True

    def finish(self, request: Request, facts: Facts, *, now: float) -> None:
        """Tell of a request that is over.

        Args:
            request: From admission.
            facts: What its door has noted.
            now: On admission's clock.
        """
        if self._lines is not None:
            told = self.members(facts, request.key)
            self._lines.tell(request, told, now - request.received_at, facts.rows)
        if self._tracer is not None and request.trace is not None and request.trace.is_sampled:
            self._tracer.request(request.trace, request, facts, now)

    def members(self, facts: Facts, holder: str) -> bytes:
        """Return what is told alike of many requests; of a path that no door knows, each is told by itself.

        Args:
            facts: What their door has noted.
            holder: The name of their key.
        """
        path = "" if facts.model else f"{facts.method} {escaped(facts.path[:MAX_PATH])}"
        key = facts.door, facts.model, facts.version, facts.status, facts.code, holder, path
        told = self._told.get(key)
        if told is None:
            if len(self._told) >= MAX_KEPT:
                self._told.clear()
            told = self._told[key] = text_of(
                (
                    ("door", facts.door), ("model", facts.model), ("version", facts.version), ("path", path.strip()),
                    ("status", facts.status or None), ("code", facts.code), ("key", holder),
                )
            )  # fmt: skip
        return told
