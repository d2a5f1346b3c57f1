"""The IDX format of the MNIST family: two zero bytes, a type, a rank, big-endian sizes, then the numbers.

Source: http://yann.lecun.com/exdb/mnist/ ("The IDX file format").
"""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.errors import DataError

_UINT8 = 0x08


def read_maybe_gzipped(path: Path) -> bytes:
    """Return the content of a file, unpacked where it is gzip.

    Raises:
        DataError: It cannot be read, or its compressed form is cut off or damaged.
    """
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (EOFError, zlib.error, gzip.BadGzipFile) as exc:
        raise DataError(f"{path} is damaged or cut off: {exc}") from exc
    except OSError as exc:
        raise DataError(f"{path} cannot be read: {exc.strerror or exc}") from exc


def header_bytes(rank: int) -> int:
    """Return the size of the header of a file with ``rank`` dimensions."""
    return 4 + 4 * rank


def parse_header(data: bytes, *, name: str, rank: int) -> tuple[int, ...]:
    """Return the shape that the first :func:`header_bytes` of an IDX file of unsigned bytes tell.

    Raises:
        DataError: It is no IDX file, holds another type or rank, or ends inside its header.
    """
    if len(data) < 4 or data[:2] != b"\0\0":
        raise DataError(f"{name} is no IDX file: it must start with two zero bytes, got {data[:4].hex() or 'nothing'}")
    if data[2] != _UINT8:
        raise DataError(f"{name} holds numbers of IDX type 0x{data[2]:02x}, expected 0x08 (unsigned byte)")
    if data[3] != rank:
        raise DataError(f"{name} has {data[3]} dimensions, expected {rank}")
    if len(data) < header_bytes(rank):
        raise DataError(
            f"{name} is cut off inside its header: {len(data)} bytes, expected at least {header_bytes(rank)}"
        )
    return tuple(int(size) for size in np.frombuffer(data, ">u4", count=rank, offset=4))


def parse_idx(data: bytes, *, name: str, rank: int) -> NDArray[np.uint8]:
    """Parse an IDX file of unsigned bytes.

    Args:
        data: The uncompressed file.
        name: How errors call it.
        rank: Number of dimensions that it should have.

    Returns:
        A read-only array, uint8, of ``rank`` dimensions.

    Raises:
        DataError: It is no IDX file, holds another type or rank, or its length is not what its header says.
    """
    shape = parse_header(data, name=name, rank=rank)
    header = header_bytes(rank)
    expected = header + math.prod(shape)
    if len(data) != expected:
        raise DataError(f"{name} has {len(data)} bytes, but its header {shape} asks for {expected}")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)
