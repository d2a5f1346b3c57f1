"""When to try again, and how long all of it may take."""

from collections.abc import Callable
from dataclasses import dataclass

from zero_to_one_client.errors import ClientError, DeadlineExceeded, InvalidRequest, ServiceError

Clock = Callable[[], float]

# what the service takes in X-Request-Timeout-Ms
_MIN_TIMEOUT_MS, _MAX_TIMEOUT_MS = 1, 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often a request is sent again, and after how long.

    Without ``Retry-After`` the pause is anything from nothing to ``base_s`` doubled at each try ("full jitter":
    Brooker, "Exponential Backoff and Jitter", https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    With it, the pause is never shorter, and up to ``jitter`` of it longer, so that those who were sent away together do
    not come back together.

    Attributes:
        max_tries: Times that a request is sent at most; 1 for never again.
        base_s: Longest pause before the second try, in seconds.
        max_pause_s: Longest pause that the client itself chooses, in seconds.
        jitter: Share of ``Retry-After`` that may be added to it.
    """

    max_tries: int = 5
    base_s: float = 0.1
    max_pause_s: float = 5.0
    jitter: float = 0.25

    def __post_init__(self) -> None:
        if self.max_tries < 1 or min(self.base_s, self.max_pause_s, self.jitter) < 0:
            raise InvalidRequest(f"a request is tried at least once, and no pause is negative: {self}")

    def pause_s(self, error: ClientError, tries: int, random: Callable[[], float]) -> float | None:
        """Return the seconds until the next try; None where there is to be none.

        Args:
            error: What came of the last one.
            tries: How often it was sent until now.
            random: Returns a number from 0 to 1.
        """
        if not error.is_retryable or tries >= self.max_tries:
            return None
        asked_s = error.retry_after_s if isinstance(error, ServiceError) else None
        if asked_s is not None:
            return asked_s * (1 + self.jitter * random())
        # 2**1000 is no float any more
        return random() * min(self.max_pause_s, self.base_s * 2.0 ** min(tries - 1, 64))


@dataclass(frozen=True, slots=True)
class Deadline:
    """The end of a call: one for all of its requests, tries and pauses.

    Attributes:
        ends_at_s: On the clock.
        timeout_s: The seconds that the caller gave.
        clock: Monotonic.
    """

    ends_at_s: float
    timeout_s: float
    clock: Clock

    @classmethod
    def after(cls, timeout_s: float, clock: Clock) -> "Deadline":
        """Return the deadline that is some seconds from now.

        Raises:
            InvalidRequest: They are not above 0, or without end.
        """
        if not 0 < timeout_s < float("inf"):
            raise InvalidRequest(f"a timeout is a number of seconds above 0, found {timeout_s!r}")
        return cls(clock() + timeout_s, timeout_s, clock)

    def left_s(self) -> float:
        """Return the seconds that are left.

        Raises:
            DeadlineExceeded: None are.
        """
        left_s = self.ends_at_s - self.clock()
        if left_s <= 0:
            raise DeadlineExceeded(f"no answer within {self.timeout_s:g} s")
        return left_s

    def allows(self, pause_s: float) -> bool:
        """Tell whether anything is left after a pause."""
        return self.clock() + pause_s < self.ends_at_s


def timeout_ms(left_s: float) -> str:
    """Return the value of ``X-Request-Timeout-Ms``: what is left, in the bounds that the service takes."""
    return str(min(max(int(left_s * 1e3), _MIN_TIMEOUT_MS), _MAX_TIMEOUT_MS))
