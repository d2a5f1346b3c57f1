"""A long day at 70% of what the machine can do, at all doors: nothing fails, nothing grows, nothing gets slower.

First a closed loop finds out how many requests of the mix a second are possible, with gRPC beside it. Then the mix
comes at 70% of that in an open loop, minute by minute, over HTTP from this process and over gRPC from another.
"""

import contextlib
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from app.bench.load import ClosedLoop, OpenLoop, Target
from app.bench.load import run as drive
from benchmarks.scenarios import _processes
from tests.drills import doors, drill
from tests.drills.drill import REPOSITORY, Found, Setting, growth_percent, port_of
from tests.support.server import RunningService

TITLE = "soak at 70% of capacity, all doors and models"
BAR = "30 minutes; memory growth under 2%, no error, p99 steady (the last third's at most 1.25 times the first's)"
LIMIT_S = 600  # beside the minutes of the soak itself
MINUTES = 30.0
LOAD = 0.7
MOST_GROWTH_PERCENT = 2.0
MOST_TIMES_P99 = 1.25
# of a thousand requests; a scrape and a look at the list are rarer than predictions
WEIGHTS = {
    "predict JSON": 400, "predict bytes": 150, "predict image": 60, "V2 JSON": 100, "V2 binary": 120, "V1": 50,
    "SageMaker": 50, "Vertex": 45, "Azure ML": 15, "models": 9, "metrics": 1,
}  # fmt: skip
_SEED = 7
_CLIENTS = 32
_CONNECTIONS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much.

    Attributes:
        warm_up_s: Under load before anything is looked at.
        capacity_s: For the capacity.
        slice_s: One look at memory and latency each.
        slices: Of the soak.
        grpc_rate: Calls a second.
    """

    warm_up_s: float
    capacity_s: float
    slice_s: float
    slices: int
    grpc_rate: float


def _plan(setting: Setting) -> Plan:
    if setting.is_short:
        return Plan(warm_up_s=0.2, capacity_s=0.5, slice_s=0.4, slices=3, grpc_rate=20)
    seconds = 60 * (MINUTES if setting.minutes is None else setting.minutes)
    slice_s = min(30.0, seconds / 9)
    return Plan(warm_up_s=20, capacity_s=15, slice_s=slice_s, slices=round(seconds / slice_s), grpc_rate=50)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A part of the soak.

    Attributes:
        outcomes: By status, or what else became of a request.
        p50_ms: Of the answers with 200.
        p99_ms: Likewise.
        own_mb: Memory of the service at the end, that no file backs.
    """

    outcomes: dict[str, int]
    p50_ms: float
    p99_ms: float
    own_mb: float


