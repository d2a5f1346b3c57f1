"""A server's processes, all of them: what they computed, what they hold, where they may run, and their end."""

import contextlib
import ctypes
import os
import re
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_POLL_S = 0.01
_PR_SET_CHILD_SUBREAPER = 36
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class _Stat:
    parent: int
    session: int
    computed_s: float
    is_dead: bool


def tree(root: int) -> list[int]:
    """Return the root, its descendants, and whoever is in a session that one of them leads; sorted."""
    stats = {pid: stat for name in os.listdir(_PROC) if name.isdigit() and (stat := _stat(pid := int(name)))}
    found = {root}
    while more := {pid for pid, stat in stats.items() if stat.parent in found or stat.session in found} - found:
        found |= more
    return sorted(pid for pid in found if pid in stats and not stats[pid].is_dead)


def computed_s(pids: Iterable[int]) -> float:
    """Return the seconds that the threads of these processes have computed, in the kernel's ticks."""
    return sum(stat.computed_s for pid in pids if (stat := _stat(pid)))


def resident_bytes(pids: Iterable[int]) -> int:
    """Return the memory of these processes: VmRSS of one; of several the sum of PSS, where shared pages count once."""
    pids = list(pids)
    if len(pids) == 1:
        return _kilobytes(pids[0], "status", "VmRSS")
    return sum(_kilobytes(pid, "smaps_rollup", "Pss") for pid in pids)


def peak_bytes(pid: int) -> int:
    """Return the most memory that a process has held at once; 0 where it has none any more."""
    return _kilobytes(pid, "status", "VmHWM")


def cores(pids: Iterable[int]) -> set[int]:
    """Return the cores on which any thread of these processes may run."""
    found: set[int] = set()
    for task in _tasks(pids):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            found |= os.sched_getaffinity(task)
    return found


def pin(pids: Iterable[int], core: int) -> None:
    """Put every thread of these processes on one core."""
    for task in _tasks(pids):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(task, {core})


def adopt_orphans() -> None:
    """Become the parent of descendants whose own has ended, so that :func:`end` can wait for them: prctl(2).

    What they computed then counts as ours, see :class:`benchmarks.calm.Others`, and none is left behind as a zombie.
    """
    with contextlib.suppress(OSError, AttributeError):  # a system without it: whoever adopts them does that
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end(pids: Iterable[int], patience_s: float) -> None:
    """Kill what is left of these processes, and wait until they are gone."""
    left = set(pids)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + patience_s
    while (left := {pid for pid in left if not _is_gone(pid)}) and time.monotonic() < until:
        time.sleep(_POLL_S)


def _is_gone(pid: int) -> bool:
    """Return whether a process has ended; if it is our child, it is waited for."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:  # somebody else's
        stat = _stat(pid)
        return stat is None or stat.is_dead


def _stat(pid: int) -> _Stat | None:
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    # state, ppid, pgrp, session; utime, stime: proc(5)
    return _Stat(
        int(fields[1]), int(fields[3]), (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS_PER_S, fields[0] in "ZX"
    )


def _tasks(pids: Iterable[int]) -> list[int]:
    tasks = []
    for pid in pids:
        with contextlib.suppress(OSError):
            tasks += [int(name) for name in os.listdir(_PROC / str(pid) / "task")]
    return tasks


def _kilobytes(pid: int, file: str, label: str) -> int:
    try:
        found = re.search(rf"^{label}:\s+(\d+) kB", (_PROC / str(pid) / file).read_text(), re.MULTILINE)
    except OSError:  # it has ended meanwhile
        return 0
    return int(found[1]) * 1024 if found else 0
