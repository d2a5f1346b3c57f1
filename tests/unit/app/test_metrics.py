import json
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.comparison import Comparison
from app.counts import SECONDS, Histogram, Statistics
from app.metrics import Metrics

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parsed(metrics: Metrics) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def at(samples: Samples, name: str, **labels: Any) -> float:
    return samples[name, tuple(sorted((key, str(value)) for key, value in labels.items()))]


def test_fresh_metrics_render_without_samples_of_any_model() -> None:
    samples = parsed(Metrics())
    assert samples == {}


def test_counters_come_out_with_their_labels() -> None:
    metrics = Metrics()
    metrics.requests["predict", "cnn", "1", "200"] += 3
    metrics.requests["predict", "", "", "404"] += 1
    metrics.refusals["overloaded"] += 2
    metrics.rejected_rows["cnn"] += 5
    metrics.batch_elements["lstm", "2"] += 700
    metrics.padding_elements["lstm", "2"] += 300
    metrics.shadow_rows["cnn", "2", "disagreed"] += 4
    metrics.shadow_s["cnn", "2", "shadow"].observe(0.002)
    samples = parsed(metrics)
    assert at(samples, "zto_requests_total", door="predict", model="cnn", version="1", status=200) == 3
    assert at(samples, "zto_requests_total", door="predict", model="", version="", status=404) == 1
    assert at(samples, "zto_refusals_total", code="overloaded") == 2
    assert at(samples, "zto_rejected_rows_total", model="cnn") == 5
    assert at(samples, "zto_batch_elements_total", model="lstm", version=2) == 700
    assert at(samples, "zto_padding_elements_total", model="lstm", version=2) == 300
    assert at(samples, "zto_shadow_rows_total", model="cnn", version=2, outcome="disagreed") == 4
    assert at(samples, "zto_shadow_seconds_sum", model="cnn", version=2, of="shadow") == 0.002


def test_histograms_come_out_cumulative_with_sum_and_count() -> None:
    metrics = Metrics()
    for rows in (1, 2, 2, 3, 5000):
        metrics.batch_rows["cnn"].observe(rows)
    metrics.stage_s["cnn", "queue"].observe(0.25)
    samples = parsed(metrics)
    counts = {le: at(samples, "zto_batch_rows_bucket", model="cnn", le=le) for le in ("1.0", "2.0", "4.0", "+Inf")}
    assert counts == {"1.0": 1, "2.0": 3, "4.0": 4, "+Inf": 5}
    assert at(samples, "zto_batch_rows_sum", model="cnn") == 5008
    assert at(samples, "zto_batch_rows_count", model="cnn") == 5
    assert at(samples, "zto_stage_seconds_bucket", model="cnn", stage="queue", le="0.25") == 1
    assert at(samples, "zto_stage_seconds_bucket", model="cnn", stage="queue", le="0.1") == 0


def test_a_gauge_is_read_anew_each_time() -> None:
    metrics, waiting = Metrics(), [1]
    metrics.add_gauge("zto_queue_rows", "Rows that wait.", ("model",), lambda: [(("cnn",), waiting[0])])
    assert at(parsed(metrics), "zto_queue_rows", model="cnn") == 1
    waiting[0] = 7
    assert at(parsed(metrics), "zto_queue_rows", model="cnn") == 7


def test_strange_label_values_are_escaped() -> None:
    metrics = Metrics()
    name = 'quo"te\\back\nline é'
    metrics.refusals[name] += 1
    assert at(parsed(metrics), "zto_refusals_total", code=name) == 1


def test_two_services_count_apart() -> None:
    first, second = Metrics(), Metrics()
    first.refusals["overloaded"] += 1
    assert parsed(first)
    assert parsed(second) == {}


def test_a_scrape_survives_what_is_counted_meanwhile() -> None:
    """A gauge that counts while it is read stands for the event loop that goes on."""
    metrics = Metrics()
    metrics.refusals["first"] += 1

    def read() -> list[tuple[tuple[str, ...], float]]:
        metrics.refusals["second"] += 1
        return [((), 1.0)]

    metrics.add_gauge("zto_any", "Any.", (), read)
    metrics.render()
    assert at(parsed(metrics), "zto_refusals_total", code="second") == 1


def test_a_snapshot_survives_what_is_counted_meanwhile() -> None:
    """A histogram that counts while its state is told stands for a thread that logs."""
    metrics = Metrics()

    class Late(Histogram):
        def state(self) -> list[Any]:
            metrics.stage_s["mlp", "queue"].observe(0.5)
            return super().state()

    metrics.stage_s["cnn", "queue"] = Late(SECONDS)
    assert [key for key, _ in metrics.snapshot()["counts"]["stage_s"]] == [("cnn", "queue")]
    assert ("mlp", "queue") in metrics.stage_s


