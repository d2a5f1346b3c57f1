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
from statistics import median
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


@dataclass(slots=True)
class Course:
    """What came of all rounds so far.

    Attributes:
        sent: Hostile cases.
        answers: By status, or what came in place of one.
        faults: What no client may cause: kind, what, and where its bytes are saved.
        good: Requests beside all of them.
        good_failed: Of these.
        p99s_ms: Of the good requests of each round, beside hostile and beside harmless ones.
        own_mb: Memory of the service after each round, that no file backs.
    """

    sent: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    faults: list[list[str]] = field(default_factory=list)
    good: int = 0
    good_failed: int = 0
    p99s_ms: list[tuple[float, float]] = field(default_factory=list)
    own_mb: list[float] = field(default_factory=list)

    def add(self, harmless: dict[str, Any], report: dict[str, Any], calm: Good, loud: Good, own_mb: float) -> None:
        """Count one round."""
        self.sent += report["sent"]
        self.faults += harmless["faults"] + report["faults"]
        for of_kind in report["answers"].values():
            self.answers += Counter(of_kind)
        self.good += calm.outcomes.total() + loud.outcomes.total()
        self.good_failed += calm.failed + loud.failed
        self.p99s_ms.append((loud.p99_ms, calm.p99_ms))
        self.own_mb.append(own_mb)

    @property
    def times(self) -> float:
        """How many times normal the p99 was: the median over the rounds, since all else meets both of a round alike."""
        return median(loud / calm for loud, calm in self.p99s_ms)

    @property
    def growth_percent(self) -> float:
        """By how much the memory grew after the first tenth."""
        return growth_percent(self.own_mb[len(self.own_mb) // 10], self.own_mb[-1])

    def told(self) -> str:
        """Return it in words."""
        loud_ms, calm_ms = (median(values) for values in zip(*self.p99s_ms, strict=True))
        return (
            f"{self.sent:,} cases: {len(self.faults)} answered 500 or not at all; of {self.good:,} good requests "
            f"{self.good_failed} failed, p99 {loud_ms:.2f} ms, {self.times:.2f} times the {calm_ms:.2f} ms beside "
            f"harmless ones; memory {self.own_mb[-1]:.1f} MB, {self.growth_percent:+.1f}%"
        )


def run(setting: Setting) -> Found:
    """Send all of them."""
    plan = SHORT if setting.is_short else FULL
    course = Course()
    limits: dict[str, Any] = {"max_body_bytes": MAX_BODY_BYTES, "head_timeout_s": HEAD_TIMEOUT_S}
    with drill.service(setting, **limits, **doors.SETTINGS) as running:
        for number in range(plan.rounds):
            calm, loud = Good(), Good()
            harmless = _round(running, plan, number * plan.harmless, plan.harmless, "good", calm)
            report = _round(running, plan, number * plan.cases, plan.cases, "hostile", loud)
            course.add(harmless, report, calm, loud, _processes.memory(running.process.pid).own / 1e6)
            setting.tell(course.told())
        is_alive, stories = running.process.poll() is None, running.log().count("Traceback")
        if stories or not is_alive:
            setting.tell(f"the log is kept: {drill.saved('hostile.log', running.log().encode())}")
    misses = _misses(plan, setting, course)
    if not is_alive:
        misses.append("the service has ended")
    if stories:
        misses.append(f"{stories} unexpected failures in the log")
    return Found(
        line=f"{course.told()}; {stories} tracebacks",
        misses=tuple(misses),
        figures={
            "cases": course.sent,
            "rate_per_s": plan.rate,
            "answers": dict(course.answers.most_common()),
            "faults": course.faults,
            "good_requests": course.good,
            "good_failed": course.good_failed,
            "p99s_ms_beside_hostile_and_harmless": course.p99s_ms,
            "own_memory_mb": course.own_mb,
        },
    )


def _misses(plan: Plan, setting: Setting, course: Course) -> list[str]:
    misses = []
    if course.faults:
        misses.append(f"{len(course.faults)} faults, the first {' '.join(course.faults[0])}")
    if course.good_failed:
        misses.append(f"{course.good_failed} good requests failed")
    if course.sent < plan.rounds * plan.cases:
        misses.append(f"only {course.sent} cases were sent")
    if not setting.is_short and course.growth_percent > MOST_GROWTH_PERCENT:
        misses.append(f"memory grew by {course.growth_percent:.1f}%")
    if not setting.is_short and course.times >= MOST_TIMES_P99:
        misses.append(f"p99 is {course.times:.1f} times normal")
    return misses


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
