"""CSV: a head with the names of the columns, then a row a record; RFC 4180, UTF-8 with or without a byte order mark."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.errors import BodyTooLarge
from app.predict.errors import BadUse
from app.predict.fields import Files, expect_columns, from_cells
from app.predict.rows import MAX_QUOTED_CHARS, Chunk, Row, Unreadable
from app.predict.sources import Reading, closed_on_error, expect_utf8, file_identity, kept_columns
from app.predict.sources.lines import BOM, Lines
from app.tasks import Task

identity = file_identity


@dataclass(slots=True)
class _Record:
    line: int
    cells: Sequence[str]
    text: str
    fault: Unreadable | None = None


class _RecordTooLong(Exception):
    pass


class CsvRows:
    """An open file; see :class:`app.predict.sources.Source`."""

    unit = "B"

    def __init__(self, path: Path, reading: Reading) -> None:
        self._path = path
        self._reading = reading
        self._files = Files(path.parent, reading.max_row_bytes)
        self._delimiter = reading.delimiter or ("\t" if path.suffix.lower() == ".tsv" else ",")
        try:
            self._file = path.open("rb")
            head = self._file.read(64 * 1024)
        except OSError as exc:
            raise BadUse(f"{path} cannot be read: {exc.strerror or exc}") from exc
        with closed_on_error(self._file):
            self._read_head(head)

    def _read_head(self, head: bytes) -> None:
        path, reading = self._path, self._reading
        expect_utf8(path, head)
        csv.field_size_limit(max(reading.max_row_bytes, 1024))
        # the head is a record as the others are
        self._lines = Lines(path, len(BOM) if head.startswith(BOM) else 0, 1, reading.max_row_bytes + 1)
        first = next(self._records(), None)
        if first is None:
            raise BadUse(f"{path} is empty: a CSV file begins with the names of its columns")
        if first.fault is not None:
            raise BadUse(f"{path}, line 1: {first.fault.message}")
        self._columns = [cell.strip() for cell in first.cells]
        self._start = {"byte": self._lines.byte, "line": self._lines.line, "row": 0}
        where = f"{path}, line 1"
        expect_columns(reading.fields, self._columns, where)
        self.keep = kept_columns(reading, self._columns, where)
        self._places = [
            self._columns.index(field.column) if field.column in self._columns else None for field in reading.fields
        ]
        self._kept_places = [self._columns.index(name) for name in self.keep]
        self._id_place = None if reading.id_column is None else self._columns.index(reading.id_column)
        self.has_ids = self._id_place is not None
        self.total = path.stat().st_size

    def chunks(self, position: Mapping[str, int]) -> Iterator[Chunk]:
        """Yield chunks; see :class:`app.predict.sources.Source`."""
        position = position or self._start
        self._lines = lines = Lines(
            self._path, position["byte"], position["line"], self._reading.max_row_bytes + 1
        )  # fmt: skip
        row = position["row"]
        found: list[_Record] = []
        begin = lines.byte
        for record in self._records():
            found.append(record)
            if len(found) == self._reading.chunk_rows or lines.byte - begin >= self._reading.chunk_bytes:
                yield self._chunk(row, found)
                row, found, begin = row + len(found), [], lines.byte
        if found:
            yield self._chunk(row, found)

    def _chunk(self, row: int, found: list[_Record]) -> Chunk:
        lines = self._lines
        end = {"byte": lines.byte, "line": lines.line, "row": row + len(found)}
        return Chunk(first_row=row, num_rows=len(found), end=end, done=lines.byte, content=found)

    def _records(self) -> Iterator[_Record]:
        """Yield records; one that cannot be read is yielded with its fault, and the next begins with the next line."""
        lines, raw = self._lines, self._lines.read(self._file)
        taken: list[bytes] = []
        most = self._reading.max_row_bytes

        def texts() -> Iterator[str]:
            size = 0
            for line in raw:
                if not taken:
                    size = 0
                taken.append(line)
                size += len(line)
                if size > most:
                    raise _RecordTooLong
                yield line.decode(errors="replace")

        while True:
            reader = csv.reader(texts(), delimiter=self._delimiter)
            try:
                for cells in reader:
                    record = _record(lines.line - len(taken), cells, taken)
                    taken.clear()
                    if record is not None:
                        yield record
                return
            except _RecordTooLong:
                fault = Unreadable(
                    BodyTooLarge.code,
                    f"the row that begins in line {lines.line - len(taken)} is longer than {most} bytes; a quote may "
                    "have been left open there",
                )
            except csv.Error as exc:
                fault = Unreadable("malformed_row", f"line {lines.line - len(taken)}: {exc}")
            yield _Record(lines.line - len(taken), (), "", fault)
            taken.clear()

    def rows(self, chunk: Chunk, task: Task) -> list[Row]:
        """Return the records; see :class:`app.predict.sources.Source`."""
        return [self._row(record) for record in chunk.content]

    def _row(self, record: _Record) -> Row:
        cells, width = record.cells, len(self._columns)
        if record.fault is None and len(cells) != width:
            fault = Unreadable(
                "wrong_width", f"line {record.line} has {len(cells)} cells, and the head has {width} columns"
            )
            return Row(fault, record.line, self._id(cells), (), record.text)
        if record.fault is not None:
            return Row(record.fault, record.line, self._id(cells), (), record.text or None)
        question = from_cells(self._reading.fields, self._places, cells, self._files)
        if isinstance(question, Unreadable):
            question = Unreadable(question.code, f"line {record.line}: {question.message}")
        kept = [cells[place] for place in self._kept_places]
        return Row(question, record.line, self._id(cells), kept, record.text)

    def _id(self, cells: Sequence[str]) -> str | None:
        return cells[self._id_place] if self._id_place is not None and self._id_place < len(cells) else None

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def open_source(path: Path, reading: Reading) -> CsvRows:
    """Open a file; see :func:`app.predict.sources.open_source`."""
    return CsvRows(path, reading)


def _record(line: int, cells: Sequence[str], taken: list[bytes]) -> _Record | None:
    """Return a record, with its fault where its bytes are no UTF-8; None for an empty line."""
    if not cells:
        return None
    raw = taken[0] if len(taken) == 1 else b"".join(taken)
    text = ""
    fault = None
    if len(raw) <= 4 * MAX_QUOTED_CHARS:
        text = raw.decode(errors="replace").rstrip("\r\n")
    if not raw.isascii():
        try:
            raw.decode()
        except UnicodeDecodeError as exc:
            before = raw[: exc.start]
            number, column = line + before.count(b"\n"), exc.start - (before.rfind(b"\n") + 1) + 1
            fault = Unreadable("not_utf8", f"line {number}, byte {column} is not UTF-8: {exc.reason}")
    return _Record(line, cells, text, fault)
