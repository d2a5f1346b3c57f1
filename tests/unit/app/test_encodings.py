import gzip
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.encodings import (
    DEFLATE,
    GZIP,
    MAX_ACCEPT_BYTES,
    Acceptable,
    Inflater,
    encode,
    read_accept_encoding,
    read_content_encoding,
)
from app.errors import BodyTooLarge, MalformedBody, Overloaded, UnsupportedEncoding

LIMIT_BYTES = 2**20
TEXT = b'{"instances": [1, 2, 3]}' * 100


def raw_deflate(data: bytes, level: int = 6) -> bytes:
    return zlib.compress(data, level, -zlib.MAX_WBITS)


FORMS: dict[str, tuple[bytes, Callable[[bytes, int], bytes]]] = {
    "gzip": (GZIP, lambda data, level: gzip.compress(data, level)),
    "zlib": (DEFLATE, zlib.compress),
    "raw deflate": (DEFLATE, raw_deflate),
}


def inflate(coding: bytes, body: bytes, *, limit_bytes: int = LIMIT_BYTES, step_bytes: int = LIMIT_BYTES) -> bytes:
    """Inflate a body in steps, and check that what was counted is what came."""
    counted: list[int] = []
    inflater = Inflater(coding, body, limit_bytes=limit_bytes, count=counted.append)
    up_to_bytes = 0
    while (inflated := inflater.advance(up_to_bytes)) is None:
        up_to_bytes += step_bytes
    assert sum(counted) == len(inflated)
    return inflated


@given(
    st.one_of(st.binary(max_size=2000), st.builds(lambda data, times: data * times, st.binary(), st.integers(0, 4000))),
    st.sampled_from(list(FORMS)),
    st.integers(0, 9),
    st.integers(1, 100_000),
)
def test_what_was_deflated_is_inflated_in_steps_of_any_size(data: bytes, form: str, level: int, step: int) -> None:
    coding, deflate = FORMS[form]
    assert inflate(coding, deflate(data, level), step_bytes=step, limit_bytes=len(data)) == data


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=8), st.data())
def test_any_number_of_flushes_and_members_make_one_body(parts: list[bytes], data: st.DataObject) -> None:
    body = b""
    stream = zlib.compressobj(wbits=31)
    for part in parts:
        body += stream.compress(part)
        end = data.draw(st.sampled_from([zlib.Z_NO_FLUSH, zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_FINISH]))
        body += stream.flush(end) if end != zlib.Z_NO_FLUSH else b""
        if end == zlib.Z_FINISH:
            stream = zlib.compressobj(wbits=31)
    body += stream.flush()
    assert inflate(GZIP, body) == b"".join(parts) == gzip.decompress(body)


@given(st.sampled_from(list(FORMS)), st.binary(max_size=300), st.data())
def test_every_body_that_is_cut_short_is_refused(form: str, content: bytes, data: st.DataObject) -> None:
    coding, deflate = FORMS[form]
    whole = deflate(content, 6)
    with pytest.raises(MalformedBody, match="cut short"):
        inflate(coding, whole[: data.draw(st.integers(1, len(whole) - 1))])


@given(st.binary(min_size=1, max_size=300), st.sampled_from([GZIP, DEFLATE]))
def test_no_bytes_do_anything_but_inflate_or_be_refused(body: bytes, coding: bytes) -> None:
    try:
        inflate(coding, body)
    except MalformedBody as exc:
        assert coding.decode() in str(exc)  # noqa: PT017  either way is good


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("tail", [b"\0", b"garbage", b"\0" * 100_000])
def test_what_follows_the_end_is_refused(form: str, tail: bytes) -> None:
    coding, deflate = FORMS[form]
    with pytest.raises(MalformedBody):
        inflate(coding, deflate(TEXT, 6) + tail)


@pytest.mark.parametrize(
    ("coding", "body", "told"),
    [
        (GZIP, gzip.compress(TEXT)[:-8] + bytes(4) + gzip.compress(TEXT)[-4:], "incorrect data check"),
        (GZIP, gzip.compress(TEXT)[:-4] + bytes(4), "incorrect length check"),
        (DEFLATE, zlib.compress(TEXT)[:-4] + bytes(4), "incorrect data check"),
        (GZIP, TEXT, "incorrect header check"),
        (GZIP, zlib.compress(TEXT), "incorrect header check"),
        (DEFLATE, gzip.compress(TEXT), "no deflate"),
        (DEFLATE, TEXT, "no deflate"),
    ],
    ids=["wrong CRC", "wrong length", "wrong Adler-32", "no gzip", "zlib for gzip", "gzip for deflate", "no deflate"],
)
def test_damage_is_named(coding: bytes, body: bytes, told: str) -> None:
    with pytest.raises(MalformedBody, match=told):
        inflate(coding, body)


def test_a_dictionary_that_nobody_has_is_refused() -> None:
    stream = zlib.compressobj(zdict=b"a dictionary")
    with pytest.raises(MalformedBody):
        inflate(DEFLATE, stream.compress(TEXT) + stream.flush())


@pytest.mark.parametrize("form", FORMS)
def test_a_bomb_is_given_up_at_the_limit(form: str) -> None:
    coding, deflate = FORMS[form]
    counted: list[int] = []
    inflater = Inflater(coding, deflate(bytes(2**26), 9), limit_bytes=2**20, count=counted.append)
    with pytest.raises(BodyTooLarge, match="inflates to more than the 1048576 bytes"):
        inflater.advance(2**30)
    assert sum(counted) <= 2**20


