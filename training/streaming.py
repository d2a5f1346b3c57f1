"""Rows that are streamed from a file, for data that do not fit into memory.

A stream is a chain of generators: records are read one after the other, a worker keeps its share of them, a buffer of
bounded size shuffles them, and only then is each decoded. What is in memory is the buffer of each worker, the batches
that wait, and one record.
"""

import gzip
import random
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Generic, TypeVar, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from training.data._idx import header_bytes, parse_header
from training.errors import DataError
from training.seeding import derive

MAX_RECORD_BYTES = 2**20

RecordT = TypeVar("RecordT")
RowT = TypeVar("RowT", covariant=True)

_ORDER = 3


class RowStream(IterableDataset[RowT], Generic[RecordT, RowT]):
    """Rows of a file, in another order each epoch, each of them once, whatever the number of loading workers.

    Args:
        records: Opens the file anew and yields its records, raw: each worker reads them all and keeps its share.
        decode: Turns a record into a row; called for the records of its own share only. It and ``records`` travel to
            the workers.
        buffer_rows: Records that are held to draw from: the greater, the better shuffled. 1 keeps the file's order.
        seed: Decides the order of every epoch.

    Raises:
        ValueError: The buffer holds nothing.
    """

    def __init__(
        self,
        records: Callable[[], Iterable[RecordT]],
        decode: Callable[[RecordT], RowT],
        *,
        buffer_rows: int,
        seed: int,
    ) -> None:
        if buffer_rows < 1:
            raise ValueError(f"buffer_rows must be 1 or more, got {buffer_rows}")
        self._records = records
        self._decode = decode
        self._buffer_rows = buffer_rows
        self._seed = seed
        # in shared memory: workers that live on see it change
        self._epoch = torch.ones((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch, counted from 1, the next iteration is."""
        self._epoch.fill_(epoch)

    def __iter__(self) -> Iterator[RowT]:
        info = get_worker_info()
        worker, num_workers = (info.id, info.num_workers) if info else (0, 1)
        share = islice(self._records(), worker, None, num_workers)
        order = random.Random(derive(self._seed, _ORDER, int(self._epoch), worker))  # noqa: S311 - no secret
        for record in shuffled(share, self._buffer_rows, order):
            yield self._decode(record)


def shuffled(records: Iterable[RecordT], buffer_rows: int, order: random.Random) -> Iterator[RecordT]:
    """Yield all records, each drawn at random from the ``buffer_rows`` that were read last and not yet drawn."""
    coming = iter(records)
    buffer = list(islice(coming, buffer_rows))
    for record in coming:
        drawn = order.randrange(len(buffer))
        yield buffer[drawn]
        buffer[drawn] = record
    order.shuffle(buffer)
    yield from buffer


def read_lines(path: Path, *, max_bytes: int = MAX_RECORD_BYTES) -> Iterator[bytes]:
    """Yield the lines of a file, as of JSON Lines, plain or gzip, without their ends and without empty ones.

    Raises:
        DataError: The file cannot be read, is cut off, or has a line of more than ``max_bytes``.
    """
    with _opened(path) as file:
        number = 0
        while line := file.readline(max_bytes + 1):
            number += 1
            if len(line) > max_bytes and not line.endswith(b"\n"):
                raise DataError(f"{path}, line {number} is longer than {max_bytes} bytes")
            if line.strip():
                yield line.rstrip(b"\r\n")


def read_pictures(images: Path, labels: Path) -> Iterator[tuple[bytes, int]]:
    """Yield the pictures of two IDX files, plain or gzip, as (pixels, label), one at a time.

    Raises:
        DataError: A file cannot be read, is no IDX file of its kind or is cut off, or they hold not as many rows.
    """
    num_images, height, width = _shape(images, rank=3)
    (num_labels,) = _shape(labels, rank=1)
    if num_images != num_labels:
        raise DataError(f"{images} holds {num_images} images, but {labels} {num_labels} labels")
    if height * width > MAX_RECORD_BYTES:
        raise DataError(f"{images} holds pictures of {height}x{width}, at most {MAX_RECORD_BYTES} bytes are read")
    pixels = _idx_records(images, rank=3, num_rows=num_images, num_bytes=height * width)
    classes = _idx_records(labels, rank=1, num_rows=num_images, num_bytes=1)
    for record, label in zip(pixels, classes, strict=True):
        yield record, label[0]


def picture(record: tuple[bytes, int], *, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Decode a record of :func:`read_pictures`.

    Returns:
        Pixels, uint8 of shape (height, width), and the label, int64 of shape ().
    """
    pixels_HW = np.frombuffer(record[0], np.uint8).reshape(height, width)
    return torch.tensor(pixels_HW), torch.tensor(record[1])


def _shape(path: Path, *, rank: int) -> tuple[int, ...]:
    with _opened(path) as file:
        return parse_header(file.read(header_bytes(rank)), name=str(path), rank=rank)


def _idx_records(path: Path, *, rank: int, num_rows: int, num_bytes: int) -> Iterator[bytes]:
    with _opened(path) as file:
        file.read(header_bytes(rank))
        for number in range(num_rows):
            record = file.read(num_bytes)
            if len(record) != num_bytes:
                raise DataError(f"{path} is cut off behind {number} of {num_rows} rows")
            yield record


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, plain or gzip; what is wrong with it while it is open is a :class:`DataError`."""
    try:
        with path.open("rb") as plain:
            is_packed = plain.read(2) == b"\x1f\x8b"
            plain.seek(0)
            if not is_packed:
                yield plain
                return
            with gzip.GzipFile(fileobj=plain, mode="rb") as unpacked:
                yield cast(IO[bytes], unpacked)
    except (EOFError, zlib.error, gzip.BadGzipFile) as exc:
        raise DataError(f"{path} is damaged or cut off: {exc}") from exc
    except OSError as exc:
        raise DataError(f"{path} cannot be read: {exc.strerror or exc}") from exc
