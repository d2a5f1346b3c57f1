"""Patience with others, who are made up here."""

import subprocess
import sys

import pytest

from benchmarks import calm


class Someone:
    """Stands in for the others: what they take is told beforehand, one figure for each look."""

    def __init__(self, *cores: float) -> None:
        self.left = list(cores)

    def __call__(self) -> "Someone":
        return self

    def cores(self) -> float:
        return self.left.pop(0)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)


def test_what_was_disturbed_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    # calm before, disturbed meanwhile; one look too many, calm; calm meanwhile
    monkeypatch.setattr(calm, "Others", Someone(0.0, 0.9, 0.5, 0.0, 0.05))
    measured = iter(["disturbed", "calm"])
    assert calm.Patience(100).measure(lambda: next(measured)) == ("calm", 0.05)


def test_without_patience_the_first_figure_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calm, "Others", Someone(0.9))
    assert calm.Patience(0).measure(lambda: "disturbed") == ("disturbed", 0.9)


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calm, "Others", Someone(0.9, 0.9, 0.9, 0.8))
    assert calm.Patience(3).measure(lambda: "disturbed") == ("disturbed", 0.8)


def test_only_what_was_disturbed_is_told() -> None:
    assert calm.told([]) == calm.told([0.0, calm.CALM_CORES]) == ""
    assert "up to 0.9 cores" in calm.told([0.0, 0.9, 0.3])


def test_others_are_never_fewer_than_none() -> None:
    others = calm.Others()
    sum(range(100_000))
    assert others.cores() >= 0


def test_what_servers_computed_and_nobody_waited_for_is_not_others_work() -> None:
    others = calm.Others()
    calm.credit(1e6)
    assert others.cores() == 0


def test_what_a_running_server_computes_is_not_others_work() -> None:
    busy = "import time\nwhile time.process_time() < 0.5: pass\nprint(flush=True)\ninput()"
    before_s = calm._own_s()
    with subprocess.Popen([sys.executable, "-c", busy], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin
        assert server.stdout
        server.stdout.readline()
        assert calm._own_s() - before_s >= 0.45  # in the kernel's ticks
        server.stdin.close()
    assert calm._own_s() - before_s >= 0.45
