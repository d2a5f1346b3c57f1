"""A collector of OpenTelemetry: takes OTLP over HTTP as protobuf, and keeps what came."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PATIENCE_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Span:
    """One span; ids are bytes, and empty where there is none."""

    name: str
    kind: int
    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    events: list[tuple[str, int]]
    links: set[tuple[bytes, bytes]]
    is_error: bool
    scope: str
    resource: dict[str, Any]

    @property
    def place(self) -> tuple[bytes, bytes]:
        """What a link to it says."""
        return self.trace_id, self.span_id


@dataclass
class Collector:
    """What came, and where it takes more; ``url`` is for OTEL_EXPORTER_OTLP_ENDPOINT."""

    url: str
    spans: list[Span] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    exports_of: dict[str, int] = field(default_factory=dict)

    def wait_for(self, is_so: Callable[[Span], bool], *, count: int = 1) -> list[Span]:
        """Return the spans of which something is so, once there are so many."""
        ends_at = time.monotonic() + PATIENCE_S
        while len(found := [span for span in list(self.spans) if is_so(span)]) < count:
            assert time.monotonic() < ends_at, [span.name for span in self.spans]
            time.sleep(0.02)
        return found

    def of_request(self, request_id: str) -> Span:
        """Return the span of a request, once it has come."""
        (found,) = self.wait_for(lambda span: span.attributes.get("zto.request_id") == request_id)
        return found


@contextmanager
def collecting() -> Iterator[Collector]:
    """Take what is sent to a free port of the loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/traces":
                collector.spans.extend(_spans(ExportTraceServiceRequest.FromString(body)))
            else:
                collector.metrics.update(_metrics(ExportMetricsServiceRequest.FromString(body)))
            collector.exports_of[self.path] = collector.exports_of.get(self.path, 0) + 1
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


def _value(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value"))


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _spans(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    name=span.name,
                    kind=span.kind,
                    trace_id=span.trace_id,
                    span_id=span.span_id,
                    parent_id=span.parent_span_id,
                    start_ns=span.start_time_unix_nano,
                    end_ns=span.end_time_unix_nano,
                    attributes=_attributes(span.attributes),
                    events=[(event.name, event.time_unix_nano) for event in span.events],
                    links={(link.trace_id, link.span_id) for link in span.links},
                    is_error=span.status.code == 2,
                    scope=scope.scope.name,
                    resource=_attributes(resource.resource.attributes),
                )


def _metrics(request: ExportMetricsServiceRequest) -> dict[str, Any]:
    """Return the points of each metric: its attributes, with the number or the count."""
    found: dict[str, Any] = {}
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                kind = metric.WhichOneof("data")
                assert kind is not None
                found[metric.name] = [
                    (
                        _attributes(point.attributes),
                        point.count if kind == "histogram" else point.as_double or point.as_int,
                    )
                    for point in getattr(metric, kind).data_points
                ]
    return found
