"""Counts of times that keep three digits at every size, in little memory and without a list of all of them.

The scheme is HdrHistogram's (Gil Tene, http://hdrhistogram.org, log-linear buckets): values below 2,048 have a counter
each; above, every doubling is parted into 1,024 equal steps. So a value is known to one part in 1,024, and a
percentile is never below what was measured.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

# bits of a value that are kept; one more than the steps of a doubling have, since the leading one is always set
_BITS = 11
_STEPS = 1 << (_BITS - 1)
# 73 minutes; no run lasts longer, and a longer time counts into the last step
_MAX_NS = (1 << 42) - 1

PERCENTS = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One counter that is not zero.

    Attributes:
        highest_ns: Largest time that it counts, in nanoseconds.
        count: Times counted.
    """

    highest_ns: int
    count: int


class Histogram:
    """Times in whole nanoseconds, counted.

    Attributes:
        count: How many.
        total_ns: Their sum.
        min_ns: The shortest, exactly; 0 where there is none.
        max_ns: The longest, exactly; 0 where there is none.
    """

    __slots__ = ("_counts", "_shortest_ns", "count", "max_ns", "total_ns")

    def __init__(self) -> None:
        self._counts = [0] * (_index(_MAX_NS) + 1)
        self.count = 0
        self.total_ns = 0
        self.max_ns = 0
        self._shortest_ns = _MAX_NS

    def record(self, nanoseconds: int) -> None:
        """Count one time; one below 0 counts as 0 (clocks that do not agree, not a time)."""
        if nanoseconds < 2 * _STEPS:
            nanoseconds = max(nanoseconds, 0)
            self._counts[nanoseconds] += 1
        elif nanoseconds <= _MAX_NS:  # _index, without the call: every answer of a run passes here
            shift = nanoseconds.bit_length() - _BITS
            self._counts[shift * _STEPS + (nanoseconds >> shift)] += 1
        else:
            self._counts[-1] += 1
        self.count += 1
        self.total_ns += nanoseconds
        if nanoseconds > self.max_ns:
            self.max_ns = nanoseconds
        if nanoseconds < self._shortest_ns:
            self._shortest_ns = nanoseconds

    @property
    def min_ns(self) -> int:
        """The shortest time."""
        return self._shortest_ns if self.count else 0

    @property
    def mean_ms(self) -> float:
        """The mean in milliseconds, exactly; NaN where nothing was counted."""
        return self.total_ns / self.count / 1e6 if self.count else math.nan

    def percentile_ms(self, percent: float) -> float:
        """Return the time that so many percent did not exceed (nearest rank), in milliseconds; NaN where there is none.

        It is the upper end of its step, so at most one part in 1,024 too long, and never above the longest.

        Raises:
            ValueError: Not between 0 and 100.
        """
        if not 0 <= percent <= 100:
            raise ValueError(f"a percentile lies between 0 and 100, got {percent}")
        # what 99.9 * 1000 / 100 has beyond 999 is the float's, not the rank's
        rank = max(1, math.ceil(round(percent * self.count / 100, 6)))
        seen = 0
        for step in self.steps():
            seen += step.count
            if seen >= rank:
                return step.highest_ns / 1e6
        return math.nan

    def steps(self) -> Iterator[Step]:
        """Yield the counters that are not zero, rising."""
        last = _index(min(self.max_ns, _MAX_NS))
        for index in range(last + 1) if self.count else ():
            if count := self._counts[index]:
                highest_ns = self.max_ns if index == last else _highest(index)
                yield Step(highest_ns=highest_ns, count=count)

    def share_within(self, milliseconds: float) -> float:
        """Return the share of all times whose step ends within a bound; NaN where nothing was counted."""
        within = sum(step.count for step in self.steps() if step.highest_ns <= milliseconds * 1e6)
        return within / self.count if self.count else math.nan

    def summary_ms(self) -> dict[str, float]:
        """Return mean, percentiles and extremes in milliseconds, by name, as ``p99.9``."""
        if not self.count:
            return {}
        return {
            "mean": self.mean_ms,
            "min": self.min_ns / 1e6,
            **{f"p{percent:g}": self.percentile_ms(percent) for percent in PERCENTS},
            "max": self.max_ns / 1e6,
        }


def _index(nanoseconds: int) -> int:
    """Return the counter of a time."""
    shift = max(0, nanoseconds.bit_length() - _BITS)
    return shift * _STEPS + (nanoseconds >> shift)


def _highest(index: int) -> int:
    """Return the longest time that a counter counts."""
    if index < 2 * _STEPS:
        return index
    shift = index // _STEPS - 1
    return ((index - shift * _STEPS + 1) << shift) - 1
