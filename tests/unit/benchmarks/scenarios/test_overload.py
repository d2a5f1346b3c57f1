"""What is made of an overload: the arithmetic, and one small drill on a real service."""

import math
from pathlib import Path

import pytest

from app.bench.tally import Tally
from benchmarks import pictures
from benchmarks.calm import Patience
from benchmarks.findings import Setting
from benchmarks.scenarios import _bundles, _drill, overload
from benchmarks.scenarios._drill import Drill, Peak
from benchmarks.scenarios.two_models import _picture_body
from benchmarks.servers import pinned, service, start, two_cores

MS = 1_000_000


def drill(*, answered: int = 90, refused: int = 110, refused_ms: int = 1, answered_ms: int = 100) -> Drill:
    """A second of overload at a peak of 100 answers a second, 10 ms each, whose refusals cost 1 ms each."""
    tally = Tally(begins_ns=0, ends_ns=1000 * MS, counts_by_due=True)
    for _ in range(answered):
        tally.answer(b"200", 0, 0, answered_ms * MS)
    for _ in range(refused):
        tally.answer(b"503", 0, 0, refused_ms * MS)
    return Drill(
        peak=Peak(requests_per_s=100, server_us=10_000, clients=32),
        overload=tally.result(seconds=1.0, busy=0.1, metered=0.0, was_stopped=False),
        server_s=answered * 0.01 + refused * 0.001,
        resident_mb=[100.0] * 8,
        recovered_s=0.0,
    )


def met(found: Drill) -> list[bool]:
    return [bar.is_met for bar in overload.bars("cnn", found)]


def test_free_refusals_leave_the_whole_peak() -> None:
    assert _drill.goodput_limit(0.0) == 1.0


def test_refusals_are_paid_from_the_same_core() -> None:
    share = _drill.goodput_limit(0.1)
    assert share + (2 - share) * 0.1 == pytest.approx(1)


@pytest.mark.parametrize("share", [0.5, 0.8, 1.0, 3.0])
def test_refusals_as_dear_as_half_an_answer_leave_nothing(share: float) -> None:
    assert _drill.goodput_limit(share) == 0.0


def test_a_refusal_costs_what_the_answers_did_not() -> None:
    found = drill()
    assert found.refusal_us == pytest.approx(1000)
    assert found.limit == pytest.approx(_drill.goodput_limit(0.1))


def test_bars_are_met_by_what_meets_them() -> None:
    assert met(drill()) == [True] * 5


def test_answers_past_the_deadline_are_no_goodput() -> None:
    found = drill(answered_ms=300)
    assert found.goodput_share == 0
    assert met(found)[:2] == [False, False]


def test_slow_refusals_miss_their_bar() -> None:
    assert met(drill(refused_ms=11))[2] is False


def test_expired_requests_are_no_slow_refusals() -> None:
    found = drill(refused=98, refused_ms=2)
    for _ in range(40):
        found.overload.refused.record(260 * MS)
        found.overload.outcomes["504"] += 1
    assert found.refused_ms(99) < 3
    assert met(found)[2] is True


def test_a_service_that_refuses_nobody_has_no_slow_refusals() -> None:
    assert met(drill(refused=0))[2] is True


def test_growth_is_from_the_second_quarter_to_the_last() -> None:
    assert _drill.growth([50, 100, 101, 102, 103, 104, 105, 106]) == pytest.approx(4)
    assert _drill.growth([100]) == 0


def test_more_headers_leave_a_request_whole() -> None:
    (request,) = overload.with_headers([b"POST / HTTP/1.1\r\nHost: x\r\n\r\nbody"], {"A": "1", "B": "2"})
    assert request == b"POST / HTTP/1.1\r\nA: 1\r\nB: 2\r\nHost: x\r\n\r\nbody"


@pytest.mark.slow
def test_a_drill_accounts_for_every_request_and_ends_in_calm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overload, "QUICK_OVERLOAD_S", 2.0)
    monkeypatch.setattr(overload, "CONNECTIONS", 256)
    _bundles.write_dummy(tmp_path, "dummy", sleep_s=0.004, max_rows=1)
    server_core, load_core = two_cores()
    setting = Setting(
        rounds=1, seconds=1.0, warm_up_s=0.1, server_core=server_core, load_core=load_core, patience=Patience(0),
        tell=lambda line: None, is_quick=True,
    )  # fmt: skip
    headers = {"X-Request-Timeout-Ms": str(_drill.DEADLINE_MS)}
    requests = overload.with_headers(pictures.http_requests("/predict/dummy", [_picture_body()]), headers)
    with start(service("dummy", tmp_path), server_core) as running, pinned(load_core):
        peak = overload.find_peak(running, requests, setting)
        found = overload.overload(running, requests, peak, setting)
    assert found.overload.requests == found.overload.answered + found.refused
    assert found.refused > 0
    assert set(found.overload.outcomes) <= {"200", "503", "504"}
    assert found.resident_mb
    assert math.isfinite(found.recovered_s)
