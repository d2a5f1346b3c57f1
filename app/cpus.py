"""The cores that this process may use: what the scheduler grants, cut down to what its control groups pay for.

A container that was given ``--cpus=2`` on a machine of 64 cores still sees 64. Its quota is in the control group, in
version 2 as ``cpu.max`` and in version 1 as ``cpu.cfs_quota_us`` of ``cpu.cfs_period_us``; groups are nested, and the
smallest quota on the way up holds. See `cgroups(7)` and the kernel's ``admin-guide/cgroup-v2``.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path("/")


def num_cores(root: Path = ROOT) -> int:
    """Return how many cores this process can keep busy, at least 1. Half a core beyond a whole one is none.

    Args:
        root: Of the file system that ``proc`` and ``sys/fs/cgroup`` are read from.
    """
    granted = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min((granted, *quotas(root)))))


def num_cores_of_machine(root: Path = ROOT) -> int:
    """Return how many cores the machine has, as far as the control groups pay for them; at least 1.

    Whoever is pinned to some of them is still on the same machine.
    """
    return max(1, math.floor(min((os.cpu_count() or 1, *quotas(root)))))


def quotas(root: Path = ROOT) -> Iterator[float]:
    """Yield every quota that holds for this process, in cores; nothing where there is none, or none can be read."""
    for line in _lines(root / "proc" / "self" / "cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if not controllers:
            for folder in _up(root / "sys/fs/cgroup", group):
                yield from _quota_v2(folder)
        elif "cpu" in controllers.split(","):
            for name in dict.fromkeys((controllers, "cpu", "cpu,cpuacct")):
                for folder in _up(root / "sys/fs/cgroup" / name, group):
                    yield from _quota_v1(folder)


def threads_within(threads: int, *, workers: int, cores: int) -> int:
    """Return the threads that each of the workers may have: as many as were asked for, within the cores; at least 1."""
    return min(threads, max(1, cores // workers))


def _up(mounted_at: Path, group: str) -> Iterator[Path]:
    """Yield the folder of a group, and of each around it.

    In a container without a namespace of its own for groups, the path is the host's and not there, and what is mounted
    begins at the group itself: the last that is yielded.
    """
    parts = [part for part in PurePosixPath(group).parts if part not in ("/", "..")]
    for length in range(len(parts), -1, -1):
        yield mounted_at.joinpath(*parts[:length])


def _quota_v2(folder: Path) -> Iterator[float]:
    for line in _lines(folder / "cpu.max"):
        quota, _, period = line.partition(" ")
        yield from _ratio(quota, period or "100000")


def _quota_v1(folder: Path) -> Iterator[float]:
    for quota, period in zip(_lines(folder / "cpu.cfs_quota_us"), _lines(folder / "cpu.cfs_period_us"), strict=False):
        yield from _ratio(quota, period)


def _ratio(quota_us: str, period_us: str) -> Iterator[float]:
    """Yield quota by period; nothing for "max" and for -1, which are no quota, and for what is no number."""
    try:
        quota, period = int(quota_us), int(period_us)
    except ValueError:
        return
    if quota > 0 and period > 0:
        yield quota / period


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return []
