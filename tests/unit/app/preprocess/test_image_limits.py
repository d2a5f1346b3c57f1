"""What one picture may cost: pixels, sides, chunks, segments, scans and texts."""

import itertools
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from app.preprocess.image import MAX_SIDE, ImageRefused, decode_image
from tests.unit.app.preprocess.test_image import decode, encode, filled, refusal, spec


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width: int, height: int) -> bytes:
    """Return a PNG whose header promises a picture, and whose pixels deflate to nearly nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


# Pillow itself warns of a picture beyond 89 million pixels, and refuses one beyond twice as many
@pytest.mark.parametrize("side", [1_001, 9_000, 12_000, 20_000, 2**31 - 1])
def test_a_huge_picture_is_refused_by_its_header(side: int) -> None:
    data = bomb(side, side)
    refusal(bomb(1, 2_000_000), spec())  # whatever is imported late is imported now
    tracemalloc.start()
    try:
        code = refusal(data, spec())
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert code == "too_many_pixels"
    assert peak_bytes < 1_000_000


def test_the_limit_of_pixels_is_the_last_number_taken() -> None:
    data = encode(filled(1, "L", (20, 10)))
    assert decode_image(data, spec(), max_pixels=200).shape == (28, 28)
    with pytest.raises(ImageRefused, match="20x10 pixels, at most 199 are taken"):
        decode_image(data, spec(), max_pixels=199)


def test_a_compressed_text_chunk_cannot_fill_the_memory() -> None:
    png = encode(filled(1, "L", (28, 28)))
    text = b"comment\x00\x00" + zlib.compress(bytes(50_000_000), 9)
    data = png[:33] + chunk(b"zTXt", text) + png[33:]
    tracemalloc.start()
    try:
        code = refusal(data, spec())
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert code == "damaged_image"
    assert peak_bytes < 5_000_000


# Memory and time


LIMIT_PIXELS = 2**24
TURNED = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
PNG_START = b"\x89PNG\r\n\x1a\n"


def blank_png(
    depth: int, color: int, channels: int, *extra: bytes, width: int = 4096, height: int = 4096, after: bytes = b""
) -> bytes:
    """Return a black PNG, made row by row: this process is not to hold the picture either."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    deflate = zlib.compressobj(9)
    row = bytes(1 + (width * channels * depth + 7) // 8)
    pixels = b"".join(deflate.compress(row) for _ in range(height)) + deflate.flush()
    parts = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", pixels), after, chunk(b"IEND", b"")]
    return PNG_START + b"".join(parts)


def large_text(number: int) -> bytes:
    """Return a text of 1 MiB that Python holds in 4: one letter is beyond the 16-bit plane."""
    text = b"a" * (2**20 - 4) + "\U0001f600".encode()
    return chunk(b"iTXt", b"%d\0\x01\0\0\0" % number + zlib.compress(text, 9))


def blank_jpeg(mode: str) -> bytes:
    return encode(Image.new(mode, (4096, 4096)), "JPEG", progressive=True)


PALETTE = chunk(b"PLTE", bytes(768))
# what, file, and the bytes that it may take for each pixel of the limit
LARGEST: dict[str, tuple[Any, float]] = {
    "1": (lambda: blank_png(1, 0, 1), 3),
    "L": (lambda: blank_png(8, 0, 1), 3),
    "L with a transparent grey": (lambda: blank_png(8, 0, 1, chunk(b"tRNS", b"\0\7")), 3),
    "I;16": (lambda: blank_png(16, 0, 1), 4),
    "I;16 with a transparent grey": (lambda: blank_png(16, 0, 1, chunk(b"tRNS", b"\0\7")), 4),
    "P": (lambda: blank_png(8, 3, 1, PALETTE), 3),
    "P with alphas": (lambda: blank_png(8, 3, 1, PALETTE, chunk(b"tRNS", b"\x07\x50")), 3),
    "LA": (lambda: blank_png(8, 4, 2), 6),
    "LA of 16 bits": (lambda: blank_png(16, 4, 2), 6),
    "RGB": (lambda: blank_png(8, 2, 3), 6),
    "RGB with a transparent color": (lambda: blank_png(8, 2, 3, chunk(b"tRNS", b"\0\7\0\7\0\7")), 6),
    "RGBA": (lambda: blank_png(8, 6, 4), 6),
    "RGBA of 16 bits": (lambda: blank_png(16, 6, 4), 6),
    "RGBA, turned": (lambda: blank_png(8, 6, 4, chunk(b"eXIf", TURNED)), 6),
    "RGBA, turned by what stands behind": (lambda: blank_png(8, 6, 4, after=chunk(b"eXIf", TURNED)), 6),
    "RGBA, wide": (lambda: blank_png(8, 6, 4, width=MAX_SIDE, height=256), 6),
    "RGBA, tall": (lambda: blank_png(8, 6, 4, width=256, height=MAX_SIDE), 6),
    "RGBA with texts": (lambda: blank_png(8, 6, 4, *map(large_text, range(8))), 8),
    "JPEG L": (lambda: blank_jpeg("L"), 3),
    "JPEG RGB": (lambda: blank_jpeg("RGB"), 7),
    "JPEG CMYK": (lambda: blank_jpeg("CMYK"), 8.5),  # 8 are libjpeg's coefficients
}
MEASURE = """
import io, resource, sys
from PIL import Image
from app.preprocess.image import ImageInput, decode_image
def peak_kib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
spec = ImageInput(height=28, width=28)
for fmt in ("PNG", "JPEG"):  # whatever is imported late is imported now
    buffer = io.BytesIO()
    Image.new("RGB", (99, 99)).save(buffer, fmt)
    decode_image(buffer.getvalue(), spec, max_pixels=2**24)
data = sys.stdin.buffer.read()
before_kib = peak_kib()
decode_image(data, spec, max_pixels=2**24)
print((peak_kib() - before_kib) * 1024)
"""


@pytest.mark.parametrize("what", LARGEST)
def test_the_largest_picture_takes_a_few_bytes_a_pixel(what: str) -> None:
    make, most_bytes = LARGEST[what]
    root = Path(__file__).parents[4]
    done = subprocess.run([sys.executable, "-c", MEASURE], input=make(), capture_output=True, cwd=root)
    assert done.returncode == 0, done.stderr.decode()
    assert int(done.stdout) / LIMIT_PIXELS < most_bytes


@pytest.mark.parametrize("size", [(MAX_SIDE + 1, 1), (1, MAX_SIDE + 1)])
def test_a_side_beyond_that_of_any_jpeg_is_refused(size: tuple[int, int]) -> None:
    """A row costs Pillow 8 bytes besides its pixels: a column of 2**24 would take a gigabyte."""
    assert refusal(filled(1, "L", size), spec()) == "too_many_pixels"
    longest = (min(MAX_SIDE, size[0]), min(MAX_SIDE, size[1]))
    assert decode(filled(1, "L", longest), spec()).shape == (28, 28)


def with_chunks(*chunks: bytes) -> bytes:
    png = encode(filled(1, "L", (28, 28)))
    return png[:33] + b"".join(chunks) + png[33:]


def with_segments(*segments: bytes) -> bytes:
    jpeg = encode(filled(1, "L", (28, 28)), "JPEG")
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def with_scans(num_scans: int) -> bytes:
    jpeg = encode(filled(1, "L", (28, 28)), "JPEG", progressive=True)
    last = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    return jpeg[:-2] + last * num_scans + jpeg[-2:]


CROWDED = {
    "small chunks": lambda: with_chunks(chunk(b"gAMA", b"\0\1\0\0") * 500_000),
    "small texts": lambda: with_chunks(chunk(b"tEXt", b"a\0b") * 500_000),
    "empty pixel chunks": lambda: with_chunks(chunk(b"IDAT", b"") * 500_000),
    "inflated texts": lambda: with_chunks(*map(large_text, range(9))),
    "comments": lambda: with_segments(b"\xff\xfe\0\2" * 2_000_000),
    "application segments": lambda: with_segments(b"\xff\xe5\0\2" * 2_000_000),
    "padding": lambda: with_segments(b"\xff" * 8_000_000),
    "junk": lambda: with_segments(bytes(8_000_000)),
    "markers": lambda: with_segments(b"\xff\xd0" * 4_000_000),
    "a marker that would hide the rest": lambda: with_segments(b"\xff\xc8\xff\xfe" + b"\xff\xfe\0\2" * 2_000_000),
    "scans": lambda: with_scans(64),
}


@pytest.mark.parametrize("what", CROWDED)
def test_a_file_of_very_many_parts_is_refused_before_a_decoder_sees_it(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = CROWDED[what]()
    seen: list[object] = []
    monkeypatch.setattr(Image, "open", lambda *arguments, **options: seen.append(arguments))
    assert refusal(data, spec()) == "too_many_chunks"
    assert seen == []


@pytest.mark.parametrize(
    "data",
    [
        with_chunks(*itertools.repeat(chunk(b"tEXt", b"a\0b"), 990)),
        with_chunks(*itertools.repeat(chunk(b"tEXt", b"a\0" + bytes(2_000)), 1_500)),
        with_chunks(*map(large_text, range(8))),
        encode(filled(1, "L", (28, 28))) + bytes(2**20),  # what follows a picture is no part of it
        with_segments(*itertools.repeat(b"\xff\xe5\xff\xff" + bytes(65_533), 120)),
        with_segments(b"\xff" * 90),
        with_scans(50),
        with_segments() + b"\xff\xda\0\2" * 1_000,
    ],
    ids=[
        "chunks",
        "large chunks",
        "texts",
        "bytes after the end",
        "application segments",
        "padding",
        "scans",
        "scans after the end",
    ],
)
def test_a_file_of_many_parts_is_taken(data: bytes) -> None:
    assert decode(data, spec()).shape == (28, 28)
