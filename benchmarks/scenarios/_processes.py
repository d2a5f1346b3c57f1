"""What the kernel knows of a server: memory and processor time of its process and of those that it has started."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Of a process and its children together, in bytes.

    Attributes:
        resident: Pages in memory; what processes share counts for each of them.
        proportional: So, but a page that several processes map counts for each by its share.
        own: Pages that no file backs: the heap and the stacks.
    """

    resident: int
    proportional: int
    own: int


def family(pid: int) -> Iterator[int]:
    """Yield a process and all that it has started, children of children included: proc(5)."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from family(int(child))


def memory(pid: int) -> Memory:
    """Return what a process and its children hold now."""
    totals = {"Rss": 0, "Pss": 0, "Anonymous": 0}
    for member in family(pid):
        rollup = Path(f"/proc/{member}/smaps_rollup").read_text()
        for name in totals:
            found = re.search(rf"^{name}:\s+(\d+) kB", rollup, re.MULTILINE)
            assert found is not None, name
            totals[name] += int(found[1]) * 1024
    return Memory(resident=totals["Rss"], proportional=totals["Pss"], own=totals["Anonymous"])


def computed_s(pid: int) -> float:
    """Return the seconds that a process and its children have computed, in the kernel's ticks."""
    ticks = 0
    for member in family(pid):
        after_name = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        ticks += int(after_name[11]) + int(after_name[12])  # utime, stime
    return ticks / _CLOCK_TICKS_PER_S


def mapped_files(pid: int) -> set[str]:
    """Return the names, without folders, of the files that a process and its children have mapped: their libraries."""
    names = set()
    for member in family(pid):
        for line in Path(f"/proc/{member}/maps").read_text().splitlines():
            path = line.split(maxsplit=5)[5:]
            if path and path[0].startswith("/"):
                names.add(path[0].rpartition("/")[2])
    return names
