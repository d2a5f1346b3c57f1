"""Other work on the machine: how much there is, and the patience to measure where there is little."""

import os
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from benchmarks import processes

# above this share of one core, figures say something about the others too
CALM_CORES = 0.1
_LOOK_S = 1.0

T = TypeVar("T")


class Others:
    """How much everybody else computed meanwhile, the host's other guests included as far as the kernel sees them."""

    def __init__(self) -> None:
        self._started_at = time.monotonic()
        self._busy_s, self._own_s = _busy_s(), _own_s()

    def cores(self) -> float:
        """Return how many cores they have kept busy since, in the mean."""
        others_s = (_busy_s() - self._busy_s) - (_own_s() - self._own_s)
        return max(0.0, others_s / (time.monotonic() - self._started_at))


def told(other_cores: Sequence[float]) -> str:
    """Return a sentence for figures that others disturbed, with a space before it; nothing where it was calm.

    Args:
        other_cores: How many cores they kept busy, each time that something was measured.
    """
    most = max(other_cores, default=0.0)
    return (
        f" **Other work took up to {most:.1f} cores meanwhile**: read ratios and CPU time." if most > CALM_CORES else ""
    )


def _busy_s() -> float:
    """Return the seconds that all cores together have computed, stolen ones included: proc(5)."""
    try:
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except OSError:  # a system without it: others are unknown
        return 0.0
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _own_s() -> float:
    """Return what we have computed: this process, its descendants that run, and those that have ended."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    running_s = processes.computed_s(set(processes.tree(os.getpid())) - {os.getpid()})
    return usage.ru_utime + usage.ru_stime + running_s + waited_for_s() + sum(_credited_s)


def waited_for_s() -> float:
    """Return what descendants computed that have ended, and that their parents and we have waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


# what descendants computed that nobody waited for: the kernel forgets it, and it would be taken for others' work
_credited_s: list[float] = []


def credit(seconds: float) -> None:
    """Count seconds that descendants computed, and that :func:`waited_for_s` will never hold, as ours."""
    _credited_s.append(seconds)


class Patience:
    """Seconds that a run may lose to others, all in all: waiting for calm, and measuring again what they disturbed.

    Args:
        seconds: In all; 0 takes everything as it comes.
    """

    def __init__(self, seconds: float) -> None:
        self._left_s = seconds

    def measure(self, measure: Callable[[], T]) -> tuple[T, float]:
        """Measure when it is calm, and again while it was not; what was measured first where patience has ended.

        Returns:
            What was measured when others did least, and how many cores they kept busy then.
        """
        best: tuple[T, float] | None = None
        while True:
            self._wait()
            started_at, others = time.monotonic(), Others()
            found = measure()
            cores = others.cores()
            if best is None or cores < best[1]:
                best = found, cores
            if best[1] <= CALM_CORES or self._left_s <= 0:
                return best
            self._left_s -= time.monotonic() - started_at

    def _wait(self) -> None:
        while self._left_s > 0:
            others = Others()
            time.sleep(_LOOK_S)
            if others.cores() <= CALM_CORES:
                return
            self._left_s -= _LOOK_S