def run(setting: Setting) -> Found:
    """Find the capacity, and soak."""
    plan = _plan(setting)
    requests = mix()
    slices: list[Slice] = []
    with drill.service(setting, **doors.SETTINGS) as running, _grpc(running, plan) as calls:
        target = Target(port=port_of(running))
        closed = ClosedLoop(clients=_CLIENTS, warm_up_s=plan.warm_up_s, measured_s=plan.capacity_s)
        capacity = drive(target, requests, closed).requests_per_s
        rate = LOAD * capacity
        setting.tell(f"capacity {capacity:,.0f} requests/s, beside {plan.grpc_rate:g} calls of gRPC")
        for number in range(plan.slices):
            slices.append(_slice(running, target, requests, plan, rate, seed=number))
            if number % max(1, plan.slices // 20) == 0:
                setting.tell(f"{number + 1} of {plan.slices}: {slices[-1]}")
        called, failed_calls = calls.end()
        stories = running.log().count("Traceback")
        if stories:
            setting.tell(f"the log is kept: {drill.saved('soak.log', running.log().encode())}")
    return _found(plan, setting, capacity, slices, called, failed_calls, stories)


def mix(count: int = 1000) -> list[bytes]:
    """Return whole requests, as many of each door as it weighs."""
    rng = random.Random(_SEED)
    by_door: dict[str, list[bytes]] = {}
    for ask in doors.asks():
        by_door.setdefault(ask.door, []).append(ask.data)
    chosen = [
        rng.choice(by_door[door]) for door, weight in WEIGHTS.items() for _ in range(max(1, weight * count // 1000))
    ]
    rng.shuffle(chosen)
    return chosen


def _slice(
    running: RunningService, target: Target, requests: Sequence[bytes], plan: Plan, rate: float, seed: int
) -> Slice:
    loop = OpenLoop(rate=rate, measured_s=plan.slice_s, seed=seed, connections=_CONNECTIONS, opened=_CONNECTIONS // 4)
    result = drive(target, requests, loop)
    return Slice(
        outcomes=dict(result.outcomes),
        p50_ms=result.response.percentile_ms(50),
        p99_ms=result.response.percentile_ms(99),
        own_mb=_processes.memory(running.process.pid).own / 1e6,
    )


def _found(
    plan: Plan, setting: Setting, capacity: float, slices: list[Slice], called: int, failed_calls: int, stories: int
) -> Found:
    outcomes = sum((Counter(each.outcomes) for each in slices), Counter[str]())
    failed = outcomes.total() - outcomes["200"]
    third = max(1, len(slices) // 3)
    first, last = slices[:third], slices[-third:]
    times = median(each.p99_ms for each in last) / median(each.p99_ms for each in first)
    growth = growth_percent(slices[0].own_mb, slices[-1].own_mb)
    minutes = plan.slices * plan.slice_s / 60
    misses = []
    if failed or failed_calls:
        misses.append(f"{failed} requests and {failed_calls} calls failed: {dict(outcomes)}")
    if not called:
        misses.append("gRPC was not asked")
    if stories:
        misses.append(f"{stories} unexpected failures in the log")
    if not setting.is_short and minutes < MINUTES - 0.5:
        misses.append(f"it took {minutes:.1f} minutes only")
    if not setting.is_short and growth > MOST_GROWTH_PERCENT:
        misses.append(f"memory grew by {growth:.1f}%")
    if not setting.is_short and times > MOST_TIMES_P99:
        misses.append(f"p99 rose {times:.2f} times")
    return Found(
        line=f"{minutes:.1f} minutes at {LOAD * capacity:,.0f} of {capacity:,.0f} requests/s: {outcomes.total():,} "
        f"requests and {called:,} calls of gRPC, {failed + failed_calls} failed; memory {growth:+.2f}%; p99 "
        f"{median(each.p99_ms for each in first):.2f} ms in the first third, "
        f"{median(each.p99_ms for each in last):.2f} ms in the last",
        misses=tuple(misses),
        figures={
            "minutes": minutes,
            "capacity_per_s": capacity,
            "outcomes": dict(outcomes),
            "grpc_calls": called,
            "grpc_failed": failed_calls,
            "p50_ms": [each.p50_ms for each in slices],
            "p99_ms": [each.p99_ms for each in slices],
            "own_memory_mb": [each.own_mb for each in slices],
        },
    )


class _Calls:
    """A process that calls over gRPC until it is ended."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def end(self) -> tuple[int, int]:
        """End it; return how many calls it made, and how many of them failed."""
        told, _ = self._process.communicate("\n", timeout=30)
        called, failed = map(int, told.split())
        return called, failed


@contextlib.contextmanager
def _grpc(running: RunningService, plan: Plan) -> Iterator[_Calls]:
    command = [sys.executable, "-m", "tests.drills.soak_grpc", running.grpc_target, str(plan.grpc_rate)]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        yield _Calls(process)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()


def pause(begun_at: float, number: int, rate: float) -> float:
    """Return the seconds until a request of a steady rate is due; 0 where it is late."""
    return max(0.0, begun_at + number / rate - time.monotonic())
