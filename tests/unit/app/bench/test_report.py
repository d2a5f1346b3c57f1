import json
from collections import Counter
from typing import Any

from app.bench.histogram import Histogram
from app.bench.plans import ClosedLoop, OpenLoop
from app.bench.report import document, notes, table
from app.bench.tally import Result

CLOSED = ClosedLoop(clients=2, measured_s=2.0)
OPEN = OpenLoop(rate=100, measured_s=2.0)


def times(*milliseconds: float) -> Histogram:
    histogram = Histogram()
    for each in milliseconds:
        histogram.record(int(each * 1e6))
    return histogram


def result(**changes: Any) -> Result:
    fields: dict[str, Any] = {
        "seconds": 2.0, "requests": 5, "outcomes": Counter({"200": 3, "503": 1, "timed out": 1}), "in_time": 3,
        "response": times(1, 2, 40), "service": times(1, 2, 3), "refused": times(0.5), "late": 1, "lag": times(0.01),
        "bytes_received": 600, "bytes_sent": 500, "retry_after_s": Counter({1: 1, 4: 1}),
        "timeline": [Counter({"200": 3, "503": 1, "timed out": 1})], "busy": 0.2, "metered": 0.0, "was_stopped": False,
    }  # fmt: skip
    return Result(**fields | changes)


def rows(text: str) -> dict[str, list[str]]:
    return {line[:26].strip(): line[26:].split() for line in text.splitlines()}


def test_the_table_counts_every_outcome_and_shows_both_times_of_an_open_loop() -> None:
    text = table(result(), OPEN, within_ms=10)
    found = rows(text)
    assert found["answered with 200"] == ["3", "1.5/s"]
    assert found["of these within 10 ms"] == ["2", "1.0/s"]
    assert found["answered with 503"] == ["1", "0.5/s"]
    assert found["timed out"] == ["1", "0.5/s"]
    assert found["Retry-After of refusals"] == ["1", "to", "4", "s"]
    assert found["waited for a connection"] == ["1"]
    lines = [line.split() for line in text.splitlines()]
    assert ["p99.9", "40.000", "3.000", "0.500"] in lines
    assert "note:" not in text


def test_a_closed_loop_has_one_time() -> None:
    text = table(result(), CLOSED, within_ms=None)
    assert "service ms" not in text
    assert "waited for a connection" not in text


def test_what_a_reader_has_to_know_is_noted() -> None:
    assert notes(result(), OPEN) == []
    told = notes(result(was_stopped=True, busy=0.97, response=times(), lag=times(50)), OPEN)
    assert [any(part in note for note in told) for part in ("stopped after", "busy 97%", "no request was", "50.")] == [
        True, True, True, True
    ]  # fmt: skip


def test_without_any_answer_there_are_no_times_and_no_nan() -> None:
    empty = result(response=times(), service=times(), refused=times(), outcomes=Counter(), in_time=0)
    assert "nan" not in table(empty, OPEN, within_ms=5)
    json.dumps(document(empty, OPEN, within_ms=5, asked={}), allow_nan=False)


def test_the_document_holds_everything_and_its_histogram_adds_up() -> None:
    found = json.loads(json.dumps(document(result(), OPEN, within_ms=10, asked={"target": "cnn"}), allow_nan=False))
    assert found["goodput_per_s"] == 1.0
    assert found["plan"]["loop"] == "open"
    assert found["plan"]["rate"] == 100
    assert sum(count for _, count in found["response_histogram"]) == found["outcomes"]["200"] == 3
    assert found["response_ms"]["max"] == 40
    assert found["environment"]["processor"]
    assert "numpy" in found["environment"]["packages"]
