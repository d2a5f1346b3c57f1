"""Exact books of what clients sent and what became of it: nothing is sampled, and the sum has to come out."""

from collections import Counter
from dataclasses import dataclass, field

from app.bench.histogram import Histogram

OK = "200"


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that was answered otherwise than with 200, wrongly, or not at all.

    Attributes:
        local_port: Of the client, by which the kernel tells which process had the connection.
        what: The status, what is wrong, or how the connection ended.
        is_lost: Whether the connection ended before the answer was whole.
    """

    local_port: int
    what: str
    is_lost: bool = False


@dataclass(slots=True)
class Books:
    """What all clients of a crowd count into.

    Attributes:
        sent: Requests that were written.
        statuses: Whole answers, by status.
        wrong: Answers with 200 that are not what was asked for, by what is wrong with them.
        failures: All of them, one by one.
        refused: Connections that nobody took; nothing was sent on them.
        latency: From the writing of a request to the last byte of its answer with 200.
        versions: Answers with 200 by the version that they name.
        sent_by_port: Requests by the client's port.
    """

    sent: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    refused: int = 0
    latency: Histogram = field(default_factory=Histogram)
    versions: Counter[str] = field(default_factory=Counter)
    sent_by_port: Counter[int] = field(default_factory=Counter)

    @property
    def losses(self) -> list[Failure]:
        """Requests whose answer never came whole."""
        return [failure for failure in self.failures if failure.is_lost]

    @property
    def answered(self) -> int:
        """Requests answered with 200."""
        return self.statuses[OK]

    @property
    def failed(self) -> int:
        """Requests that were answered otherwise, wrongly, or not at all."""
        return self.sent - self.answered + self.wrong.total()

    @property
    def is_balanced(self) -> bool:
        """Whether every request that was sent has come to one end; only once all clients are done."""
        return self.sent == self.statuses.total() + len(self.losses)

    def told(self) -> str:
        """Return how the failed ones failed, in words; empty where none did."""
        what = Counter(failure.what for failure in self.failures)
        return ", ".join(f"{count} {each}" for each, count in what.most_common())

    def add(self, other: "Books") -> None:
        """Count what others have counted."""
        self.sent += other.sent
        self.statuses += other.statuses
        self.wrong += other.wrong
        self.failures += other.failures
        self.sent_by_port += other.sent_by_port
        self.refused += other.refused
        self.versions += other.versions
        for step in other.latency.steps():
            for _ in range(step.count):
                self.latency.record(step.highest_ns)
