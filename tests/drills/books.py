"""Exact books of what clients sent and what became of it: nothing is sampled, and the sum has to come out."""

from collections import Counter
from dataclasses import dataclass, field

from app.bench.histogram import Histogram

OK = "200"


@dataclass(frozen=True, slots=True)
class Loss:
    """A request whose connection ended before its answer was whole.

    Attributes:
        local_port: Of the client, by which the kernel tells which process had the connection.
        why: In a word.
        at: When, by ``time.monotonic``.
    """

    local_port: int
    why: str
    at: float


@dataclass(slots=True)
class Books:
    """What all clients of a crowd count into.

    Attributes:
        sent: Requests that were written.
        statuses: Whole answers, by status.
        wrong: Answers with 200 that are not what was asked for, by what is wrong with them.
        losses: Requests whose answer never came whole.
        refused: Connections that nobody took; nothing was sent on them.
        latency: From the writing of a request to the last byte of its answer with 200.
        versions: Answers with 200 by the version that they name.
    """

    sent: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    losses: list[Loss] = field(default_factory=list)
    refused: int = 0
    latency: Histogram = field(default_factory=Histogram)
    versions: Counter[str] = field(default_factory=Counter)

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
        others = {status: count for status, count in self.statuses.items() if status != OK}
        lost = Counter(loss.why for loss in self.losses)
        return ", ".join(f"{count} {what}" for what, count in (*others.items(), *lost.items(), *self.wrong.items()))

    def add(self, other: "Books") -> None:
        """Count what others have counted."""
        self.sent += other.sent
        self.statuses += other.statuses
        self.wrong += other.wrong
        self.losses += other.losses
        self.refused += other.refused
        self.versions += other.versions
        for step in other.latency.steps():
            for _ in range(step.count):
                self.latency.record(step.highest_ns)
