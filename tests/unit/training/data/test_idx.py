import gzip
import struct

import numpy as np
import pytest

from training.data._idx import parse_idx, read_maybe_gzipped
from training.errors import DataError


def idx(array, *, kind=0x08):
    return bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


PICTURES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


def test_a_whole_file_gives_its_numbers_and_shape():
    parsed = parse_idx(idx(PICTURES), name="x", rank=3)
    np.testing.assert_array_equal(parsed, PICTURES)
    assert parsed.dtype == np.uint8


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "some-file is no IDX file"),
        (b"\0\0\x08", "no IDX file"),
        (b"PK\3\4" + bytes(20), "no IDX file"),
        (idx(PICTURES, kind=0x0D), "type 0x0d"),
        (idx(PICTURES[0]), "2 dimensions, expected 3"),
        (idx(PICTURES)[:9], "cut off inside its header"),
        (idx(PICTURES)[:-1], "39 bytes, but its header .* asks for 40"),
        (idx(PICTURES) + b"\0", "41 bytes"),
    ],
)
def test_what_is_no_such_file_is_refused_by_name(data, message):
    with pytest.raises(DataError, match=message) as caught:
        parse_idx(data, name="some-file", rank=3)
    assert "some-file" in str(caught.value)


def test_a_header_that_asks_for_terabytes_takes_no_memory():
    data = b"\0\0\x08\x03" + b"\xff" * 12
    with pytest.raises(DataError, match="asks for"):
        parse_idx(data, name="x", rank=3)


def test_plain_and_gzip_files_read_alike(tmp_path):
    (tmp_path / "plain").write_bytes(b"content")
    (tmp_path / "packed").write_bytes(gzip.compress(b"content"))
    assert read_maybe_gzipped(tmp_path / "plain") == read_maybe_gzipped(tmp_path / "packed") == b"content"


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: data[:-9], id="cut"),
        pytest.param(lambda data: data[:30] + b"\xff" * 9 + data[39:], id="overwritten"),
    ],
)
def test_a_cut_or_damaged_gzip_file_is_named(tmp_path, damage):
    path = tmp_path / "images.gz"
    path.write_bytes(damage(gzip.compress(bytes(range(256)) * 4)))
    with pytest.raises(DataError, match=r"images\.gz is damaged or cut off"):
        read_maybe_gzipped(path)


def test_an_unreadable_file_is_named(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_maybe_gzipped(tmp_path)
