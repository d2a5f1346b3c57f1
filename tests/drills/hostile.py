"""Hostile requests beside good ones: nothing breaks, nothing grows, and the good ones hardly notice.

The hostile ones (:mod:`tests.drills.hostile_cases`) come at a steady rate from a process of their own, with a fixed
seed. The good traffic comes at its own rate and its own times, in an open loop, so that a stall counts for everybody
whom it keeps waiting. "Normal" is the same good traffic beside as many harmless requests a second, spread over the same
doors: rounds of both alternate, so that whatever else the machine does meets both alike.
"""

import contextlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from app.bench.histogram import Histogram
from app.bench.load import OpenLoop, Result, Target
from app.bench.load import run as drive
from benchmarks.scenarios import _processes
from tests.drills import doors, drill, questions
from tests.drills.drill import REPOSITORY, Found, Setting, growth_percent, port_of
from tests.drills.hostile_cases import HEAD_TIMEOUT_S, MAX_BODY_BYTES
from tests.support.server import RunningService

TITLE = "200,000 hostile requests of 13 kinds at every door, beside good traffic"
BAR = "no 500, no crash, memory flat (under 2%), good traffic's p99 under 2 times normal"
LIMIT_S = 3000
MOST_GROWTH_PERCENT = 2.0
MOST_TIMES_P99 = 2.0
SEED = 20
_SLICE_S = 2.0
_END_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much.

    Attributes:
        rounds: Of hostile cases, each with harmless ones before it.
        cases: Hostile ones of a round.
        harmless: Of a round.
        rate: Of either, a second.
        good_rate: Of the good traffic.
    """

    rounds: int
    cases: int
    harmless: int
    rate: float
    good_rate: float


FULL = Plan(rounds=20, cases=10_000, harmless=3_000, rate=300, good_rate=100)
SHORT = Plan(rounds=1, cases=100, harmless=20, rate=200, good_rate=50)


@dataclass(slots=True)
class Good:
    """What came of the good traffic.

    Attributes:
        outcomes: By status, or what else became of it.
        response: Times of the answers with 200, from when they were due.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    response: Histogram = field(default_factory=Histogram)

    @property
    def p99_ms(self) -> float:
        """The time that 99 in 100 did not exceed."""
        return self.response.percentile_ms(99)

    @property
    def failed(self) -> int:
        """Those without a 200."""
        return self.outcomes.total() - self.outcomes["200"]


def run(setting: Setting) -> Found:
    """Send all of them."""
    plan = SHORT if setting.is_short else FULL
    normal, beside = Good(), Good()
    answers: Counter[str] = Counter()
    faults: list[list[str]] = []
    resident: list[int] = []
    sent = 0
    limits: dict[str, Any] = {"max_body_bytes": MAX_BODY_BYTES, "head_timeout_s": HEAD_TIMEOUT_S}
    with drill.service(setting, **limits, **doors.SETTINGS) as running:
        for number in range(plan.rounds):
            harmless = _round(running, plan, number * plan.harmless, plan.harmless, "good", normal)
            report = _round(running, plan, number * plan.cases, plan.cases, "hostile", beside)
            faults += harmless["faults"] + report["faults"]
            sent += report["sent"]
            for of_kind in report["answers"].values():
                answers += Counter(of_kind)
            resident.append(_processes.memory(running.process.pid).own)
            setting.tell(
                f"{sent:,} cases, {len(faults)} faults; p99 {beside.p99_ms:.2f} ms, normal {normal.p99_ms:.2f} ms; "
                f"{resident[-1] / 1e6:.1f} MB"
            )
        is_alive, stories = running.process.poll() is None, running.log().count("Traceback")
    return _found(plan, setting, normal, beside, answers, faults, resident, sent, is_alive, stories)


def _found(
    plan: Plan,
    setting: Setting,
    normal: Good,
    beside: Good,
    answers: "Counter[str]",
    faults: list[list[str]],
    resident: list[int],
    sent: int,
    is_alive: bool,
    stories: int,
) -> Found:
    times = beside.p99_ms / normal.p99_ms
    # what is warm after a tenth stays
    growth = growth_percent(resident[plan.rounds // 10], resident[-1])
    misses = []
    if faults:
        misses.append(f"{len(faults)} faults, the first {' '.join(faults[0])}")
    if not is_alive:
        misses.append("the service has ended")
    if stories:
        misses.append(f"{stories} unexpected failures in the log")
    if normal.failed or beside.failed:
        misses.append(
            f"{normal.failed + beside.failed} good requests failed: {dict(normal.outcomes + beside.outcomes)}"
        )
    if sent < plan.rounds * plan.cases:
        misses.append(f"only {sent} cases were sent")
    if not setting.is_short and growth > MOST_GROWTH_PERCENT:
        misses.append(f"memory grew by {growth:.1f}%")
    if not setting.is_short and times >= MOST_TIMES_P99:
        misses.append(f"p99 is {times:.1f} times normal")
    return Found(
        line=f"{sent:,} cases at {plan.rate:g}/s: {len(faults)} answered 500 or not at all, {stories} tracebacks; "
        f"of {beside.outcomes.total():,} good requests {beside.failed} failed, p99 {beside.p99_ms:.2f} ms, "
        f"{times:.2f} times the {normal.p99_ms:.2f} ms beside harmless ones; memory {growth:+.1f}%",
        misses=tuple(misses),
        figures={
            "cases": sent,
            "answers": dict(answers.most_common()),
            "faults": faults,
            "good_requests": beside.outcomes.total(),
            "good_failed": normal.failed + beside.failed,
            "p99_ms": beside.p99_ms,
            "normal_p99_ms": normal.p99_ms,
            "own_memory_mb": [value / 1e6 for value in resident],
        },
    )


def _round(running: RunningService, plan: Plan, first: int, count: int, what: str, good: Good) -> dict[str, Any]:
    """Send one round, with the good traffic beside it; return what the crowd reports."""
    requests = [question.data for question in questions.of_pictures()]
    target = Target(port=port_of(running))
    slices: list[Result] = []
    with _crowd(running, plan, first, count, what) as process:
        while process.poll() is None:
            seed = first + len(slices)
            slices.append(drive(target, requests, OpenLoop(rate=plan.good_rate, measured_s=_SLICE_S, seed=seed)))
        # beside the last one, nobody was there any more for some of the time
        for result in slices[:-1] or slices:
            good.outcomes += result.outcomes
            for step in result.response.steps():
                for _ in range(step.count):
                    good.response.record(step.highest_ns)
        assert process.stdout is not None
        report: dict[str, Any] = json.loads(process.stdout.read())
    return report


@contextlib.contextmanager
def _crowd(
    running: RunningService, plan: Plan, first: int, count: int, what: str
) -> "Iterator[subprocess.Popen[bytes]]":
    """Start the crowd, and return when it has begun."""
    grpc_port = running.grpc_target.rpartition(":")[2]
    arguments = [str(port_of(running)), grpc_port, str(SEED), str(first), str(count), str(plan.rate), what]
    command = [sys.executable, "-m", "tests.drills.hostile_load", *arguments]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"running\n"
        yield process
        process.wait(_END_TIMEOUT_S)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()
