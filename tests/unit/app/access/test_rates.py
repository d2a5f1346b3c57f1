"""Rates: how they are written, counted, told, shared and bounded."""

import os
import random
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from limits import parse_many
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from app.access.networks import network_of
from app.access.rates import MAX_METERS, ROWS, TABLE_BYTES, Limit, Meter, Rates, Table, parse
from app.errors import SettingsError
from app.header_lines import as_headers


@pytest.fixture
def table() -> Iterator[Table]:
    made = Table()
    yield made
    made.close()


def test_rates_are_read_as_the_library_writes_them() -> None:
    assert parse("100/second;2000/minute") == (Limit(100, 1, "second"), Limit(2000, 60, "minute"))
    assert parse("2000 per minute, 50 per 10 seconds") == (Limit(50, 10, "10-seconds"), Limit(2000, 60, "minute"))
    assert parse("5/2hour") == (Limit(5, 7200, "2-hours"),)


@pytest.mark.parametrize(
    "text", ["", "often", "10", "0/second", "-1/second", "4194304/day", "1/second;2/second", "1/fortnight"]
)
def test_what_is_no_rate_is_told_with_the_setting(text: str) -> None:
    with pytest.raises(SettingsError, match="ZTO_RATE_LIMIT"):
        Rates(text)


@pytest.mark.parametrize(
    ("seed", "text", "number", "rates"),
    [
        (0, "7/second;30 per 10 seconds", 1000, (2, 12, 60)),
        (1, "7/second;30 per 10 seconds", 1000, (2, 12, 60)),
        (2, "2100/second;2500 per 4 seconds", 4000, (700, 1500, 9000)),  # some of which are counted ahead
    ],
)
def test_who_is_let_in_is_whom_the_library_would_let_in(
    table: Table, seed: int, text: str, number: int, rates: tuple[int, ...]
) -> None:
    meter = Meter(table, "somebody", parse(text))
    limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
    items = sorted(parse_many(text), key=lambda item: item.get_expiry())
    rng = random.Random(seed)
    now = 4e9  # in the future: a thread of the library's forgets what is over by the real clock
    admitted = refused = 0
    for _ in range(number):
        now += rng.expovariate(rng.choice(rates))
        with patch("limits.storage.memory.time.time", return_value=now):
            theirs = all(limiter.test(item, "somebody") for item in items)
            if theirs:
                for item in items:
                    assert limiter.hit(item, "somebody")
        _, wait_s = meter.hit(now)
        assert (wait_s == 0) == theirs, now
        admitted += theirs
        refused += not theirs
    assert admitted > 100
    assert refused > 100


@pytest.mark.parametrize("seed", range(5))
def test_whoever_comes_when_it_was_told_is_let_in_and_not_before(table: Table, seed: int) -> None:
    rng = random.Random(seed)
    meter = Meter(table, "somebody", (Limit(5, 10, "x"),))
    now, told = 1e6, 0
    for _ in range(500):
        now += rng.expovariate(1)
        _, wait_s = meter.hit(now)
        if wait_s:
            told += 1
            assert meter.hit(now + wait_s * 0.98 - 1e-3)[1] > 0
            now += wait_s + 1e-3
            assert meter.hit(now)[1] == 0
    assert told > 50


def test_what_is_left_is_told_for_each_limit(table: Table) -> None:
    meter = Meter(table, "somebody", parse("3/second;100/minute"))
    lines, wait_s = meter.hit(600.25)
    policy, left = as_headers(lines)
    assert policy == (b"ratelimit-policy", b'"second";q=3;w=1, "minute";q=100;w=60')
    assert (left, wait_s) == ((b"ratelimit", b'"second";r=2;t=1, "minute";r=99;t=60'), 0.0)
    meter.hit(600.25)
    assert as_headers(meter.hit(600.25)[0])[1] == (b"ratelimit", b'"second";r=0;t=1, "minute";r=97;t=60')
    lines, wait_s = meter.hit(600.25)
    # one that is refused is not taken off
    assert as_headers(lines)[1] == (b"ratelimit", b'"second";r=0;t=1, "minute";r=97;t=60')
    assert 0.75 < wait_s < 1


def test_request_from_just_before_the_window_that_another_worker_has_begun_counts_in_it(table: Table) -> None:
    ahead, behind = Meter(table, "somebody", parse("5/second")), Meter(table, "somebody", parse("5/second"))
    assert [ahead.hit(9.5)[1], behind.hit(9.5)[1]] == [0, 0]
    asked = [ahead.hit(10.9), behind.hit(9.999), ahead.hit(10.9), behind.hit(9.999)]
    assert [wait_s > 0 for _, wait_s in asked] == [False, False, False, True]  # the two of the last second count too
    assert [ahead.hit(10.95)[1] > 0 for _ in range(3)] == [False, False, True]


def test_of_many_requests_each_is_told_one_less_left(table: Table) -> None:
    meter = Meter(table, "somebody", parse("4000/minute;100000/hour"))
    told = [as_headers(meter.hit(7200.5)[0])[1][1] for _ in range(4000)]
    assert told == [b'"minute";r=%d;t=60, "hour";r=%d;t=3600' % (left, left + 96_000) for left in range(3999, -1, -1)]
    lines, wait_s = meter.hit(7200.5)
    assert as_headers(lines)[1][1].startswith(b'"minute";r=0;')
    assert wait_s > 0


