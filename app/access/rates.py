"""How often somebody may ask: limits as the library `limits` writes them, counted for all workers together.

The rule is that of its sliding window counter: of the requests of the window before this one, as many still count as
its share of the last window's length; a request that would make it more than the limit is refused, and counts nothing.
(A test holds this module against the library.) The counting is written anew because a request pays for it: there, a
limit and what is left of it cost 15 us, here 2 us (two limits 6 us), and 0.4 us where requests can be counted ahead;
and there each process counts for itself.

The counts lie in one table in memory that all workers share, of a fixed size, so a million addresses take no more than
ten. A count is one aligned word, and is read and written whole, but two workers that count the same caller within the
same fraction of a microsecond may count one request for two. Where the table is full, whoever has not asked for the
longest is forgotten first.
"""

import functools
import mmap
import os
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import NamedTuple, TypeAlias

from app.access.networks import network_of
from app.errors import RateLimited, SettingsError

# a count has so many bits of its word, and so has that of the window before
_COUNT_BITS = 22
MAX_AMOUNT = (1 << _COUNT_BITS) - 1
_WINDOW_SHIFT = 2 * _COUNT_BITS
_WINDOW_MASK = (1 << (64 - _WINDOW_SHIFT)) - 1

# callers that are counted at a time; each row has a fingerprint, the counts, and when these are over
ROWS = 1 << 16
_WAYS = 4
_ROW_WORDS = 3
_HEAD_WORDS = 4  # the secret of the fingerprints
TABLE_BYTES = 8 * (_HEAD_WORDS + ROWS * _ROW_WORDS)
# callers whose rows a worker remembers
MAX_METERS = 16_384


class Limit(NamedTuple):
    """So many requests in so many seconds; ``name`` is what the headers call it."""

    amount: int
    window_s: int
    name: str


@functools.cache
def in_words(limits: tuple[Limit, ...]) -> str:
    """Return limits for people, as ``100 in 1 s, 2000 in 60 s``."""
    return ", ".join(f"{limit.amount} in {limit.window_s} s" for limit in limits)


def parse(text: str) -> tuple[Limit, ...]:
    """Return the limits of a text such as ``100/second;2000/minute``; the shortest window first.

    Raises:
        ValueError: It cannot be read, or asks for what cannot be counted.
    """
    from limits import parse_many  # imported late: it takes 80 ms, and most services have no limits

    try:
        items = parse_many(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is no rate; write it as 100/second, 100 per 10 seconds, or several of them with ; between"
        ) from None
    found: dict[int, Limit] = {}
    for item in items:
        window_s, (_, unit) = item.get_expiry(), item.GRANULARITY
        if not 1 <= item.amount <= MAX_AMOUNT or window_s < 1:
            raise ValueError(f"{text!r}: a limit is from 1 to {MAX_AMOUNT} requests; take a shorter window for more")
        if window_s in found:
            raise ValueError(f"{text!r} has two limits for the same time")
        name = unit if item.multiples == 1 else f"{item.multiples}-{unit}s"
        found[window_s] = Limit(item.amount, window_s, name)
    return tuple(found[window_s] for window_s in sorted(found))


