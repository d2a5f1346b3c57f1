"""Where the lines of the log go out: stderr, whose reader may be slow, or gone, and must stop nobody.

Whoever writes to a pipe that nobody empties waits for ever; on the event loop that would be the whole service. So a
line is written only where there is room for it, after a short patience at most, and what finds none is dropped and
counted. To a pipe, no more than ``PIPE_BUF`` bytes are written at once: they stay together, whatever other processes
write to it (pipe(7)). A regular file is simply written.
"""

import contextlib
import os
import select
import stat
from collections.abc import Callable, Iterable, Iterator

_PIPE_BUF = getattr(select, "PIPE_BUF", 512)


class Outlet:
    """Writes lines to a file descriptor that others may write to as well.

    Args:
        file: The descriptor; it stays open.
        on_drop: Told how many lines were dropped.

    Attributes:
        on_drop: As above.
    """

    def __init__(self, file: int, on_drop: Callable[[int], None] = lambda lines: None) -> None:
        self.on_drop = on_drop
        self._file = file
        self._own: int | None = None
        self._is_jammed = False
        self._is_torn = False  # the last line has come half, and the next would stand behind it
        try:
            mode = os.fstat(file).st_mode
        except OSError:  # closed: whatever is written is dropped
            mode = 0
        self._is_regular = stat.S_ISREG(mode)
        if stat.S_ISFIFO(mode):
            # An open file of its own for the same pipe, since not to wait is a property of that, and the one of stderr
            # is shared with others. Where this is not allowed, select() is asked before each write.
            with contextlib.suppress(OSError):
                self._file = self._own = os.open(f"/proc/self/fd/{file}", os.O_WRONLY | os.O_NONBLOCK)

    def write(self, lines: Iterable[bytes], *, patience_s: float = 0.0) -> None:
        """Write lines, each with its end; never raises.

        Args:
            lines: In their order.
            patience_s: How long to wait for room, once; no longer at all where the last write has found none.
        """
        for piece, count in _pieces(lines, None if self._is_regular else _PIPE_BUF):
            if self._write(piece, 0.0 if self._is_jammed else patience_s):
                self._is_jammed = False
            else:
                self._is_jammed = True
                self.on_drop(count)

    def close(self) -> None:
        """Let go of what was opened here; what comes late is dropped."""
        own, self._own = self._own, None
        if own is not None:
            self._file = -1  # the number may soon be somebody else's
            os.close(own)

    def _write(self, piece: bytes, patience_s: float) -> bool:
        """Write the whole of a piece, on a line of its own; return whether it could be."""
        for part in (b"\n", piece) if self._is_torn else (piece,):
            rest = memoryview(part)
            # an error: nobody reads any more, the disk is full, or another writer took the room
            with contextlib.suppress(OSError):
                while rest and (self._is_regular or self._has_room(patience_s)):
                    rest = rest[os.write(self._file, rest) :]
            if len(rest) < len(part):
                self._is_torn = bool(rest)
            if rest:
                return False
        return True

    def _has_room(self, patience_s: float) -> bool:
        if self._file < 0:
            return False
        asked = select.poll()
        asked.register(self._file, select.POLLOUT)
        return any(event & select.POLLOUT for _, event in asked.poll(patience_s * 1e3))


def _pieces(lines: Iterable[bytes], most_bytes: int | None) -> Iterator[tuple[bytes, int]]:
    """Yield lines joined to pieces of at most so many bytes, or one longer line; and how many lines each has."""
    held: list[bytes] = []
    size = 0
    for line in lines:
        if held and most_bytes is not None and size + len(line) > most_bytes:
            yield b"".join(held), len(held)
            held, size = [], 0
        held.append(line)
        size += len(line)
    if held:
        yield b"".join(held), len(held)
