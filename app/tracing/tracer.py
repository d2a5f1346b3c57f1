"""Makes spans of requests and of batches, when they are over.

On the way of a request little more happens than that its ids are drawn: what a span tells is known at its end, and is
made into one on the thread that exports it (:mod:`app.tracing.spans`). So the SDK's own tracer, whose spans live while
a request does, has no part in it, and its exporter, its resource and its settings do.

A batch is a trace of its own, since its requests belong to as many; it links to the span of each of them that is
sampled, and each of these back to it.
"""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from app.tracing.context import Trace, new_id
from app.tracing.facts import BatchFacts, Facts
from app.tracing.spans import BatchSpan, Finished, RequestSpan

_LOW_BITS = (1 << 64) - 1


class Request(Protocol):
    """What admission knows of a request."""

    request_id: bytes
    received_at: float
    client: str


class Tracer:
    """Draws ids, and hands over what is over.

    Args:
        emit: Takes it; must be quick, and never wait.
        ratio: Of the requests without a caller's word that are sampled, 0 to 1.
        heeds_parent: Whether the flag of a caller's own trace decides.
        clock: Monotonic seconds, that of admission and of the batcher.
    """

    def __init__(
        self,
        emit: Callable[[Finished], None],
        *,
        ratio: float,
        heeds_parent: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._emit = emit
        # as the SDK's TraceIdRatioBased, so that both decide alike
        self._bound = round(ratio * (_LOW_BITS + 1))
        self._heeds_parent = heeds_parent
        self._clock = clock

    def begin(self, trace: Trace | None) -> Trace:
        """Return the place of a new request: in the trace of its caller, or at the head of one of its own."""
        if trace is None:
            trace_id = new_id(128)
            trace = Trace(b"%032x" % trace_id, is_sampled=trace_id & _LOW_BITS < self._bound)
        elif not self._heeds_parent:
            trace.is_sampled = int(trace.trace_id[16:], 16) < self._bound
        if trace.is_sampled:
            trace.span_id = new_id(64)
        return trace

    def request(self, trace: Trace, request: Request, facts: Facts, now: float) -> None:
        """Tell of a sampled request that is over.

        Args:
            trace: Its place.
            request: From admission.
            facts: What its door has noted.
            now: On the clock.
        """
        if not trace.is_told:
            self._emit(RequestSpan(trace, request.request_id, request.client, facts, now - request.received_at,
                                   now - facts.answered_at, time.time_ns()))  # fmt: skip

    def batch(self, batch: BatchFacts, requests: Sequence[Trace], *, taken_at: float, started_at: float) -> Trace:
        """Tell of a batch that is over, and return its own place.

        Args:
            batch: What is told of it.
            requests: The places of those of its requests that are sampled.
            taken_at: When its first row was taken, on the clock.
            started_at: When the backend was called, on the clock.
        """
        trace = Trace(b"%032x" % new_id(128), span_id=new_id(64), is_sampled=True)
        now = self._clock()
        self._emit(BatchSpan(trace, batch, requests, now - taken_at, now - started_at, time.time_ns()))
        return trace