class Table:
    """The counts of all callers.

    Args:
        file: That the workers share, of :data:`TABLE_BYTES`; None for a table of this process alone.
    """

    def __init__(self, file: int | None = None) -> None:
        self._memory = mmap.mmap(-1 if file is None else file, TABLE_BYTES)
        self.words = memoryview(self._memory).cast("Q")
        if file is None:
            self._memory[:16] = os.urandom(16)
        self._secret = bytes(self._memory[:16])

    @staticmethod
    def prepare(file: int) -> None:
        """Make a file ready to be shared; done once, by whoever made it."""
        os.truncate(file, TABLE_BYTES)
        os.pwrite(file, os.urandom(16), 0)

    def fingerprint(self, who: str, limit: Limit) -> int:
        """Return what stands for a caller and a limit: of other ones, it is another with near certainty."""
        text = f"{limit.amount}/{limit.window_s} {who}".encode("utf-8", "surrogateescape")
        return int.from_bytes(blake2b(text, digest_size=8, key=self._secret).digest(), "little") or 1

    def find(self, fingerprint: int) -> int:
        """Return where the row of a fingerprint begins; a new one takes the place of whoever is forgotten first.

        These are callers whose counts are over; then whoever has asked least of those whose counts are over next.
        """
        words = self.words
        first = _HEAD_WORDS + fingerprint % (ROWS // _WAYS) * _WAYS * _ROW_WORDS
        rows = range(first, first + _WAYS * _ROW_WORDS, _ROW_WORDS)
        for row in rows:
            if words[row] == fingerprint:
                return row
        row = min(rows, key=lambda row: (words[row + 2], words[row + 1] & MAX_AMOUNT))
        words[row], words[row + 1], words[row + 2] = fingerprint, 0, 0
        return row

    def close(self) -> None:
        """Let go of the memory."""
        self.words.release()
        self._memory.close()


class _Gauge:
    """One limit of one caller; ``window`` is that of the last look, as a row holds it."""

    __slots__ = ("amount", "fingerprint", "row", "window", "window_s")

    def __init__(self, limit: Limit, fingerprint: int, row: int) -> None:
        self.amount = limit.amount
        self.window_s = limit.window_s
        self.fingerprint = fingerprint
        self.row = row
        self.window = 0


_NONE: Iterator[tuple[int, ...]] = iter(())


# what one limit has come to: the place of its state, what this is now, what is left, and for how many seconds
_Look: TypeAlias = tuple[int, int, int, float]


class Meter:
    """All limits of one caller.

    Requests are counted ahead, at most 1 in 1024 of a limit and 1 in 64 of what is left of it, for a second at most;
    those that did not come are given back, unless the next request is refused. So a limit below 2048 is counted one by
    one, and of a higher one, each worker may hold back as many; never is more than the limit let in for it.

    Args:
        table: Where it is counted.
        who: The caller.
        limits: At least one.

    Attributes:
        told: The limits, for people.
    """

    __slots__ = ("_ahead", "_form", "_fresh_until", "_gauges", "_last", "_lines", "_table", "_words", "told")

    def __init__(self, table: Table, who: str, limits: tuple[Limit, ...]) -> None:
        self._table = table
        self._words = table.words
        fingerprints = [table.fingerprint(who, limit) for limit in limits]
        self._gauges = [
            _Gauge(limit, fingerprint, table.find(fingerprint))
            for limit, fingerprint in zip(limits, fingerprints, strict=True)
        ]
        self.told = in_words(limits)
        # RateLimit-Policy and RateLimit, as in draft-ietf-httpapi-ratelimit-headers-11
        policy = b", ".join(b'"%b";q=%d;w=%d' % (limit.name.encode(), *limit[:2]) for limit in limits)
        left = b", ".join(b'"%b";r=%%b;t=%%d' % limit.name.encode() for limit in limits)
        self._lines = b"ratelimit-policy: %b\r\nratelimit: %b\r\n" % (policy, left)
        self._form = b""  # the lines, but for what is left
        # what is left after each request that is counted ahead, and after the last of them
        self._ahead: Iterator[tuple[int, ...]] = _NONE
        self._last = 0
        self._fresh_until = 0.0

    def hit(self, now: float) -> tuple[bytes, float]:
        """Count one request, where no limit forbids it.

        Args:
            now: Seconds, on a clock that all workers share.

        Returns:
            The header lines that tell what is left, and 0; or, where the request is refused, the seconds after which
            one may be let in.
        """
        # every request comes by here
        if now < self._fresh_until and (left := next(self._ahead, None)) is not None:
            return self._form % left, 0.0
        return self._count(now)

    def _count(self, now: float) -> tuple[bytes, float]:
        """Count this request, and some ahead where there is room."""
        rest = next(self._ahead, None)
        unused = 0 if rest is None else rest[0] - self._last + 1
        self._ahead = _NONE
        looks: list[_Look] = []
        told: list[bytes | int] = []
        ahead, fresh_s = MAX_AMOUNT, 1.0
        for gauge in self._gauges:
            look = self._look(gauge, now, unused)
            looks.append(look)
            _, _, left, left_s = look
            told += (b"%d" % (left - 1), int(left_s) + 1)
            ahead = min(ahead, left, max(1, min(left >> 6, gauge.amount >> 10)))
            fresh_s = min(fresh_s, left_s % 1)
        if ahead <= 0:
            return self._refuse(looks)
        for place, state, _, _ in looks:
            self._words[place] = state + ahead
        if ahead > 1:
            self._form = self._lines % tuple(b"%d" if at % 2 == 0 else each for at, each in enumerate(told))
            self._ahead = zip(*(range(left - 2, left - 1 - ahead, -1) for _, _, left, _ in looks), strict=True)
            self._last = looks[0][2] - ahead
            self._fresh_until = now + fresh_s
        return self._lines % tuple(told), 0.0

    def _look(self, gauge: _Gauge, now: float, unused: int) -> _Look:
        """Return how a limit stands, once the requests that were counted ahead and never came are given back."""
        words, row, window_s = self._words, gauge.row, gauge.window_s
        if words[row] != gauge.fingerprint:  # somebody else has the row now
            row, unused = self._table.find(gauge.fingerprint), 0
            gauge.row = row
        state = words[row + 1]
        counted_in, before, count = state >> _WINDOW_SHIFT, state >> _COUNT_BITS & MAX_AMOUNT, state & MAX_AMOUNT
        if counted_in == gauge.window:
            count = max(0, count - unused)
        elif counted_in == (gauge.window + 1) & _WINDOW_MASK:
            before = max(0, before - unused)
        window = int(now // window_s)
        age = (window - counted_in) & _WINDOW_MASK
        if age == _WINDOW_MASK:  # another worker has had a later request, and begun the next window
            window, age = window + 1, 0
        if age or not words[row + 2]:  # the first of its window, or of all
            before, count = count if age == 1 else 0, 0
            words[row + 2] = (window + 2) * window_s
        gauge.window = window & _WINDOW_MASK
        left_s = min((window + 1) * window_s - now, window_s)
        left = gauge.amount - (int(before * left_s / window_s + count) if before else count)
        return row + 1, (gauge.window << _COUNT_BITS | before) << _COUNT_BITS | count, left, left_s

    def _refuse(self, looks: list[_Look]) -> tuple[bytes, float]:
        """Return what is left, nothing being counted, and the seconds after which one more is let in."""
        told: list[bytes | int] = []
        wait_s = 0.0
        for gauge, (_, state, left, left_s) in zip(self._gauges, looks, strict=True):
            until_s = left_s
            if left <= 0:
                before, count = state >> _COUNT_BITS & MAX_AMOUNT, state & MAX_AMOUNT
                until_s = _until_free(before, count, gauge.amount, gauge.window_s, left_s)
                wait_s = max(wait_s, until_s)
            told += (b"%d" % max(0, left), int(until_s) + 1)
        return self._lines % tuple(told), wait_s


def _until_free(before: int, count: int, amount: int, window_s: int, left_s: float) -> float:
    """Return the seconds until one more is let in; above 0."""
    if count < amount:  # as the window before this one fades
        return max(left_s - (amount - count) * window_s / before, 1e-3)
    # of this window, the share that has faded in the next one must leave room
    return left_s + max(window_s - amount * window_s / count, 1e-3)


Counted: TypeAlias = tuple[bytes, RateLimited | None]


class Rates:
    """The limits of all callers: of each key, else of each address.

    Args:
        default: Of whoever has no limits of its own; None for none.
        on_refusal: Told what was counted by, ``key`` or ``address``, of each request that is refused.

    Raises:
        SettingsError: The limits cannot be read.
    """

    def __init__(self, default: str | None = None, *, on_refusal: Callable[[str], None] = lambda by: None) -> None:
        try:
            self._default = () if default is None else parse(default)
        except ValueError as exc:
            raise SettingsError(f"ZTO_RATE_LIMIT: {exc}") from exc
        self._on_refusal = on_refusal
        self._table: Table | None = None
        self._of_keys: dict[str, Meter] = {}
        self._of_addresses: dict[str, Meter] = {}

    @property
    def are_for_all(self) -> bool:
        """Whether whoever has no limits of its own has some."""
        return bool(self._default)

    def share(self, table: Table) -> None:
        """Count in a table that other processes count in too."""
        self._table = table
        self.forget_keys()
        self._of_addresses.clear()

    def forget_keys(self) -> None:
        """Look the limits of keys up anew: they may have changed. What was counted stays."""
        self._of_keys.clear()

    def count(self, now: float, *, key: str | None, rate: str | None, address: str) -> Counted:
        """Count one request.

        Args:
            now: Monotonic seconds, which all processes of a machine share.
            key: Name of the key that it has; None for none.
            rate: The key's own; None for the one of all.
            address: Where it comes from, or what the operator's header says.

        Returns:
            The header lines that tell what is left, none where there is no limit; and why it is not let in, None where
            it is.
        """
        meter = self._of_addresses.get(address) if key is None else self._of_keys.get(key)
        if meter is None and (meter := self._meter(key, rate, address)) is None:
            return b"", None
        told, wait_s = meter.hit(now)
        if not wait_s:
            return told, None
        by = "address" if key is None else "key"
        self._on_refusal(by)
        return told, RateLimited(meter.told, by=by, retry_after_s=wait_s)

    def _meter(self, key: str | None, rate: str | None, address: str) -> Meter | None:
        limits = self._default if rate is None else parse(rate)
        if not limits:
            return None
        if self._table is None:
            self._table = Table()
        if key is not None:
            meter = self._of_keys[key] = Meter(self._table, f"key {key}", limits)
            return meter
        if len(self._of_addresses) >= MAX_METERS:
            self._of_addresses.clear()
        meter = self._of_addresses[address] = Meter(self._table, network_of(address), limits)
        return meter
