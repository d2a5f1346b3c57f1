import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import MalformedBody
from app.tasks.decoding.strict_json import parse_json

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
        (b"[" + b"9" * 5000 + b"]", "a number that cannot be read"),
        (b"[-" + b"9" * 5000 + b"]", "a number that cannot be read"),
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
    assert parse_json(b"9" * 4000) == 10**4000 - 1


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
