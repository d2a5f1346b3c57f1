"""Lines of a file and where they begin, one at a time, however long a line is."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from app.predict.errors import Stopped

BOM = b"\xef\xbb\xbf"
_SKIPPED_BYTES = 2**20


@dataclass(slots=True)
class Lines:
    """Where the next line begins.

    Attributes:
        path: Of the file.
        byte: Offset.
        line: Its number, counted from 1.
        most: Bytes of a line; of a longer one only the beginning is handed over, and it has no end of line.
    """

    path: Path
    byte: int
    line: int
    most: int

    def read(self, file: IO[bytes]) -> Iterator[bytes]:
        """Yield lines, each with its end; what is left of one that is too long is passed over.

        Raises:
            Stopped: The file cannot be read.
        """
        try:
            file.seek(self.byte)
            while line := file.readline(self.most):
                self.byte += len(line)
                self.line += 1
                if len(line) == self.most and not line.endswith(b"\n"):
                    self._pass_over(file)
                yield line
        except OSError as exc:
            raise Stopped(f"{self.path}, line {self.line}: {exc.strerror or exc}") from exc

    def _pass_over(self, file: IO[bytes]) -> None:
        while rest := file.readline(_SKIPPED_BYTES):
            self.byte += len(rest)
            if rest.endswith(b"\n"):
                return
