"""JSON Lines: an instance a line, exactly as it would stand in ``instances``."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from app.errors import BodyTooLarge, RequestError
from app.predict.errors import BadUse
from app.predict.rows import MAX_QUOTED_CHARS, Chunk, Instance, JsonText, Question, Row, Unreadable
from app.predict.sources import Reading, closed_on_error, expect_utf8, file_identity
from app.predict.sources.lines import BOM, Lines
from app.tasks import Task
from app.tasks.decoding.strict_json import parse_json

identity = file_identity


class JsonLines:
    """An open file; see :class:`app.predict.sources.Source`."""

    unit = "B"

    def __init__(self, path: Path, reading: Reading) -> None:
        self._path = path
        self._reading = reading
        try:
            self._file = path.open("rb")
            head = self._file.read(1024)
        except OSError as exc:
            raise BadUse(f"{path} cannot be read: {exc.strerror or exc}") from exc
        with closed_on_error(self._file):
            expect_utf8(path, head)
            if reading.keep == ("all",):
                raise BadUse("of JSON Lines the members to keep are named one by one: --keep a,b")
        self._start = len(BOM) if head.startswith(BOM) else 0
        self.total = path.stat().st_size
        self.keep = reading.keep
        self.has_ids = reading.id_column is not None

    def chunks(self, position: Mapping[str, int]) -> Iterator[Chunk]:
        """Yield chunks; see :class:`app.predict.sources.Source`."""
        reading = self._reading
        # one byte more than may be: then a line is too long
        lines = Lines(self._path, position.get("byte", self._start), position.get("line", 1), reading.max_row_bytes + 1)
        row = position.get("row", 0)
        found: list[tuple[int, bytes]] = []
        size = 0
        for line in lines.read(self._file):
            if not line.isspace():
                found.append((lines.line - 1, line))
                size += len(line)
            if len(found) == reading.chunk_rows or size >= reading.chunk_bytes:
                yield self._chunk(row, found, lines)
                row, found, size = row + len(found), [], 0
        if found:
            yield self._chunk(row, found, lines)

    def _chunk(self, row: int, found: list[tuple[int, bytes]], lines: Lines) -> Chunk:
        end = {"byte": lines.byte, "line": lines.line, "row": row + len(found)}
        return Chunk(first_row=row, num_rows=len(found), end=end, done=lines.byte, content=found)

    def rows(self, chunk: Chunk, task: Task) -> list[Row]:
        """Return the lines; see :class:`app.predict.sources.Source`."""
        return [self._row(number, line, task) for number, line in chunk.content]

    def _row(self, number: int, line: bytes, task: Task) -> Row:
        if len(line) > self._reading.max_row_bytes:
            error = BodyTooLarge(self._reading.max_row_bytes)
            return Row(Unreadable(error.code, f"the line is longer than {self._reading.max_row_bytes} bytes"), number)
        line = line.rstrip(b"\r\n")
        text = line.decode(errors="replace") if len(line) <= 4 * MAX_QUOTED_CHARS else None
        question: Question = JsonText(line)
        id_: Any = None
        kept: list[Any] = []
        if self.has_ids or self.keep:
            question, id_, kept = self._without_own(line, task)
        return Row(question, number, id_, kept, text)

    def _without_own(self, line: bytes, task: Task) -> tuple[Question, Any, list[Any]]:
        """Part an instance from the members that are the caller's own."""
        try:
            document = parse_json(line, task.json_limits)
        except RequestError:
            return JsonText(line), None, [None] * len(self.keep)  # the task says why
        if not isinstance(document, dict):
            return Instance(document), None, [None] * len(self.keep)
        kept = [document.get(name) for name in self.keep]
        id_ = document.get(self._reading.id_column) if self._reading.id_column else None
        own = {*self.keep, self._reading.id_column} - {field.path[0] for field in self._reading.fields}
        return Instance({name: value for name, value in document.items() if name not in own}), id_, kept

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def open_source(path: Path, reading: Reading) -> JsonLines:
    """Open a file; see :func:`app.predict.sources.open_source`."""
    return JsonLines(path, reading)
