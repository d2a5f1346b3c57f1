from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from app.counts import Histogram
from app.exposition import write_histograms

texts = st.text(max_size=8)


@given(
    st.dictionaries(st.tuples(texts, texts), st.lists(st.floats(0, 20) | st.just(1.0), max_size=6), max_size=4),
)
def test_histograms_read_as_prometheus_client_writes_them(observed: dict[tuple[str, str], list[float]]) -> None:
    histograms = {}
    family = HistogramMetricFamily("some_seconds", "What took so long.", labels=("model", "stage"))
    for values, seconds in observed.items():
        histogram = histograms[values] = Histogram((0.25, 1.0, 10.0))
        for value in seconds:
            histogram.observe(value)
        family.add_metric(values, histogram.buckets(), histogram.total)

    class Known(Collector):
        def collect(self) -> list[HistogramMetricFamily]:
            return [family]

    registry = CollectorRegistry()
    registry.register(Known())
    lines = write_histograms("some_seconds", "What took so long.", ("model", "stage"), histograms)
    assert "".join(lines).encode() == generate_latest(registry)


def test_a_histogram_without_labels_has_no_braces_but_those_of_its_bounds() -> None:
    histogram = Histogram((0.5,))
    histogram.observe(0.1)
    assert "".join(write_histograms("late", "How late.", (), {(): histogram})).splitlines()[2:] == [
        'late_bucket{le="0.5"} 1.0',
        'late_bucket{le="+Inf"} 1.0',
        "late_count 1.0",
        "late_sum 0.1",
    ]
