import json
import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import MalformedBody, TooManyValues
from app.tasks.decoding import strict_json
from app.tasks.decoding.strict_json import JsonLimits

LOOSE = JsonLimits(arrays=10**9, objects=10**9, members=10**9, values=10**9)


def parse_json(body: bytes) -> Any:
    return strict_json.parse_json(body, LOOSE)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=20,
)


@given(JSON, st.booleans())
def test_json_is_read_as_it_was_written(value: object, ascii_only: bool) -> None:
    assert parse_json(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not JSON: Expecting value: line 1 column 1"),
        (b"  \n", "not JSON"),
        (b"{", "not JSON"),
        (b'{"a": 1,}', "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b'{"a": 1} x', "not JSON: Extra data"),
        (b'{"a": 1}{"a": 1}', "not JSON: Extra data"),
        (b"[1, 2]\x00", "not JSON: Extra data"),
        (b"[01]", "not JSON"),
        (b"[+1]", "not JSON"),
        (b"[.5]", "not JSON"),
        (b"[0x10]", "not JSON"),
        (b'"\n"', "not JSON: Invalid control character"),
        (b"hello", "not JSON"),
        (b"a=1&b=2", "not JSON"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        ("{}".encode("utf-16"), "not UTF-8: invalid start byte at byte 0"),
        ("\ufeff{}".encode("utf-16-le"), "not UTF-8"),
        ("{}".encode("utf-16-le"), "not JSON"),
        ("{}".encode("utf-32-be"), "not JSON"),
        (b'{"a": "\xc3"}', "not UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "not UTF-8"),
        (b"[" * 100_000, "nests too deep"),
        (b"[" * 100_000 + b"]" * 100_000, "nests too deep"),
        (b'{"a":' * 100_000, "nests too deep"),
        (b'[{"a":' * 50_000 + b"1" + b"}]" * 50_000, "nests too deep"),
    ],
)  # fmt: skip
def test_what_is_not_plain_json_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(MalformedBody, match=message):
        parse_json(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"k": 1, "k": 1}',
        b'{"k": 1, "a": 2, "k": 3}',
        b'{"a": {"k": 1, "b": {}, "k": 2}}',
        b'[[{"k": [{"k": 1}], "k": 2}]]',
        b'{"a": [1, {"b": {"k": 1, "k": 2}}], "k": 0}',
        b'{"k": 1, "\\u006b": 2}',
    ],
)
def test_a_key_that_stands_twice_is_named_at_any_depth(body: bytes) -> None:
    with pytest.raises(MalformedBody, match="the key 'k' stands twice in one object"):
        parse_json(body)


def test_the_same_key_in_different_objects_is_fine() -> None:
    assert parse_json(b'{"k": [{"k": 1}, {"k": 2}]}') == {"k": [{"k": 1}, {"k": 2}]}


def test_a_key_that_stands_twice_among_very_many_is_found_in_linear_time() -> None:
    """Comparing each key with each would take an hour, on a thread that lets the event loop wait."""
    members = ",".join(f'"{number}":0' for number in range(300_000))
    with pytest.raises(MalformedBody, match="the key 'last' stands twice"):
        parse_json(f'{{{members},"last":0,"last":0}}'.encode())


def test_numbers_beyond_json_are_left_to_whoever_knows_their_place() -> None:
    nan, inf, minus_inf, large = parse_json(b"[NaN, Infinity, -Infinity, 1e400]")
    assert math.isnan(nan)
    assert (inf, minus_inf, large) == (math.inf, -math.inf, math.inf)


def test_a_long_integer_within_bounds_is_read_exactly() -> None:
    assert parse_json(b"9" * 400) == 10**400 - 1
    assert parse_json(b"[" + b"9" * 401 + b", 1]") == [math.inf, 1]  # the validator names its place


@pytest.mark.parametrize("count", [1, 100_000])
def test_floats_of_short_and_of_long_bodies_are_read_exactly(count: int) -> None:
    floats = [0.1, -5e-324, 1.7976931348623157e308, -0.0] * count
    read = parse_json(json.dumps(floats).encode())
    assert list(map(float.hex, read)) == list(map(float.hex, floats))
    assert parse_json(f"[{'0.5, ' * count}1e400]".encode())[-1] == math.inf


def test_a_nesting_that_fits_is_read() -> None:
    value = parse_json(b"[" * 200 + b"]" * 200)
    for _ in range(199):
        (value,) = value
    assert value == []


@given(st.binary())
def test_random_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        parse_json(body)
    except MalformedBody as exc:
        assert str(exc).startswith("the ")  # noqa: PT017  any other exception fails the test


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"[" + b"[]," * 99_999 + b"[]]", "arrays"),
        (b"[" + b"{}," * 99_999 + b"{}]", "objects"),
        (b"[" + b"0," * 99_999 + b"0]", "values"),
        (b"[" + b'{"a":1},' * 99_999 + b"{}]", "members"),
    ],
)
def test_body_of_more_than_any_good_one_holds_is_not_begun_on(body: bytes, kind: str) -> None:
    tight = {"arrays": 10**9, "objects": 10**9, "values": 10**9, "members": 10**9} | {kind: 10_000}
    with pytest.raises(TooManyValues, match=kind):
        strict_json.parse_json(body, JsonLimits(**tight))
    assert len(strict_json.parse_json(body, JsonLimits(**(tight | {kind: 50_000})))) == 100_000


TIGHT = JsonLimits(arrays=0, objects=0, members=0, values=0)
MARKS = "[{:," * 100_000


@pytest.mark.parametrize("text", [MARKS, '"' + MARKS, MARKS + "\\", '\\"' * 3 + MARKS, "\\" * 3 + MARKS + '"'])
def test_what_stands_in_strings_does_not_count(text: str) -> None:
    body = json.dumps(text).encode()
    assert strict_json.parse_json(body, TIGHT) == text
    with pytest.raises(TooManyValues, match="about 100000 arrays"):
        strict_json.parse_json(b"[" + body + b", " + b"[" * 99_999, TIGHT)


MARKED = st.text(st.sampled_from('ab"\\[{:,/\n'))


@given(
    st.recursive(
        MARKED, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(MARKED, inner, max_size=3), max_leaves=12
    )
)
def test_marks_outside_of_strings_are_told_from_those_inside(value: Any) -> None:
    body = json.dumps(value).encode()
    plain = re.sub(r'"(?:[^"\\]|\\.)*"', "", body.decode())
    outside = strict_json._outside_strings(body).decode()
    assert [outside.count(mark) for mark in "[{:,"] == [plain.count(mark) for mark in "[{:,"]


def test_the_loosest_limits_hold_for_every_body_that_one_allows() -> None:
    limits = [
        JsonLimits(arrays=1, objects=20, members=5, values=3),
        JsonLimits(arrays=9, objects=2, members=6, values=7),
    ]
    assert JsonLimits.loosest(limits) == JsonLimits(arrays=9, objects=20, members=6, values=7)
    assert JsonLimits.loosest([]) == JsonLimits(arrays=0, objects=0, members=0, values=0)
