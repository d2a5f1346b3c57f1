"""What is read: one file for each format, found by the suffix of the input."""

import hashlib
import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from app.predict.errors import BadUse
from app.predict.fields import Field
from app.predict.rows import Block, Chunk, Row
from app.tasks import Task

FORMATS = ("csv", "jsonl", "parquet", "images")
_MODULES = {"csv": "csv_rows", "jsonl": "json_lines", "parquet": "parquet_rows", "images": "folder"}
_SUFFIXES = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_HEAD_BYTES = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How an input is read.

    Attributes:
        fields: Of an instance.
        id_column: That tells the row's name; None for none.
        keep: Columns that are passed on; ``("all",)`` for all that make no instance.
        delimiter: Between the cells of CSV; None for what the suffix says.
        chunk_rows: Most rows of a chunk.
        chunk_bytes: About the most bytes of a chunk.
        max_row_bytes: A longer row is set aside.
    """

    fields: Sequence[Field]
    id_column: str | None = None
    keep: tuple[str, ...] = ()
    delimiter: str | None = None
    chunk_rows: int
    chunk_bytes: int
    max_row_bytes: int


class Source(Protocol):
    """An open input.

    Attributes:
        unit: Of :attr:`total` and of :attr:`Chunk.done`: ``B`` or ``rows``.
        total: How much there is.
        keep: Names of the columns that are passed on.
        has_ids: Whether rows have names.
    """

    unit: str
    total: int
    keep: tuple[str, ...]
    has_ids: bool

    def chunks(self, position: Mapping[str, int]) -> Iterator[Chunk]:
        """Yield chunks from a position on; an empty one is the beginning.

        Raises:
            Stopped: The input cannot be read any further.
        """
        ...

    def rows(self, chunk: Chunk, task: Task) -> list[Row] | Block:
        """Return the rows of a chunk; on any thread."""
        ...

    def close(self) -> None:
        """Close what is open."""
        ...


class _Closable(Protocol):
    def close(self) -> None: ...


class _Module(Protocol):
    def open_source(self, path: Path, reading: Reading) -> Source: ...

    def identity(self, path: Path) -> dict[str, Any]: ...


def format_of(path: Path, asked: str | None) -> str:
    """Return the format of an input.

    Raises:
        BadUse: There is no such input, or its suffix does not tell.
    """
    if not path.exists():
        raise BadUse(f"there is no {path}")
    if path.is_dir():
        if asked not in (None, "images"):
            raise BadUse(f"{path} is a folder, and --input-format says {asked}")
        return "images"
    if asked == "images":
        raise BadUse(f"{path} is no folder")
    if not path.is_file():
        raise BadUse(
            f"{path} is no file that can be read twice, as going on after an interruption needs; save it first"
        )
    found = asked or _SUFFIXES.get(path.suffix.lower())
    if found is None:
        raise BadUse(
            f"{path.name}: the suffix does not tell the format; name it with --input-format {'|'.join(FORMATS[:3])}"
        )
    return found


def open_source(path: Path, kind: str, reading: Reading) -> Source:
    """Open an input.

    Raises:
        BadUse: It cannot be read, or lacks a column.
    """
    return _module(kind).open_source(path, reading)


def identity(path: Path, kind: str) -> dict[str, Any]:
    """Return what tells an input from another, or from itself after a change.

    Raises:
        BadUse: It cannot be read.
    """
    return {"format": kind, "path": str(path.resolve()), **_module(kind).identity(path)}


def file_identity(path: Path) -> dict[str, Any]:
    """Return size, time of the last change, and the digest of the first part of a file."""
    try:
        status = path.stat()
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as exc:
        raise BadUse(f"{path} cannot be read: {exc.strerror or exc}") from exc
    return {"size": status.st_size, "changed_ns": status.st_mtime_ns, "head_sha256": hashlib.sha256(head).hexdigest()}


def expect_utf8(path: Path, head: bytes) -> None:
    """Refuse a text of another encoding that its first bytes give away.

    Raises:
        BadUse: It is one.
    """
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BadUse(f"{path} is UTF-16; convert it first: iconv -f UTF-16 -t UTF-8")
    if b"\0" in head[:1024]:
        raise BadUse(f"{path} is no text: there is a NUL in line 1, column {head.index(0) + 1}")


@contextmanager
def closed_on_error(file: _Closable) -> Iterator[None]:
    """Close a file where what is done with it fails."""
    try:
        yield
    except BaseException:
        file.close()
        raise


def kept_columns(reading: Reading, columns: Sequence[str], where: str) -> tuple[str, ...]:
    """Return the columns that are passed on.

    Raises:
        BadUse: One is not there.
    """
    asked = (*reading.keep, *(() if reading.id_column is None else (reading.id_column,)))
    if unknown := [name for name in asked if name not in columns and name != "all"]:
        raise BadUse(f"{where}: no column {', '.join(map(repr, unknown))}; there are: {', '.join(map(repr, columns))}")
    used = {field.column for field in reading.fields} | {reading.id_column}
    kept = tuple(name for name in columns if name not in used) if reading.keep == ("all",) else reading.keep
    # of two columns of one name, nobody could say which is meant
    passed_on = (*kept, *(() if reading.id_column is None else (reading.id_column,)))
    if twice := sorted({name for name in passed_on if columns.count(name) > 1}):
        raise BadUse(f"{where}: the column {', '.join(map(repr, twice))} is there twice")
    return kept


def _module(kind: str) -> _Module:
    return cast(_Module, importlib.import_module(f"{__name__}.{_MODULES[kind]}"))