def test_a_body_of_just_the_limit_is_taken() -> None:
    assert inflate(GZIP, gzip.compress(bytes(1000)), limit_bytes=1000) == bytes(1000)
    with pytest.raises(BodyTooLarge):
        inflate(GZIP, gzip.compress(bytes(1001)), limit_bytes=1000)


def test_whoever_counts_can_refuse() -> None:
    def refuse(num_bytes: int) -> None:
        raise Overloaded("too many", retry_after_s=1)

    with pytest.raises(Overloaded):
        Inflater(GZIP, gzip.compress(TEXT), limit_bytes=LIMIT_BYTES, count=refuse).advance(LIMIT_BYTES)


def test_inflating_stops_where_it_is_told_to() -> None:
    counted: list[int] = []
    inflater = Inflater(GZIP, gzip.compress(bytes(LIMIT_BYTES)), limit_bytes=LIMIT_BYTES, count=counted.append)
    assert inflater.advance(-1) is None
    assert counted == []
    assert inflater.advance(1000) is None
    assert 1000 < sum(counted) < LIMIT_BYTES / 2
    assert inflater.advance(LIMIT_BYTES) == bytes(LIMIT_BYTES)


@pytest.mark.parametrize(
    ("value", "coding"),
    [
        (b"", b""), (b"identity", b""), (b" , ", b""), (b"gzip", GZIP), (b"GZip", GZIP), (b"x-gzip", GZIP),
        (b" deflate ", DEFLATE), (b"identity, gzip", GZIP), (b"gzip,", GZIP),
    ],
)  # fmt: skip
def test_one_coding_is_read(value: bytes, coding: bytes) -> None:
    assert read_content_encoding(value) == coding


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (b"br", "gzip and deflate are read"), (b"zstd", "'zstd'"), (b"compress", "gzip and deflate are read"),
        (b"\xff", "gzip and deflate"), (b"gzip;q=1", "gzip and deflate"), (b"gzip, gzip", "2 times"),
        (b"gzip, deflate", "2 times"), (b"gzip,br,gzip", "3 times"), (b"x" * 10_000, "gzip and deflate"),
    ],
)  # fmt: skip
def test_other_codings_are_refused_and_what_is_read_named(value: bytes, told: str) -> None:
    with pytest.raises(UnsupportedEncoding, match=told) as caught:
        read_content_encoding(value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("header", "coding", "must_encode"),
    [
        (b"", b"", False),
        (b"gzip", GZIP, False),
        (b"x-gzip", GZIP, False),
        (b"deflate", DEFLATE, False),
        (b"gzip, deflate, br, zstd", GZIP, False),
        (b"deflate, gzip", GZIP, False),
        (b"gzip;q=0.5, deflate;q=0.8", DEFLATE, False),
        (b"gzip;q=0, deflate", DEFLATE, False),
        (b"gzip;q=0", b"", False),
        (b"gzip; q=0.0", b"", False),
        (b"*", GZIP, False),
        (b"*;q=0", b"", False),
        (b"gzip;q=0, *", DEFLATE, False),
        (b"br", b"", False),
        (b"identity", b"", False),
        (b"identity, gzip;q=0.5", b"", False),
        (b"identity, gzip", GZIP, False),
        (b"identity;q=0.5, gzip", GZIP, False),
        (b"identity;q=0", b"", False),
        (b"identity;q=0, gzip", GZIP, True),
        (b"gzip, *;q=0", GZIP, True),
        (b"*;q=0, identity;q=0.1, gzip", GZIP, False),
        (b"identity;q=0, br", b"", False),
        (b"GZIP;Q=1", GZIP, False),
        (b"gzip;q=two, deflate", DEFLATE, False),
        (b"gzip;q=7", b"", False),
        (b"gzip;q=nan", b"", False),
        (b"gzip;q", b"", False),
        (b";q=1, , =;;", b"", False),
    ],
)
def test_the_client_chooses(header: bytes, coding: bytes, must_encode: bool) -> None:
    assert read_accept_encoding(header) == Acceptable(header, coding, must_encode)


def test_a_header_too_long_to_be_meant_is_passed_over() -> None:
    header = b"gzip" + b", x" * MAX_ACCEPT_BYTES
    assert read_accept_encoding(header).coding == b""


@given(st.binary(max_size=60))
def test_no_header_is_an_error(header: bytes) -> None:
    assert read_accept_encoding(header).coding in (b"", GZIP, DEFLATE)


@given(st.binary(max_size=3000), st.sampled_from([GZIP, DEFLATE]), st.booleans(), st.booleans())
def test_an_answer_that_was_encoded_is_the_answer(body: bytes, coding: bytes, must: bool, plain: bool) -> None:
    media_type = b"application/octet-stream" if plain else b"application/json"
    encoded = encode(body, media_type, Acceptable(b"", coding, must))
    if encoded is None:
        assert not must
    else:
        assert must or len(encoded) < len(body)
        assert (gzip.decompress if coding == GZIP else zlib.decompress)(encoded) == body


def test_bytes_without_a_pattern_go_as_they_are() -> None:
    noise = zlib.compress(b"".join(b"%d" % (n * n) for n in range(20_000)), 9)
    bytes_type = b"application/octet-stream"
    assert encode(noise, bytes_type, Acceptable(b"")._replace(coding=GZIP)) is None
    assert encode(bytes(len(noise)), bytes_type, Acceptable(b"")._replace(coding=GZIP)) is not None
    assert encode(noise, bytes_type, Acceptable(b"", GZIP, must_encode=True)) is not None
