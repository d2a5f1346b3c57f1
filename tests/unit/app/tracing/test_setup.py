"""The queue of spans, whose exporter may stand still; tests/integration/test_observability.py holds the rest."""

import threading
from collections.abc import Sequence

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from app.metrics import Metrics
from app.tracing import options
from app.tracing.context import Trace
from app.tracing.facts import Facts
from app.tracing.setup import _Building, _SpanQueue
from app.tracing.spans import RequestSpan

PATIENCE_S = 60.0
ROOM = {"OTEL_BSP_MAX_QUEUE_SIZE": "4"}


class Slow(SpanExporter):
    """Keeps the names of spans, and each batch until it may go on."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.has_begun = threading.Event()
        self.may_end = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.has_begun.set()
        assert self.may_end.wait(PATIENCE_S)
        self.names.extend(span.name for span in spans)
        return SpanExportResult.SUCCESS


def ours(name: str) -> RequestSpan:
    trace = Trace(b"%032x" % 7, span_id=7, is_sampled=True)
    return RequestSpan(trace, b"order-66", "", Facts(path=f"/{name}", status="OK"), 0.1, 0.0, 10**18)


def theirs(name: str, *, is_sampled: bool = True) -> ReadableSpan:
    """Return a span as FastAPI hands it to the queue."""
    found = TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span(name)
    assert isinstance(found, ReadableSpan)
    if not is_sampled:
        context = found.get_span_context()
        assert context is not None
        return ReadableSpan(name, context=type(context)(context.trace_id, context.span_id, is_remote=False))
    return found


def test_spans_of_others_that_find_no_room_cost_ours_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")  # only a full batch is sent by itself
    metrics, exporter = Metrics(), Slow()
    building = _Building(exporter, Resource({}), InstrumentationScope("test"))
    queue = _SpanQueue(building, metrics, options.read(ROOM))
    try:
        for number in range(4):
            queue.on_end(ours(f"first-{number}"))
        assert exporter.has_begun.wait(PATIENCE_S)  # the collector stands still with these
        for number in range(4):
            queue.on_end(ours(f"second-{number}"))
        for number in range(40):
            queue.on_end(theirs(f"card-{number}"))
            queue.on_end(theirs(f"unsampled-{number}", is_sampled=False))
        exporter.may_end.set()
        queue.force_flush()
        queue.on_end(ours("last"))
        queue.on_end(theirs("last-card"))
        queue.force_flush()
    finally:
        exporter.may_end.set()
        queue.shutdown()
    assert exporter.names == [
        *(f"first-{n}" for n in range(4)),
        *(f"second-{n}" for n in range(4)),
        "last",
        "last-card",
    ]
    assert metrics.dropped_spans == {"zero-to-one": 40}
