"""What a run counts, and what it says in the end."""

from collections import Counter
from dataclasses import dataclass, field

from app.bench.histogram import Histogram

TIMED_OUT = b"timed out"
CANNOT_CONNECT = b"cannot connect"
UNFINISHED = b"unfinished"
_NS = 1_000_000_000
OK = "200"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came back in the measured seconds.

    Attributes:
        seconds: Measured, by the clock.
        requests: Whose turn came: of a closed loop, those answered or failed; of an open one, those due.
        outcomes: By status, or by what went wrong: ``connection lost``, ``cannot connect``, ``timed out``,
            ``unreadable answer``, ``unfinished`` (still in flight when the run ended). Their sum is ``requests``.
        in_time: Answers with 200 that came in the measured seconds; under overload an open loop gets more afterwards.
        response: Times of the answers with 200, from when the request was due. Nothing is omitted: a request that waits
            for a connection, since the server is slow, waits at the server's expense.
        service: Times of the same answers from when the request was written.
        refused: Times of the answers with another status, from when the request was written.
        late: Requests that found every connection taken when they were due.
        lag: How much later than due the others were written: what the generator itself is to blame for.
        bytes_received: Of all answers.
        bytes_sent: Of all requests that were written.
        retry_after_s: What refusals asked for, counted by seconds.
        timeline: Outcomes by the second in which they came, from the first measured one.
        busy: Share of the measured seconds that the generator itself computed; near 1 it was the limit.
        metered: What the caller's meter rose by meanwhile.
        was_stopped: Whether it ended before its time.
    """

    seconds: float
    requests: int
    outcomes: Counter[str]
    in_time: int
    response: Histogram
    service: Histogram
    refused: Histogram
    late: int
    lag: Histogram
    bytes_received: int
    bytes_sent: int
    retry_after_s: Counter[int]
    timeline: list[Counter[str]]
    busy: float
    metered: float
    was_stopped: bool

    @property
    def answered(self) -> int:
        """Requests answered with 200."""
        return self.outcomes[OK]

    @property
    def requests_per_s(self) -> float:
        """Requests answered with 200 in the measured seconds, each second."""
        return self.in_time / self.seconds

    def goodput_per_s(self, within_ms: float | None = None) -> float:
        """Return the requests answered with 200 each second, only those within so many milliseconds where given."""
        if within_ms is None or not self.response.count:
            return self.requests_per_s
        return self.response.share_within(within_ms) * self.response.count / self.seconds


@dataclass(slots=True, kw_only=True)
class Tally:
    """What all connections of a run count into.

    Attributes:
        begins_ns: The first measured moment; what was due, or came (see ``counts_by_due``), before is not counted.
        ends_ns: The last, where answers decide.
        counts_by_due: Whether a request counts by when it was due; else by when its answer came.
    """

    begins_ns: int
    ends_ns: int
    counts_by_due: bool
    response: Histogram = field(default_factory=Histogram)
    service: Histogram = field(default_factory=Histogram)
    refused: Histogram = field(default_factory=Histogram)
    lag: Histogram = field(default_factory=Histogram)
    in_time: int = 0
    late: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    retry_after_s: Counter[int] = field(default_factory=Counter)
    timeline: list[Counter[bytes]] = field(default_factory=list)
    _second: Counter[bytes] = field(default_factory=Counter)
    _second_ends_ns: int = 0

    def counts(self, due_ns: int, now_ns: int) -> bool:
        """Tell whether what happens now to a request counts."""
        return self.begins_ns <= (due_ns if self.counts_by_due else now_ns) < self.ends_ns

    def count(self, outcome: bytes, now_ns: int) -> None:
        """Count what became of a request."""
        if now_ns >= self._second_ends_ns:
            self._turn(now_ns)
        self._second[outcome] += 1

    def _turn(self, now_ns: int) -> None:
        """Go on to the second that it is now."""
        second = max(0, now_ns - self.begins_ns) // _NS
        while len(self.timeline) <= second:
            self.timeline.append(Counter())
        self._second = self.timeline[second]
        self._second_ends_ns = self.begins_ns + (second + 1) * _NS

    def answer(self, status: bytes, due_ns: int, sent_ns: int, now_ns: int) -> None:
        """Count an answer and its times."""
        self.count(status, now_ns)
        if status == b"200":
            self.service.record(now_ns - sent_ns)
            if self.counts_by_due:
                self.response.record(now_ns - due_ns)
                self.in_time += now_ns < self.ends_ns
        else:
            self.refused.record(now_ns - sent_ns)

    def result(self, *, seconds: float, busy: float, metered: float, was_stopped: bool) -> Result:
        """Return what was counted."""
        timeline = [_named(second) for second in self.timeline]
        outcomes = sum(timeline, Counter[str]())
        return Result(
            seconds=seconds,
            requests=outcomes.total(),
            outcomes=outcomes,
            in_time=self.in_time if self.counts_by_due else outcomes[OK],
            # in a closed loop a request is due when it is sent
            response=self.response if self.counts_by_due else self.service,
            service=self.service,
            refused=self.refused,
            late=self.late,
            lag=self.lag,
            bytes_received=self.bytes_received,
            bytes_sent=self.bytes_sent,
            retry_after_s=self.retry_after_s,
            timeline=timeline,
            busy=busy,
            metered=metered,
            was_stopped=was_stopped,
        )


def _named(outcomes: Counter[bytes]) -> Counter[str]:
    return Counter({outcome.decode("latin-1"): count for outcome, count in outcomes.items()})
