"""How hard a service is driven, and for how long."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

MAX_CONNECTIONS = 4096
MAX_RATE = 1_000_000.0
MAX_SECONDS = 3600.0
# their times are drawn beforehand
MAX_REQUESTS = 20_000_000

Arrivals: TypeAlias = Literal["constant", "poisson"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedLoop:
    """Each client sends its next request when it has its last answer: as many in flight as there are clients.

    It finds out how much a server can do. What callers see under a load that does not wait for them, it does not tell:
    a server that stalls stalls its clients too, and they send nothing that would have suffered.

    Attributes:
        clients: Connections, each with one request in flight.
        measured_s: Seconds that are counted.
        warm_up_s: Seconds under load before them.
        timeout_s: Seconds after which a request is given up and its connection closed.
    """

    clients: int
    measured_s: float
    warm_up_s: float = 0.0
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        _expect("clients", self.clients, 1, MAX_CONNECTIONS)
        _expect_times(self.measured_s, self.warm_up_s, self.timeout_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLoop:
    """Requests come at their own times, whether the server is ready for them or not, as those of many callers do.

    Attributes:
        rate: Requests a second.
        measured_s: Seconds whose requests are counted.
        warm_up_s: Seconds under load before them.
        arrivals: ``poisson`` (independent callers) or ``constant`` (equal distances).
        connections: Most connections; a request that finds all of them taken waits for one, and its time runs.
        timeout_s: Seconds after which a request is given up, sent or not.
        seed: Of the arrival times.
        opened: Connections that are open before the first request is due, so that no storm of them comes with the load.
    """

    rate: float
    measured_s: float
    warm_up_s: float = 0.0
    arrivals: Arrivals = "poisson"
    connections: int = 256
    timeout_s: float = 30.0
    seed: int = 0
    opened: int = 1

    def __post_init__(self) -> None:
        _expect("rate", self.rate, 1e-3, MAX_RATE)
        _expect("connections", self.connections, 1, MAX_CONNECTIONS)
        _expect("opened", self.opened, 1, self.connections)
        _expect_times(self.measured_s, self.warm_up_s, self.timeout_s)
        requests = self.rate * (self.warm_up_s + self.measured_s)
        if requests > MAX_REQUESTS:
            raise ValueError(
                f"a rate of {self.rate:g} makes {requests:,.0f} requests, at most {MAX_REQUESTS:,} are drawn"
            )
        if self.arrivals not in ("constant", "poisson"):
            raise ValueError(f"arrivals are 'constant' or 'poisson', got {self.arrivals!r}")

    def offsets_ns(self) -> list[int]:
        """Return when each request is due, in nanoseconds from the first moment, rising; warm-up included."""
        seconds = self.warm_up_s + self.measured_s
        if self.arrivals == "constant":
            times_s = np.arange(int(seconds * self.rate)) / self.rate
        else:
            rng = np.random.default_rng(self.seed)
            # the count of a Poisson process's arrivals is Poisson's, their times are uniform
            times_s = np.sort(rng.uniform(0, seconds, rng.poisson(seconds * self.rate)))
        offsets: list[int] = (times_s * 1e9).astype(np.int64).tolist()
        return offsets


Plan: TypeAlias = ClosedLoop | OpenLoop


def _expect(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:  # NaN is between nothing
        raise ValueError(f"{name} must be between {least:g} and {most:g}, got {value:g}")


def _expect_times(measured_s: float, warm_up_s: float, timeout_s: float) -> None:
    _expect("measured seconds", measured_s, 0.01, MAX_SECONDS)
    _expect("warm-up seconds", warm_up_s, 0, MAX_SECONDS)
    _expect("timeout seconds", timeout_s, 0.001, MAX_SECONDS)
