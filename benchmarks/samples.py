"""What was measured of a server, and what to make of several rounds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

# for each good answer; above it, how fast a server is does not count
TOLERATED_FAILURES = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One load on one server.

    Attributes:
        requests: Answered with 200.
        requests_per_s: The same in a second.
        p50_ms: Latency that half of the answers did not exceed; NaN where there was none.
        p90_ms: Likewise, of nine in ten.
        p99_ms: Likewise, of 99 in 100.
        server_us: Microseconds that the server's processes computed for a request; others on the machine hardly move
            it.
        generator_busy: Share of its core that the load generator took.
        failures: Answers other than 200, lost connections, and requests without an answer.
        faults: Which, with their counts, as words.
    """

    requests: int
    requests_per_s: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    server_us: float
    generator_busy: float
    failures: int
    faults: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One server in one round, from start to end.

    Attributes:
        ready_s: Seconds from its start until it had answered its first request.
        resident_ready_mb: Memory of all its processes then, in 10^6 bytes.
        resident_loaded_mb: The most that it was after any of the loads.
        num_processes: How many it had after the loads.
        samples: By number of clients.
        other_cores: How many cores other work kept busy meanwhile, in the mean.
    """

    ready_s: float
    resident_ready_mb: float
    resident_loaded_mb: float
    samples: dict[int, Sample]
    num_processes: int = 1
    other_cores: float = 0.0


def merit(visits: Sequence[Visit], clients: int) -> float:
    """Return by how much one variant is better than another: answers in a second; with one client, swiftness.

    One that fails requests more often than is tolerated is no match for one that answers.
    """
    samples = [visit.samples[clients] for visit in visits if clients in visit.samples]
    if not samples:
        return 0.0
    value = median(1e3 / sample.p50_ms if clients == 1 else sample.requests_per_s for sample in samples)
    has_failed = any(sample.failures > TOLERATED_FAILURES * sample.requests for sample in samples)
    return (value * 1e-6 if has_failed else value) if value == value else 0.0  # NaN: it never answered


def spread(visits: Sequence[Visit], read: Callable[[Visit], float]) -> tuple[float, float, float]:
    """Return the median of a figure over the rounds, its least and its greatest."""
    values = [read(visit) for visit in visits]
    return median(values), min(values), max(values)


def middle(visits: Sequence[Visit], clients: int, read: Callable[[Sample], float]) -> float:
    """Return the median of a figure under one load."""
    return median(read(visit.samples[clients]) for visit in visits if clients in visit.samples)
