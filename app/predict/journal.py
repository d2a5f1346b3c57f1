"""What has been done, so that the same command goes on where it stopped.

Beside the output lies a journal of JSON Lines. Its head says what is computed from what; each further line says how
far that is: where the next chunk begins in the input, how long the files are by then, and the CRC-32 of all that they
hold. Whoever resumes reads the files once, and goes back to the last line that they agree with. So nothing needs to
reach the disk in any order: not for a `kill -9`, and not for a power failure that cuts a file short or leaves zeros in
it.

The lock on the journal keeps a second process away from the same output; it goes with the process that held it.
"""

import fcntl
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from app.predict.errors import BadUse

SCHEMA_VERSION = 1
# what every journal begins with, as far as it goes
_BEGINNING = b'{"schema_version": '
_READ_BYTES = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far it is.

    Attributes:
        position: Where the next chunk begins; empty for the beginning.
        rows: That have been read.
        rejected: Of these.
        files: Length and CRC-32 of each file.
        is_whole: Whether the input is at its end.
    """

    position: Mapping[str, int] = field(default_factory=dict)
    rows: int = 0
    rejected: int = 0
    files: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    is_whole: bool = False


class Growing:
    """A file that only grows.

    Attributes:
        size: In bytes.
        crc: CRC-32 of all of it.
    """

    def __init__(self, path: Path, size: int, crc: int) -> None:
        self.size, self.crc = size, crc
        self._file: IO[bytes] = path.open("ab", buffering=0)
        self._file.truncate(size)

    def write(self, data: bytes) -> None:
        """Append."""
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        self.size += len(data)
        self.crc = zlib.crc32(data, self.crc)

    def sync(self) -> None:
        """Wait until the disk has it."""
        os.fsync(self._file.fileno())

    @staticmethod
    def sync_file(file: IO[bytes]) -> None:
        """Wait until the disk has any open file."""
        os.fsync(file.fileno())

    def close(self) -> None:
        """Close it."""
        self._file.close()


class Journal:
    """The journal of one output.

    Args:
        path: Of the journal.

    Raises:
        BadUse: Another process is at work on the same output, or the folder cannot be written to.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = path.open("a+b", buffering=0)
        except OSError as exc:
            raise BadUse(f"{path} cannot be written: {exc.strerror or exc}") from exc
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            self._file.close()
            raise BadUse(f"another process is writing the same output ({path} is locked)") from exc
        self._ends: list[tuple[Progress, int]] = []
        self._file.seek(0)
        begins = self._file.read(len(_BEGINNING))
        # a power failure may leave zeros
        if begins.strip(b"\0") and not _BEGINNING.startswith(begins):
            self._file.close()
            raise BadUse(f"{path} is there, and is no checkpoint; move it away, or name another output")
        self._lines()

    @contextmanager
    def unless_empty(self) -> Iterator[None]:
        """Remove the journal in the end, where nothing was begun."""
        try:
            yield
        finally:
            if self.head is None:
                self.remove()

    @property
    def last(self) -> Progress | None:
        """What the last whole line says, whether the files agree or not; None where there is none."""
        return self._ends[-1][0] if self._ends else None

    def _lines(self) -> None:
        """Read all whole lines; what was torn off in the middle of one is as if it were not there."""
        self._file.seek(0)
        self.head: dict[str, Any] | None = None
        self._head_end = end = 0
        for line in self._file.read().splitlines(keepends=True):
            end += len(line)
            try:
                document = json.loads(line) if line.endswith(b"\n") else None
                if self.head is None:
                    if not isinstance(document, dict) or document["schema_version"] != SCHEMA_VERSION:
                        return
                    self.head, self._head_end = document, end
                elif isinstance(document, dict):
                    files = {name: (int(size), int(crc)) for name, (size, crc) in document.pop("files").items()}
                    self._ends.append((Progress(files=files, **document), end))
                else:
                    return
            except (ValueError, KeyError, TypeError):
                return

    def begin(self, head: Mapping[str, Any]) -> None:
        """Forget what was there, and write the head."""
        self._file.truncate(0)
        self._append({"schema_version": SCHEMA_VERSION, **head})
        self.head, self._ends, self._head_end = dict(head), [], self._file.tell()
        self.sync()

    def agree(self, paths: Mapping[str, Path]) -> Progress:
        """Return the last progress that the files agree with, and forget those behind it.

        Args:
            paths: Of the files, by the names that lines have for them.
        """
        agreed = {name: _agreeing(path, [p.files[name] for p, _ in self._ends]) for name, path in paths.items()}
        kept = min(agreed.values(), default=0)
        end = self._ends[kept - 1][1] if kept else self._head_end
        self._ends = self._ends[:kept]
        self._file.truncate(end)
        return self._ends[-1][0] if self._ends else Progress()

    def add(self, progress: Progress) -> None:
        """Note how far it is."""
        self._append(asdict(progress))

    def sync(self) -> None:
        """Wait until the disk has it."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Give the lock back."""
        self._file.close()

    def remove(self) -> None:
        """Remove it while it is still locked."""
        self._path.unlink(missing_ok=True)
        self.close()

    def _append(self, document: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(document).encode() + b"\n")


def _agreeing(path: Path, marks: list[tuple[int, int]]) -> int:
    """Return how many of the marks, whose sizes never fall, a file agrees with."""
    crc, size = 0, 0
    try:
        with path.open("rb") as file:
            for count, (wanted, expected) in enumerate(marks):
                while size < wanted:
                    data = file.read(min(_READ_BYTES, wanted - size))
                    if not data:
                        return count
                    crc, size = zlib.crc32(data, crc), size + len(data)
                if crc != expected:
                    return count
    except FileNotFoundError:
        return sum(wanted == 0 for wanted, _ in marks)
    return len(marks)
