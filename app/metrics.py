"""What the service counts: plain integers on the way of a request, turned into Prometheus families when asked.

Everything but the lines of the log that are lost is written from the event loop's thread alone, so an increment is an
increment and takes no lock. Where several processes serve, each counts for itself, and whoever is asked adds up the
snapshots of all.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypedDict

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from app.comparison import Comparison
from app.counts import ROW_SECONDS, ROWS, SECONDS, Histogram, Statistics
from app.exposition import write_histograms

GaugeReadings: TypeAlias = Iterable[tuple[tuple[str, ...], float]]


class Snapshot(TypedDict):
    """What one process has counted, as JSON can hold it.

    Attributes:
        counts: By attribute of :class:`Metrics`: its keys, each with its count, or with the state of what has several.
        gauges: By name: label values, each with a number.
    """

    counts: dict[str, list[Any]]
    gauges: dict[str, list[Any]]


@dataclass(frozen=True, slots=True)
class _Gauge:
    name: str
    help_text: str
    labels: tuple[str, ...]
    read: Callable[[], GaugeReadings]
    combine: Callable[[Iterable[float]], float]


class _Plain(Collector):
    def __init__(self, metrics: "Metrics") -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return self._metrics.plain()


class Metrics:
    """All that one service counts.

    Attributes:
        requests: Answered requests, by door, model, version and HTTP status.
        stage_s: Seconds of a request by model and stage: ``parse``, ``queue``, ``compute``, ``write``.
        request_s: Seconds from the head of a request to its answer, of those that a model has answered, by door and
            model.
        loop_lag_s: Seconds by which the event loop was late, under the empty key.
        dropped_lines: Lines of the log that nobody had room for, by the log: ``records`` or ``requests``.
        dropped_spans: Spans that found no room in their queue, by what makes them.
        batch_rows: Rows of each call of the backend, by model.
        refusals: Requests without a prediction, by the code of the error.
        rate_limited: Requests that were one too many, by what was counted: ``key`` or ``address``.
        key_reads: How often the file of keys was read anew, by ``ok`` and ``broken``.
        rejected_rows: Poison items, the rows that a model failed on while it was well, by model.
        swaps: How versions came and went after the start: by model and outcome, which is ``loaded``, ``refused``,
            ``switched`` or ``rolled_back``.
        batch_elements: Rows times padded length of the batches of a model and version whose rows have lengths.
        padding_elements: How many of these were padding.
        canaries: Golden rows that were asked, by model, version, and what became of them: ``right``, ``wrong``,
            ``failed``, ``refused`` by a full queue.
        statistics: Requests and batches of a model and version, as the Open Inference Protocol tells them.
        shadow_rows: Rows drawn for a shadow, by model, version and what became of them.
        shadow_s: Seconds that a row of a batch compared took, by model, version of the shadow, and of whom:
            ``serving`` or ``shadow``.
        comparisons: What is found of the shadows of now, by model, serving version, shadow, and a digest that changes
            with either of them; they begin anew with another one.
    """

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str, str, str], int] = defaultdict(int)
        self.stage_s: dict[tuple[str, str], Histogram] = defaultdict(lambda: Histogram(SECONDS))
        self.request_s: dict[tuple[str, str], Histogram] = defaultdict(lambda: Histogram(SECONDS))
        self.loop_lag_s: dict[tuple[()], Histogram] = defaultdict(lambda: Histogram(SECONDS))
        self.dropped_lines: dict[str, int] = defaultdict(int)
        self.dropped_spans: dict[str, int] = defaultdict(int)
        self.batch_rows: dict[str, Histogram] = defaultdict(lambda: Histogram(ROWS))
        self.refusals: dict[str, int] = defaultdict(int)
        self.rate_limited: dict[str, int] = defaultdict(int)
        self.key_reads: dict[str, int] = defaultdict(int)
        self.rejected_rows: dict[str, int] = defaultdict(int)
        self.swaps: dict[tuple[str, str], int] = defaultdict(int)
        self.batch_elements: dict[tuple[str, str], int] = defaultdict(int)
        self.padding_elements: dict[tuple[str, str], int] = defaultdict(int)
        self.canaries: dict[tuple[str, str, str], int] = defaultdict(int)
        self.statistics: dict[tuple[str, str], Statistics] = defaultdict(Statistics)
        self.shadow_rows: dict[tuple[str, str, str], int] = defaultdict(int)
        self.shadow_s: dict[tuple[str, str, str], Histogram] = defaultdict(lambda: Histogram(ROW_SECONDS))
        self.comparisons: dict[tuple[str, str, str, str], Comparison] = defaultdict(Comparison)
        self._gauges: list[_Gauge] = []
        self._exchange: Callable[[Snapshot], Iterable[Snapshot]] | None = None
        self._without_histograms = CollectorRegistry()
        self._without_histograms.register(_Plain(self))

    def add_gauge(
        self,
        name: str,
        help_text: str,
        labels: tuple[str, ...],
        read: Callable[[], GaugeReadings],
        *,
        combine: Callable[[Iterable[float]], float] = sum,
    ) -> None:
        """Add a figure that is read only when somebody asks.

        Args:
            name: Of the figure.
            help_text: What it is.
            labels: Their names.
            read: Yields label values and a number.
            combine: Makes one number of those of several processes.
        """
        self._gauges.append(_Gauge(name, help_text, labels, read, combine))

    def share(self, exchange: Callable[[Snapshot], Iterable[Snapshot]]) -> None:
        """Tell the sums over several processes from now on.

        Args:
            exchange: Takes what this process has counted, and returns what the others have.
        """
        self._exchange = exchange

    def snapshot(self) -> Snapshot:
        """Return all that this process has counted, and its gauges now."""
        # each is copied first: a thread that logs may be the first to count a line that is lost
        return {
            "counts": {
                name: [[key, count if isinstance(count, int) else count.state()] for key, count in list(counts.items())]
                for name, counts in self._counts()
            },
            "gauges": {gauge.name: [[values, float(number)] for values, number in gauge.read()]
                       for gauge in self._gauges},
        }  # fmt: skip

    def absorb(self, snapshot: Snapshot) -> None:
        """Count what another process has counted; its gauges are left alone."""
        for name, ours in self._counts():
            for key, count in snapshot["counts"].get(name, ()):
                key = tuple(key) if isinstance(key, list) else key
                if isinstance(count, list):
                    ours[key].add(*count)
                else:
                    ours[key] += count

    def forget(self, model: str, version: str) -> None:
        """Let go of the statistics of a version that is gone: over years there are thousands, in every snapshot.

        What Prometheus is told of it stays, which is little: a sum that went down would pass for a new beginning.
        """
        self.statistics.pop((model, version), None)

    def _counts(self) -> Iterator[tuple[str, defaultdict[Any, Any]]]:
        for name, counts in vars(self).items():
            if isinstance(counts, defaultdict):
                yield name, counts

    def total(self) -> "Metrics":
        """Return the sums over the processes where there are several, else this."""
        if self._exchange is None:
            return self
        own = self.snapshot()
        return self._sum_up([own, *self._exchange(own)])

    def _sum_up(self, snapshots: Iterable[Snapshot]) -> "Metrics":
        """Return the sums of counts, and the gauges of this process's kinds combined."""
        total = Metrics()
        readings: dict[str, dict[tuple[str, ...], list[float]]] = defaultdict(lambda: defaultdict(list))
        for snapshot in snapshots:
            total.absorb(snapshot)
            for name, numbers in snapshot["gauges"].items():
                for values, number in numbers:
                    readings[name][tuple(values)].append(number)
        for gauge in self._gauges:
            combined = [(values, gauge.combine(numbers)) for values, numbers in readings[gauge.name].items()]
            total.add_gauge(gauge.name, gauge.help_text, gauge.labels, partial(iter, combined))
        return total

    def collect(self) -> Iterator[Metric]:
        """Yield one family per figure."""
        for name, help_text, labels, histograms in self._histograms():
            family = HistogramMetricFamily(name, help_text, labels=labels)
            for values, histogram in list(histograms.items()):
                family.add_metric(values, histogram.buckets(), histogram.total)
            yield family
        yield from self.plain()

    def plain(self) -> Iterator[Metric]:
        """Yield the families that are no histograms; called by the registry."""
        yield from self._counters()
        for gauge in self._gauges:
            gauges = GaugeMetricFamily(gauge.name, gauge.help_text, labels=gauge.labels)
            for values, number in gauge.read():
                gauges.add_metric(values, number)
            yield gauges

    def _histograms(self) -> Iterator[tuple[str, str, tuple[str, ...], Mapping[Any, Histogram]]]:
        """Yield name, help, names of labels, and the histograms by the values of these."""
        yield "zto_stage_seconds", "Seconds by stage of a request.", ("model", "stage"), self.stage_s
        answered = "Seconds from the head of a request to its answer, where a model has answered."
        yield "zto_request_seconds", answered, ("door", "model"), self.request_s
        rows = {(model,): histogram for model, histogram in list(self.batch_rows.items())}
        yield "zto_batch_rows", "Rows of a call of the backend.", ("model",), rows
        compared = "Compute seconds of a row of each batch compared, of the version that answers and of its shadow."
        yield "zto_shadow_seconds", compared, ("model", "version", "of"), self.shadow_s
        late = "Seconds by which the event loop was late, sampled."
        yield "zto_event_loop_lag_seconds", late, (), self.loop_lag_s

    def _counters(self) -> Iterator[Metric]:
        one_version = ("model", "version")
        yield _counter("zto_requests", "Answered requests.", ("door", *one_version, "status"), self.requests)
        for name, help_text, label, counts in (
            ("zto_refusals", "Requests without a prediction, by error code.", "code", self.refusals),
            ("zto_rate_limited", "Requests that were one too many for their key or address.", "by", self.rate_limited),
            ("zto_key_reads", "How often the file of keys was read anew.", "outcome", self.key_reads),
            (
                "zto_rejected_rows",
                "Poison items: rows that a model failed on while it was well.",
                "model",
                self.rejected_rows,
            ),
            ("zto_log_lines_dropped", "Lines of the log that found no room.", "log", self.dropped_lines),
            ("zto_spans_dropped", "Spans that found no room in their queue.", "scope", self.dropped_spans),
        ):
            yield _counter(name, help_text, (label,), {(value,): count for value, count in list(counts.items())})
        yield _counter("zto_swaps", "Changes of versions after the start.", ("model", "outcome"), self.swaps)
        yield _counter(
            "zto_batch_elements", "Rows times padded length of batches, where rows have lengths.", one_version,
            self.batch_elements,
        )  # fmt: skip
        yield _counter(
            "zto_canary", "Golden rows asked through the queue.", (*one_version, "outcome"), self.canaries
        )  # fmt: skip
        yield _counter(
            "zto_shadow_rows", "Rows drawn for a shadow, by what became of them.", (*one_version, "outcome"),
            self.shadow_rows,
        )  # fmt: skip
        yield _counter(
            "zto_padding_elements", "How many of zto_batch_elements were padding.", one_version, self.padding_elements
        )

    def render(self) -> bytes:
        """Return all figures in the Prometheus text format, summed over the processes where there are several."""
        total = self.total()
        lines = [line for family in total._histograms() for line in write_histograms(*family)]
        return "".join(lines).encode() + generate_latest(total._without_histograms)


def _counter(name: str, help_text: str, labels: tuple[str, ...], counts: Mapping[Any, int]) -> CounterMetricFamily:
    """Return the family of a counter, from its counts by the values of its labels."""
    counter = CounterMetricFamily(name, help_text, labels=labels)
    for values, count in list(counts.items()):  # copied: they go on counting while they are read
        counter.add_metric(values, count)
    return counter
