"""An overload and what is worked out from it: goodput, the price of a refusal, and what that price leaves."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from app.bench.load import Result

DEADLINE_MS = 250
TIMES_PEAK = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """What the service can do, in a closed loop.

    Attributes:
        requests_per_s: Answered with 200, with the number of clients that gave most.
        server_us: Microseconds that the server computed for each.
        clients: That number.
    """

    requests_per_s: float
    server_us: float
    clients: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """One overload, from the calm before it to the calm after.

    Attributes:
        peak: What was possible before.
        overload: What came of twice that.
        server_s: Seconds that the server computed meanwhile.
        resident_mb: Samples of its memory meanwhile, in 10^6 bytes.
        recovered_s: Seconds after the end of the overload until callers saw what they saw before it; infinite where
            they did not.
    """

    peak: Peak
    overload: Result
    server_s: float
    resident_mb: Sequence[float]
    recovered_s: float

    @property
    def goodput_share(self) -> float:
        """Requests answered within the deadline each second, of the peak."""
        return self.overload.goodput_per_s(DEADLINE_MS) / self.peak.requests_per_s

    @property
    def refused(self) -> int:
        """Requests that were not answered with a prediction."""
        return self.overload.requests - self.overload.answered

    @property
    def refusal_us(self) -> float:
        """Microseconds that a request costs which is not answered, where an answered one costs what it did at the peak.

        Work for answers that come too late is in it.
        """
        return max(0.0, self.server_s * 1e6 - self.overload.answered * self.peak.server_us) / max(1, self.refused)

    @property
    def limit(self) -> float:
        """The most goodput that such a refusal leaves, of the peak, since it is paid from the same core."""
        return goodput_limit(self.refusal_us / self.peak.server_us)

    def refused_ms(self, percent: float) -> float:
        """Return the time that so many percent of the refusals (503) did not exceed; NaN where there are none.

        Answers of 504 are counted apart: they are told when their deadline has passed, so that they are the slowest of
        all that is no prediction.
        """
        refusals, all_others = self.overload.outcomes["503"], self.overload.refused.count
        if not refusals:
            return float("nan")
        return self.overload.refused.percentile_ms(percent * refusals / all_others)

    @property
    def growth_mb(self) -> float:
        """How much the memory grew from the second quarter to the last."""
        return growth(self.resident_mb)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fairness:
    """A greedy client beside light ones.

    Attributes:
        light: All light clients together.
        greedy: The one that asks for twice of what there is.
    """

    light: Result
    greedy: Result


def goodput_limit(refusal_share: float, times_peak: float = TIMES_PEAK) -> float:
    """Return the goodput that refusals leave on one core, as a share of the peak.

    With offers of k times the peak and refusals that cost r of an answer each, g answers and k - g refusals fill the
    core: g + (k - g) r = 1.
    """
    return max(0.0, (1 - times_peak * refusal_share) / (1 - refusal_share)) if refusal_share < 1 else 0.0


def growth(samples: Sequence[float]) -> float:
    """Return the median of the last quarter less that of the second."""
    quarter = max(1, len(samples) // 4)
    return median(samples[-quarter:]) - median(samples[quarter : 2 * quarter] or samples)
