"""What a request and a batch look like as spans of OpenTelemetry. Made on the thread that exports them.

Names of attributes are those of the semantic conventions (HTTP 1.44, RPC), and ``zto.*`` where there is none.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from app.tracing.context import Trace
from app.tracing.facts import MAX_PATH, BatchFacts, Facts

# what the SDK allows by default
MAX_LINKS = 128
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
# the SDK's processor asks each span whether it is sampled, and these always are
_ANY = SpanContext(1, 1, is_remote=False, trace_flags=_SAMPLED)
_SERVER_ERROR = 500
_SERVER_FAULTS_OF_GRPC = frozenset(
    ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
)


class RequestSpan(NamedTuple):
    """A request that is over; seconds are before ``ended_at_ns``, since the epoch."""

    trace: Trace
    request_id: bytes
    client: str
    facts: Facts
    took_s: float
    since_answer_s: float
    ended_at_ns: int

    @property
    def context(self) -> SpanContext:
        """Says that it is sampled."""
        return _ANY

    def build(self, resource: Resource, scope: InstrumentationScope) -> ReadableSpan:
        """Return the span."""
        facts, trace = self.facts, self.trace
        start_ns = self.ended_at_ns - _ns(self.took_s)
        name, attributes = _call(facts) if isinstance(facts.status, str) else _http(facts)
        attributes |= {
            "client.address": self.client,
            "zto.request_id": self.request_id.decode("ascii"),
            "zto.door": facts.door,
            "zto.model": facts.model,
            "zto.version": facts.version,
            "zto.rows": facts.rows,
            "zto.batch.rows": facts.batch_rows,
            "error.type": facts.code if _is_fault(facts.status) else "",
        }
        parent = _context(trace.trace_id, trace.parent_id, is_remote=True) if trace.parent_id else None
        return ReadableSpan(
            name,
            context=_context(trace.trace_id, trace.span_id),
            parent=parent,
            resource=resource,
            attributes={key: value for key, value in attributes.items() if value not in ("", 0)},
            events=self._events(start_ns),
            links=() if facts.batch is None else (_link(facts.batch),),
            kind=SpanKind.SERVER,
            status=Status(StatusCode.ERROR) if _is_fault(facts.status) else Status(),
            start_time=start_ns,
            end_time=self.ended_at_ns,
            instrumentation_scope=scope,
        )

    def _events(self, start_ns: int) -> tuple[Event, ...]:
        """Return the end of each stage, of a request that a model has answered."""
        facts = self.facts
        if not facts.answered_at:
            return ()
        parsed_ns = start_ns + _ns(facts.parse_s)
        taken_ns = parsed_ns + _ns(facts.queue_s)
        answered_ns = self.ended_at_ns - _ns(self.since_answer_s)
        return (
            Event("parsed", {"zto.parse_s": facts.parse_s}, parsed_ns),
            Event("taken", {"zto.queue_s": facts.queue_s}, taken_ns),
            Event("computed", {"zto.compute_s": facts.compute_s}, answered_ns),
            Event("written", {"zto.write_s": self.since_answer_s}, self.ended_at_ns),
        )


class BatchSpan(NamedTuple):
    """A batch that is over; seconds are before ``ended_at_ns``, since the epoch."""

    trace: Trace
    batch: BatchFacts
    links: Sequence[Trace]
    took_s: float
    since_start_s: float
    ended_at_ns: int

    @property
    def context(self) -> SpanContext:
        """Says that it is sampled."""
        return _ANY

    def build(self, resource: Resource, scope: InstrumentationScope) -> ReadableSpan:
        """Return the span."""
        batch = self.batch
        started_ns = self.ended_at_ns - _ns(self.since_start_s)
        attributes: dict[str, Any] = {
            "zto.model": batch.model,
            "zto.version": batch.version,
            "zto.batch.requests": batch.requests,
            "zto.batch.rows": batch.rows,
            "zto.batch.rejected_rows": batch.rejected_rows,
        }
        if batch.elements:  # rows have lengths
            attributes |= {"zto.batch.elements": batch.elements, "zto.batch.padding_elements": batch.padding_elements}
        return ReadableSpan(
            f"batch {batch.model}",
            context=_context(self.trace.trace_id, self.trace.span_id),
            resource=resource,
            attributes=attributes,
            events=(
                Event("assembled", {}, started_ns),
                Event("computed", {"zto.compute_s": batch.compute_s}, started_ns + _ns(batch.compute_s)),
            ),
            links=[_link(trace) for trace in self.links[:MAX_LINKS]],
            kind=SpanKind.INTERNAL,
            status=Status() if batch.sick_because is None else Status(StatusCode.ERROR, batch.sick_because),
            start_time=self.ended_at_ns - _ns(self.took_s),
            end_time=self.ended_at_ns,
            instrumentation_scope=scope,
        )


Finished: TypeAlias = RequestSpan | BatchSpan


def _http(facts: Facts) -> tuple[str, dict[str, Any]]:
    """Return the name and the attributes of a request over HTTP. A path that no door knows is no route."""
    route = facts.path if facts.model else ""
    return f"{facts.method or 'HTTP'} {route}".strip(), {
        "http.request.method": facts.method or "_OTHER",
        "http.response.status_code": facts.status,
        "http.route": route,
        "url.path": facts.path[:MAX_PATH],
        "url.scheme": "http",
    }


def _call(facts: Facts) -> tuple[str, dict[str, Any]]:
    """Return the name and the attributes of a call of gRPC."""
    method = facts.path.lstrip("/")
    return method, {"rpc.system.name": "grpc", "rpc.method": method, "rpc.response.status_code": facts.status}


def _is_fault(status: int | str) -> bool:
    """Tell whether a status is a server's fault, as the conventions have it; a caller's are no errors of a span."""
    return status in _SERVER_FAULTS_OF_GRPC if isinstance(status, str) else status >= _SERVER_ERROR


def _context(trace_id: bytes, span_id: int, *, is_remote: bool = False) -> SpanContext:
    return SpanContext(int(trace_id, 16), span_id, is_remote=is_remote, trace_flags=_SAMPLED)


def _link(trace: Trace) -> Link:
    return Link(_context(trace.trace_id, trace.span_id))


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
