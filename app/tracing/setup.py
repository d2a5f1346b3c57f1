"""Opens OpenTelemetry as the ``OTEL_*`` variables say, and closes it within a bounded time.

Spans and metrics are sent on the SDK's own threads, out of bounded queues. A collector that is slow, or gone, costs
what it does not take, which is counted, and nothing else.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client.metrics_core import Metric as Family

from app import __version__
from app.metrics import Metrics
from app.tracing.figures import FiguresExporter
from app.tracing.options import Options
from app.tracing.spans import Finished
from app.tracing.tracer import Tracer

logger = logging.getLogger("app.tracing")

# at the end of the service, for what has not been sent yet
FLUSH_S = 3.0
# for the event loop to tell its figures
_READ_S = 5.0
_SCOPE = "zero-to-one"


class OpenTelemetry:
    """What sends spans and metrics of one process.

    Args:
        options: Of OpenTelemetry.
        figures: What is exported as metrics.
        instance: Of the service, unlike any other.
        clock: That of admission.

    Attributes:
        tracer: Makes our own spans; None where none are asked for.
        for_fastapi: What FastAPI is to trace and to measure its routes with; see ``fastapi.telemetry``.
    """

    def __init__(
        self, options: Options, figures: Metrics, *, instance: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._options = options
        self._figures = figures
        self._scope = InstrumentationScope(_SCOPE, __version__)
        self._resource = _resource(instance)
        self._tracer_provider = TracerProvider(resource=self._resource, shutdown_on_exit=False)
        self._meter_provider = MeterProvider(resource=self._resource, shutdown_on_exit=False)
        self._spans: _SpanQueue | None = None
        self._reader: PeriodicExportingMetricReader | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.tracer = (
            Tracer(self._emit, ratio=options.ratio, heeds_parent=options.heeds_parent, clock=clock)
            if options.with_traces
            else None
        )
        self.for_fastapi: dict[str, Any] = {
            "tracer_provider": self._tracer_provider,
            "meter_provider": self._meter_provider,
            "tracing": options.with_traces,
            "metrics": options.with_metrics,
            "logs": False,  # our own log tells them
            "operation_spans": False,
            "auto_configure": False,
        }

    def start(self) -> None:
        """Start sending; called on the event loop that writes the figures."""
        self._loop = asyncio.get_running_loop()
        if self._options.with_traces:
            building = _Building(OTLPSpanExporter(), self._resource, self._scope)
            self._spans = _SpanQueue(building, self._figures, self._options)
            self._tracer_provider.add_span_processor(self._spans)
        if self._options.with_metrics:
            exporter = FiguresExporter(OTLPMetricExporter(), self._read, self._resource, self._scope)
            self._reader = PeriodicExportingMetricReader(exporter)
            self._meter_provider.add_metric_reader(self._reader)
            started_at = time.monotonic()

            def uptime(_: CallbackOptions) -> Iterable[Observation]:
                yield Observation(time.monotonic() - started_at)

            # which also makes sure that there is always something to export
            self._meter_provider.get_meter(f"{_SCOPE}.process", __version__).create_observable_gauge(
                "process.uptime", callbacks=[uptime], unit="s", description="Seconds since the process began to serve."
            )
        logger.info("OpenTelemetry is on: %s", self._options)

    async def stop(self) -> None:
        """Send what is left, for a few seconds at most, and nothing more."""
        ends = [part.shutdown for part in (self._spans, self._reader) if part is not None]
        threads = [threading.Thread(target=partial(_quietly, end), name="OtelShutdown", daemon=True) for end in ends]
        for thread in threads:
            thread.start()
        until = time.monotonic() + FLUSH_S
        while any(thread.is_alive() for thread in threads):
            if time.monotonic() >= until:
                logger.warning("the collector of OpenTelemetry takes nothing; what was not sent is lost")
                return
            await asyncio.sleep(0.01)  # the loop goes on: the last figures are read on it

    def _emit(self, finished: Finished) -> None:
        if self._spans is not None:
            self._spans.on_end(finished)

    def _read(self) -> Iterable[Family]:
        """Return the figures, read on the event loop's thread, which writes them."""
        assert self._loop is not None

        async def read() -> list[Family]:
            return list(self._figures.collect())

        reading = asyncio.run_coroutine_threadsafe(read(), self._loop)
        try:
            return reading.result(_READ_S)
        except TimeoutError:
            reading.cancel()
            raise


class _SpanQueue(BatchSpanProcessor):
    """The SDK's queue and thread, which drops what is too much without a word for each.

    What finds no room is turned away here, FastAPI's spans as well as ours: the SDK would give up the oldest for them,
    and what it has given up would count as waiting for ever.

    Args:
        exporter: Sends spans.
        figures: Told of those that were dropped.
        options: How many there is room for.
    """

    def __init__(self, exporter: "_Building", figures: Metrics, options: Options) -> None:
        self._most = options.queue_spans
        self._building = exporter
        self._figures = figures
        self._offered = 0
        super().__init__(exporter, max_queue_size=options.queue_spans, max_export_batch_size=options.batch_spans)

    def on_end(self, span: ReadableSpan | Finished) -> None:
        """Queue a span, where there is room for it; called on the event loop."""
        if span.context is None or not span.context.trace_flags.sampled:
            return
        if self._offered - self._building.taken >= self._most:
            self._figures.dropped_spans[_SCOPE] += 1
            return
        self._offered += 1
        super().on_end(span)  # type: ignore[arg-type]  # it asks for the context alone


class _Building(SpanExporter):
    """Makes the spans that are about to be sent.

    Attributes:
        taken: How many have left the queue.
    """

    def __init__(self, exporter: SpanExporter, resource: Resource, scope: InstrumentationScope) -> None:
        self.taken = 0
        self._exporter = exporter
        self._resource = resource
        self._scope = scope

    def export(self, spans: Sequence[ReadableSpan | Finished]) -> SpanExportResult:
        """Send spans, of both kinds."""
        self.taken += len(spans)  # before anything can raise
        made = [s if isinstance(s, ReadableSpan) else s.build(self._resource, self._scope) for s in spans]
        return self._exporter.export(made)

    def shutdown(self) -> None:
        """Send no more, and give up what is on its way again and again."""
        self._exporter.shutdown()


def _resource(instance: str) -> Resource:
    """Return who sends all this; what the variables say wins."""
    ours = Resource({"service.name": _SCOPE, "service.version": __version__, "service.instance.id": instance})
    return Resource.create(dict(ours.merge(OTELResourceDetector().detect()).attributes))


def _quietly(end: Callable[[], None]) -> None:
    try:
        end()
    except Exception:
        logger.exception("OpenTelemetry did not end well")
