"""A share of the time of one core, spent as it comes in."""

import time
from collections.abc import Callable

# what is not used is saved for so long: enough for a batch of a large model, too little to be felt
SAVED_FOR_S = 1.0


class Budget:
    """A bucket of compute seconds that fills at a steady rate.

    What a piece of work takes is known only when it is done. So it may begin while nothing is owed, and what it
    took beyond that is owed: nothing begins until it has come in. Over any stretch of time no more is spent than has
    come in, what was saved, and the last piece.

    Args:
        share: Seconds that come in each second.
        clock: Monotonic seconds.
    """

    def __init__(self, share: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._share = share
        self._clock = clock
        self._left_s = share * SAVED_FOR_S
        self._looked_at = clock()

    def wait_s(self) -> float:
        """Return the seconds until work may begin; 0 where it may now."""
        self._fill()
        return max(0.0, -self._left_s / self._share)

    def spend(self, seconds: float) -> None:
        """Take off what a piece of work has taken."""
        self._fill()
        self._left_s -= seconds

    def _fill(self) -> None:
        now = self._clock()
        self._left_s = min(self._left_s + (now - self._looked_at) * self._share, self._share * SAVED_FOR_S)
        self._looked_at = now
