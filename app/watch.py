"""What watches one process: the log of its requests, its traces, and the figures of the process itself."""

import logging
import os
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from app import logs
from app.admission import TICKET
from app.errors import SettingsError
from app.metrics import Metrics
from app.observer import Observer
from app.outlet import Outlet
from app.process_figures import ProcessFigures
from app.request_log import RequestLog
from app.settings import Settings
from app.tracing import options
from app.tracing.context import Trace

if TYPE_CHECKING:
    from app.serving.traced import OnTraced
    from app.tracing.setup import OpenTelemetry
    from app.tracing.tracer import Tracer

logger = logging.getLogger("app.tracing")

# what FastAPI is told where nobody traces
_NO_TELEMETRY = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


class _App(Protocol):
    def add_middleware(self, middleware_class: Any) -> None: ...


class Watch:
    """Opens what the settings ask for.

    Args:
        settings: Of the service.
        metrics: What is counted.
        clock: Monotonic seconds.
        worker: The number of this process among those that serve.

    Raises:
        SettingsError: OpenTelemetry is asked for, and cannot be had.

    Attributes:
        observer: Told of every request when it is over; None where nobody wants to know.
        for_fastapi: What FastAPI is to do for its own routes; see ``fastapi.telemetry``.
    """

    def __init__(
        self, settings: Settings, metrics: Metrics, *, clock: Callable[[], float] = time.monotonic, worker: int = 0
    ) -> None:
        self._process = ProcessFigures(metrics, worker=worker)
        self._otel = _open_otel(settings, metrics, clock=clock, worker=worker)
        self._log = _open_log(settings, metrics)
        self.for_fastapi: Any = _NO_TELEMETRY if self._otel is None else self._otel.for_fastapi
        has_any = self._log is not None or self.tracer is not None
        self.observer = Observer(self._log, self.tracer) if has_any else None
        logs.count_drops(lambda lines: _count(metrics, "records", lines))

    @property
    def tracer(self) -> "Tracer | None":
        """Makes spans; None where nobody traces."""
        return None if self._otel is None else self._otel.tracer

    def trace_batches(self, model: str, version: str) -> "OnTraced | None":
        """Return what the batches of a version are told to; None where nobody traces."""
        if self.tracer is None:
            return None
        from app.serving.traced import batch_tracer

        return batch_tracer(self.tracer, model, version)

    def follow(self, app: _App) -> None:
        """Learn from FastAPI which span it has begun for a request to one of its routes."""
        if self.tracer is not None:
            app.add_middleware(_Following)

    def start(self) -> None:
        """Begin; called on the event loop."""
        self._process.start()
        if self._otel is not None:
            self._otel.start()

    async def stop(self) -> None:
        """Tell what is left to be told, within a bounded time."""
        self._process.stop()
        if self._otel is not None:
            await self._otel.stop()
        if self._log is not None:
            self._log.close()


class _Following:
    """Takes a request's place in its trace from the span that FastAPI has begun, and will send itself.

    Args:
        app: Answers.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        ticket = scope.get(TICKET)
        if ticket is not None:
            from opentelemetry import trace

            begun = trace.get_current_span().get_span_context()
            if begun.is_valid:
                ticket.trace = Trace(
                    b"%032x" % begun.trace_id, span_id=begun.span_id, is_sampled=begun.trace_flags.sampled, is_told=True
                )
        await self._app(scope, receive, send)


def _open_log(settings: Settings, metrics: Metrics) -> RequestLog | None:
    if not settings.access_log and not settings.log_payloads:
        return None
    return RequestLog(
        Outlet(logs.STDERR, lambda lines: _count(metrics, "requests", lines)),
        is_json=logs.is_json(settings.log_format),
        with_requests=settings.access_log,
        payload_share=settings.log_payloads,
        payload_bytes=settings.log_payload_bytes,
    )


def _count(metrics: Metrics, log: str, lines: int) -> None:
    metrics.dropped_lines[log] += lines


def _open_otel(
    settings: Settings, metrics: Metrics, *, clock: Callable[[], float], worker: int
) -> "OpenTelemetry | None":
    if not options.is_wanted(settings.otel, os.environ):
        return None
    try:
        asked = options.read(os.environ)
    except SettingsError as exc:
        if settings.otel:
            raise
        # platforms set the endpoint for all that they run
        logger.warning("no spans and no metrics are sent: %s", exc)
        return None
    from app.tracing.setup import OpenTelemetry

    # the worker that takes another one's place goes on with its counts
    started_by = os.getppid() if settings.workers > 1 or settings.watchdog else os.getpid()
    return OpenTelemetry(asked, metrics, instance=f"{socket.gethostname()}-{started_by}-{worker}", clock=clock)