def filled() -> Metrics:
    """Metrics in which every attribute that counts has counted something."""
    metrics = Metrics()
    for name, counts in metrics._counts():
        key = KEYS.get(name, "cnn")
        if isinstance(counts[key], Histogram):
            counts[key].observe(0.3)
            counts[key].observe(1000)
        elif isinstance(counts[key], Statistics):
            counts[key].answer(2, 5, 0.5, 0.1, 0.05, 0.3, 0.05)
            counts[key].batch(5, 0.025, 0.15, 0.025)
            counts[key].fail(0.25)
        elif isinstance(counts[key], Comparison):
            counts[key].count("agreed", 5)
        else:
            counts[key] += 5
    metrics.add_gauge("zto_rows", "Rows.", ("model",), lambda: [(("cnn",), 3), (("mlp",), 1)])
    metrics.add_gauge("zto_ready", "Ready.", ("model",), lambda: [(("cnn",), True)], combine=min)
    return metrics


KEYS: dict[str, tuple[str, ...]] = {
    "requests": ("predict", "cnn", "1", "200"),
    "stage_s": ("cnn", "queue"),
    "request_s": ("predict", "cnn"),
    "loop_lag_s": (),
    "batch_elements": ("lstm", "2"),
    "padding_elements": ("lstm", "2"),
    "statistics": ("cnn", "1"),
    "shadow_rows": ("cnn", "2", "agreed"),
    "shadow_s": ("cnn", "2", "serving"),
    "comparisons": ("cnn", "1", "2", "digest"),
}


def through_json(snapshot: Any) -> Any:
    return json.loads(json.dumps(snapshot))


def test_sums_over_three_processes_are_three_times_the_figures_of_one() -> None:
    alone, metrics = parsed(filled()), filled()
    metrics.share(lambda own: [through_json(own), through_json(filled().snapshot())])
    summed = parsed(metrics)
    assert summed.keys() == alone.keys()
    assert len({name for name, _ in alone}) > 8
    for sample, value in alone.items():
        expected = value if sample[0] == "zto_ready" else 3 * value
        assert summed[sample] == pytest.approx(expected), sample


def test_what_only_another_process_has_seen_is_told_too() -> None:
    other, metrics = Metrics(), Metrics()
    other.refusals["overloaded"] += 2
    other.stage_s["cnn", "parse"].observe(0.2)
    metrics.share(lambda own: [through_json(other.snapshot())])
    samples = parsed(metrics)
    assert at(samples, "zto_refusals_total", code="overloaded") == 2
    assert at(samples, "zto_stage_seconds_count", model="cnn", stage="parse") == 1
    assert metrics.refusals == {}  # it keeps its own count


def test_gauge_is_the_least_of_all_where_it_says_so_and_of_those_that_tell_one() -> None:
    metrics, other = filled(), through_json(filled().snapshot())
    other["gauges"]["zto_ready"] = [[["cnn"], 0.0]]
    gone = {"counts": {}, "gauges": {}}
    metrics.share(lambda own: [other, gone])
    assert at(parsed(metrics), "zto_ready", model="cnn") == 0
    assert at(parsed(metrics), "zto_rows", model="cnn") == 6


def test_a_successor_goes_on_from_what_was_left() -> None:
    successor = Metrics()
    successor.absorb(through_json(filled().snapshot()))
    successor.requests["predict", "cnn", "1", "200"] += 1
    samples, before = parsed(successor), parsed(filled())
    for sample, value in before.items():
        if sample[0] not in ("zto_rows", "zto_ready"):
            assert samples[sample] == value + (sample[0] == "zto_requests_total")


def test_statistics_of_three_processes_are_summed_and_the_last_batch_is_the_last_of_all() -> None:
    metrics, other = filled(), filled()
    other.statistics["cnn", "1"].batch(1, 0.5, 0.25, 0.125)
    other.statistics["cnn", "1"].last_batch_at = 4e9
    metrics.share(lambda own: [through_json(other.snapshot()), through_json(filled().snapshot())])
    total = metrics.total().statistics["cnn", "1"]
    assert (total.answered, total.rows, total.failed) == (6, 15, 3)
    assert total.answered_s == pytest.approx(1.5)
    assert total.failed_s == pytest.approx(0.75)
    assert total.queue_s == pytest.approx(0.3)
    assert (total.input_s, total.compute_s, total.output_s) == pytest.approx((0.15, 0.9, 0.15))
    assert {rows: sums.batches for rows, sums in total.by_rows.items()} == {5: 3, 1: 1}
    assert total.by_rows[5].compute_s == pytest.approx(0.45)
    one = total.by_rows[1]
    assert (one.input_s, one.compute_s, one.output_s) == (0.5, 0.25, 0.125)
    assert total.last_batch_at == 4e9
    assert metrics.statistics["cnn", "1"].answered == 2  # it keeps its own count


def test_metrics_of_one_process_are_their_own_total() -> None:
    metrics = filled()
    assert metrics.total() is metrics
