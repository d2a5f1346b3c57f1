import json

from app.metrics import Metrics
from app.workers.notes import without_gauges
from app.workers.parent import LONGEST_PAUSE_S, pause_after


def test_first_early_end_costs_no_pause_and_later_ones_ever_longer() -> None:
    assert [pause_after(count) for count in range(8)] == [0, 0, 0.5, 1, 2, 4, 8, 16]
    assert pause_after(8) == LONGEST_PAUSE_S
    assert pause_after(10_000) == LONGEST_PAUSE_S


def test_gauges_of_one_that_is_gone_tell_of_nobody_and_its_counts_stand() -> None:
    metrics = Metrics()
    metrics.refusals["overloaded"] += 2
    metrics.add_gauge("zto_any", "Any.", (), lambda: [((), 3.0)])
    note = json.loads(without_gauges(json.dumps(metrics.snapshot()).encode()))
    assert note["gauges"] == {}
    assert note["counts"] == metrics.snapshot()["counts"]
    assert without_gauges(b"") == b""
