"""The figures of ``/metrics``, as OpenTelemetry's metrics: the very same counts, read when they are exported.

Nothing is counted twice, and nothing happens on the way of a request. The interface for instruments knows no histogram
that is read, so the points are made here and go out with those of the SDK's own meters. They are cumulative whatever
OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE says: a collector turns them into differences where one is wanted.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client.metrics_core import Metric as Family

_CUMULATIVE = AggregationTemporality.CUMULATIVE
_UNITS = (("_seconds", "s"), ("_bytes", "By"))


class FiguresExporter(MetricExporter):
    """Exports what the SDK has collected, and our figures with it.

    Args:
        exporter: Sends them.
        read: Returns the figures now; called on the exporting thread, and may raise.
        resource: Of the service.
        scope: Of the figures.
    """

    def __init__(
        self,
        exporter: MetricExporter,
        read: Callable[[], Iterable[Family]],
        resource: Resource,
        scope: InstrumentationScope,
    ) -> None:
        super().__init__(exporter._preferred_temporality, exporter._preferred_aggregation)
        self._exporter = exporter
        self._read = read
        self._resource = resource
        self._scope = scope
        self._started_at_ns = time.time_ns()

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        """Send all of them."""
        now_ns = time.time_ns()
        ours = [metric for family in self._read() if (metric := as_metric(family, self._started_at_ns, now_ns))]
        # one entry, since the encoder keeps one of each resource, and of each scope in it
        theirs = [scope for of_resource in metrics_data.resource_metrics for scope in of_resource.scope_metrics]
        all_of_it = ResourceMetrics(self._resource, [*theirs, ScopeMetrics(self._scope, ours, "")], "")
        return self._exporter.export(MetricsData([all_of_it]), timeout_millis, **kwargs)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Send what is held back, which is nothing."""
        return self._exporter.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Send no more."""
        self._exporter.shutdown(timeout_millis, **kwargs)


def as_metric(family: Family, started_at_ns: int, now_ns: int) -> Metric | None:
    """Return a family of Prometheus as a metric; None where it has no sample yet."""
    if not family.samples:
        return None
    data: Sum | Gauge | Histogram
    if family.type == "histogram":
        data = Histogram(_histogram_points(family, started_at_ns, now_ns), _CUMULATIVE)
    else:
        points = [
            NumberDataPoint(sample.labels, started_at_ns, now_ns, float(sample.value))
            for sample in family.samples
            if not sample.name.endswith("_created")
        ]
        data = Sum(points, _CUMULATIVE, is_monotonic=True) if family.type == "counter" else Gauge(points)
    unit = next((unit for suffix, unit in _UNITS if family.name.endswith(suffix)), "1")
    return Metric(family.name, family.documentation, unit, data)


def _histogram_points(family: Family, started_at_ns: int, now_ns: int) -> list[HistogramDataPoint]:
    """Return a point for each set of labels; Prometheus counts up to each bound, OpenTelemetry between them."""
    buckets: dict[tuple[tuple[str, str], ...], list[tuple[float, int]]] = {}
    sums: dict[tuple[tuple[str, str], ...], float] = {}
    for sample in family.samples:
        labels = tuple((name, value) for name, value in sample.labels.items() if name != "le")
        if sample.name.endswith("_bucket"):
            buckets.setdefault(labels, []).append((float(sample.labels["le"]), int(sample.value)))
        elif sample.name.endswith("_sum"):
            sums[labels] = sample.value
    points = []
    for labels, cumulative in buckets.items():
        counts = [count for _, count in cumulative]
        between = [after - before for before, after in zip([0, *counts], counts, strict=False)]
        bounds = [bound for bound, _ in cumulative[:-1]]
        points.append(
            HistogramDataPoint(
                dict(labels), started_at_ns, now_ns, counts[-1], sums[labels], between, bounds,
                min=None, max=None,  # type: ignore[arg-type]  # nobody knows; the protocol lets both be left out
            )
        )  # fmt: skip
    return points
