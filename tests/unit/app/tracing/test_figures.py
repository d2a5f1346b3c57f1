from typing import Any

from opentelemetry.sdk.metrics.export import Gauge, Sum
from opentelemetry.sdk.metrics.export import Histogram as Points

from app.counts import SECONDS
from app.metrics import Metrics
from app.tracing.figures import as_metric


def bridged(metrics: Metrics) -> dict[str, Any]:
    found = (as_metric(family, 1, 2) for family in metrics.collect())
    return {metric.name: metric for metric in found if metric is not None}


def test_figures_are_those_of_the_scrape() -> None:
    metrics = Metrics()
    metrics.requests["predict", "cnn", "1", "200"] += 7
    metrics.add_gauge("zto_queue_rows", "Rows that wait.", ("model",), lambda: [(("cnn",), 3.0)])
    for seconds in (0.0002, 0.0002, 0.3, 99.0):
        metrics.stage_s["cnn", "queue"].observe(seconds)
    found = bridged(metrics)
    requests, rows, stages = found["zto_requests"].data, found["zto_queue_rows"].data, found["zto_stage_seconds"].data
    assert isinstance(requests, Sum)
    assert requests.is_monotonic
    (point,) = requests.data_points
    labels = {"door": "predict", "model": "cnn", "version": "1", "status": "200"}
    assert (point.value, point.attributes) == (7, labels)
    assert isinstance(rows, Gauge)
    assert rows.data_points[0].value == 3.0
    assert isinstance(stages, Points)
    (histogram,) = stages.data_points
    assert (histogram.count, histogram.sum, tuple(histogram.explicit_bounds)) == (4, 99.3004, SECONDS)
    assert histogram.attributes == {"model": "cnn", "stage": "queue"}
    assert [count for count in histogram.bucket_counts if count] == [2, 1, 1]
    assert sum(histogram.bucket_counts) == 4
    assert len(histogram.bucket_counts) == len(SECONDS) + 1
    assert (found["zto_stage_seconds"].unit, found["zto_requests"].unit) == ("s", "1")


def test_what_has_no_sample_is_no_metric() -> None:
    assert bridged(Metrics()) == {}
