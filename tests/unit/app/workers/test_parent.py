import errno
import json
import os
import signal
from collections.abc import Iterator

import pytest

from app.metrics import Metrics
from app.settings import Settings
from app.workers.notes import without_gauges
from app.workers.parent import LONGEST_PAUSE_S, Parent, pause_after


@pytest.fixture
def parent() -> Iterator[Parent]:
    """One that has no workers yet, in this very process."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
    before = {number: signal.getsignal(number) for number in numbers}
    parent = Parent(Settings(), [])
    yield parent
    assert parent._end() == parent._status
    for number, handler in before.items():
        signal.signal(number, handler)


def refuse_to_fork() -> int:
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def test_a_worker_that_cannot_be_forked_is_tried_again_and_the_service_goes_on(
    parent: Parent, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "fork", refuse_to_fork)
    parent._board.note_served()
    files = set(os.listdir("/proc/self/fd"))
    for pause in ("0.5 s", "0.5 s", "1 s"):
        assert parent._start(0) is None
        assert f"Resource temporarily unavailable; it is tried again in {pause}" in caplog.text
        caplog.clear()
    assert not parent._is_told_to_end
    assert set(os.listdir("/proc/self/fd")) == files


def test_a_service_whose_first_worker_cannot_be_forked_ends(parent: Parent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fork", refuse_to_fork)
    assert parent._start(0) is None
    assert parent._is_told_to_end
    assert parent._status == 1


def test_children_that_end_are_not_noted_and_a_signal_to_end_is(parent: Parent) -> None:
    for _ in range(5):
        os.kill(os.getpid(), signal.SIGCHLD)
    assert parent._heard == []
    os.kill(os.getpid(), signal.SIGTERM)
    assert parent._is_told_to_end


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
