"""What a process tells of itself beside its requests: its memory, its age, its version, and how late its loop is."""

import asyncio
import os
import platform
import time
from collections.abc import Iterable

from app import __version__
from app.metrics import Metrics

# of the samples of the loop's lag: as often as the server itself looks around
SAMPLE_S = 0.1
_STATM = "/proc/self/statm"
_RESIDENT_PAGES = 1  # its field, see proc(5)


class ProcessFigures:
    """Figures of one process. Where several serve, each has its own, under the number of the worker.

    Args:
        metrics: Told of them.
        worker: The number of this process among the workers.
    """

    def __init__(self, metrics: Metrics, *, worker: int) -> None:
        self._worker = (str(worker),)
        self._lag_s = metrics.loop_lag_s[()]
        self._timer: asyncio.TimerHandle | None = None
        self._due_at = 0.0
        self._started_at = time.time()
        self._build = (__version__, platform.python_version())
        metrics.add_gauge(
            "zto_process_resident_memory_bytes", "Resident memory of each process.", ("worker",), self._memory
        )
        metrics.add_gauge(
            "zto_process_start_time_seconds", "When each process began; seconds since the epoch.", ("worker",),
            lambda: [(self._worker, self._started_at)], combine=max,
        )  # fmt: skip
        metrics.add_gauge(
            "zto_build_info", "1; what serves is in the labels.", ("version", "python"),
            lambda: [(self._build, 1.0)], combine=max,
        )  # fmt: skip

    def start(self) -> None:
        """Sample the lag of the running loop from now on."""
        loop = asyncio.get_running_loop()
        self._due_at = loop.time() + SAMPLE_S
        self._timer = loop.call_at(self._due_at, self._sample, loop)

    def stop(self) -> None:
        """Sample no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sample(self, loop: asyncio.AbstractEventLoop) -> None:
        self._lag_s.observe(max(0.0, loop.time() - self._due_at))
        self.start()

    def _memory(self) -> Iterable[tuple[tuple[str], float]]:
        if (resident := resident_bytes()) is not None:
            yield self._worker, resident


def resident_bytes() -> int | None:
    """Return the resident memory of this process; None where the system does not tell."""
    try:
        with open(_STATM, "rb") as told:
            return int(told.read().split()[_RESIDENT_PAGES]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None