def test_requests_that_were_counted_ahead_and_never_came_are_given_back(table: Table) -> None:
    meter = Meter(table, "somebody", parse("4000000/minute"))
    for second in range(50):  # each time some thousands are counted ahead for the rest of the second
        assert as_headers(meter.hit(6000.5 + second)[0])[1][1] == b'"minute";r=%d;t=%d' % (
            3999999 - second,
            60 - second,
        )
    # in the next minute, the fifty of this one fade as they should
    assert as_headers(meter.hit(6060.0)[0])[1][1] == b'"minute";r=3999949;t=61'


def test_of_two_workers_each_holds_back_a_thousandth_at_most(table: Table) -> None:
    busy, idle = Meter(table, "somebody", parse("20000/minute")), Meter(table, "somebody", parse("20000/minute"))
    assert idle.hit(6000.5)[1] == 0
    admitted = 1 + sum(busy.hit(6000.5)[1] == 0 for _ in range(20_100))
    assert 20_000 - 20 <= admitted <= 20_000
    assert sum(idle.hit(6000.5)[1] == 0 for _ in range(100)) == 20_000 - admitted


def test_one_limit_that_is_reached_does_not_use_up_another(table: Table) -> None:
    meter = Meter(table, "somebody", parse("1/second;3/minute"))
    refused = [meter.hit(60.0 + each / 100)[1] > 0 for each in range(50)]
    assert refused == [False] + [True] * 49
    assert [meter.hit(62.0)[1] > 0, meter.hit(64.0)[1] > 0, meter.hit(66.0)[1] > 0] == [False, False, True]


def test_callers_are_counted_apart_and_keys_with_their_own_rate() -> None:
    told: list[str] = []
    rates = Rates("1/minute", on_refusal=told.append)

    def ask(key: str | None = None, address: str = "10.0.0.1", rate: str | None = None) -> bool:
        _, error = rates.count(5.0, key=key, rate=rate, address=address)
        return error is None

    assert [ask(), ask(), ask(address="10.0.0.2")] == [True, False, True]
    assert [ask("a"), ask("a"), ask("b"), ask("10.0.0.1")] == [True, False, True, True]
    assert [ask("c", rate="2/minute") for _ in range(3)] == [True, True, False]
    assert told == ["address", "key", "key"]
    _, error = rates.count(5.0, key=None, rate=None, address="10.0.0.1")
    assert error is not None
    assert "1 in 60 s" in str(error)
    assert error.retry_after_s > 0


def test_key_whose_rate_has_changed_is_counted_by_the_new_one() -> None:
    rates = Rates()
    assert not rates.are_for_all
    assert rates.count(5.0, key=None, rate=None, address="10.0.0.1") == (b"", None)
    assert rates.count(5.0, key="a", rate="1/minute", address="")[1] is None
    assert rates.count(5.0, key="a", rate="1/minute", address="")[1] is not None
    rates.forget_keys()
    assert rates.count(5.0, key="a", rate="2/minute", address="")[1] is None
    rates.forget_keys()
    assert rates.count(5.0, key="a", rate="1/minute", address="")[1] is not None  # what was counted stays


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:4711", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2::9]", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2::9]:443", "2001:db8:1:2::/64"),
        ("[::ffff:192.0.2.1]:443", "192.0.2.1"),
        ("[tenant]:7", "[tenant]:7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("tenant:7", "tenant:7"),
        ("", ""),
    ],
)
def test_address_counts_as_the_network_that_one_customer_has(address: str, network: str) -> None:
    assert network_of(address) == network


def resident_kb() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


@pytest.mark.no_cover  # others cover the same lines, and tracing doubles its time
def test_a_million_addresses_take_no_more_memory_than_some() -> None:
    rates = Rates("100/minute")
    number = 120_000  # far beyond what the table and the memory of a worker hold

    def ask(each: int) -> None:
        _, error = rates.count(each / 1e4, key=None, rate=None, address=f"{each >> 16 & 255}.{each >> 8 & 255}.{each}")
        assert error is None

    for each in range(number // 3):
        ask(each)
    before = resident_kb()
    for each in range(number // 3, number):
        ask(each)
    assert resident_kb() - before < 6 * 1024  # an entry for each would take ten times that
    assert len(rates._of_addresses) <= MAX_METERS


@pytest.mark.no_cover  # others cover the same lines, and tracing doubles its time
def test_who_asks_often_is_not_forgotten_for_those_who_asked_once() -> None:
    rates = Rates("50/minute")
    refused = 0
    for each in range(120_000):
        now = 1.0 + each / 1e4
        rates.count(now, key=None, rate=None, address=str(each))
        if each % 1000 == 0:
            refused += rates.count(now, key="busy", rate=None, address="")[1] is not None
    assert refused >= 60


def test_a_count_of_the_first_window_is_kept_as_long_as_others(table: Table) -> None:
    meter = Meter(table, "somebody", parse("5/day"))
    assert [meter.hit(100.0)[1] > 0 for _ in range(6)] == [False] * 5 + [True]  # up for less than a day
    ends = [table.words[row + 2] for row in range(4, 4 + 3 * ROWS, 3) if table.words[row]]
    assert ends == [2 * 86_400]


def test_processes_count_together() -> None:
    file = os.memfd_create("test")
    try:
        Table.prepare(file)
        assert os.fstat(file).st_size == TABLE_BYTES
        both = [Rates("10/minute"), Rates("10/minute")]
        for rates in both:
            rates.share(Table(file))
        admitted = 0
        for each in range(30):
            admitted += both[each % 2].count(5.0, key=None, rate=None, address="10.0.0.1")[1] is None
        assert admitted == 10
    finally:
        os.close(file)
