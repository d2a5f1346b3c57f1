"""What the workers show each other, and what all of them are to come to. Files in memory that no folder knows.

The files are inherited from the parent, so they work where no folder may be written, outlive the worker that wrote
them, and are read without asking it: a worker that hangs keeps nobody waiting.

A note is written to the two halves of its file in turn, with its number and a checksum in front, so that the one before
is whole while one is written, and after its writer was killed meanwhile.
"""

import fcntl
import os
import struct
import tempfile
import zlib
from collections.abc import Callable
from multiprocessing import reduction
from typing import Any

from app.access.rates import Table

_HEAD = struct.Struct("<QQI")  # number, bytes, CRC-32
_HALF_BYTES = 1 << 30  # sparse: only what was written takes memory
_TRIES = 3


class _Note:
    """One note, in a file of its own."""

    def __init__(self, file: int) -> None:
        self.file = file

    def post(self, text: bytes) -> None:
        number = 1 + max(self._head(half)[0] for half in (0, 1))
        head = _HEAD.pack(number, len(text), _checksum(number, text))
        written = os.pwrite(self.file, head + text, number % 2 * _HALF_BYTES)
        if written < _HEAD.size + len(text):
            raise OSError(f"only {written} bytes of a note of {len(text)} were written")

    def read(self) -> bytes:
        for _ in range(_TRIES):  # its writer may just have begun the next
            halves = sorted(((self._head(half), half) for half in (0, 1)), reverse=True)
            for (number, length, checksum), half in halves:
                text = os.pread(self.file, length, half * _HALF_BYTES + _HEAD.size) if number else b""
                if len(text) == length and _checksum(number, text) == checksum:
                    return text
        return b""

    def _head(self, half: int) -> tuple[int, int, int]:
        head = os.pread(self.file, _HEAD.size, half * _HALF_BYTES)
        return _HEAD.unpack(head) if len(head) == _HEAD.size else (0, 0, 0)


class Board:
    """One place for each worker, by its number. Goes to a spawned process as it is; nowhere else.

    Args:
        places: How many workers there are.

    Attributes:
        rates: The file in which all of them count requests, for :class:`app.access.rates.Table`.
    """

    def __init__(self, places: int) -> None:
        self.places = places
        self._notes = [_Note(_file_in_memory(f"zto-note-{place}")) for place in range(places)]
        self._reports = [_Note(_file_in_memory(f"zto-report-{place}")) for place in range(places)]
        self._wishes = _Note(_file_in_memory("zto-wishes"))
        self.rates = _file_in_memory("zto-rates")
        Table.prepare(self.rates)
        self._serving = _file_in_memory("zto-serving")
        os.pwrite(self._serving, bytes(places + 1), 0)  # the last is of all

    def __getstate__(self) -> dict[str, Any]:
        return {
            "places": self.places,
            "notes": [reduction.DupFd(note.file) for note in self._notes],
            "reports": [reduction.DupFd(note.file) for note in self._reports],
            "wishes": reduction.DupFd(self._wishes.file),
            "rates": reduction.DupFd(self.rates),
            "serving": reduction.DupFd(self._serving),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.places = state["places"]
        self._notes = [_Note(note.detach()) for note in state["notes"]]
        self._reports = [_Note(note.detach()) for note in state["reports"]]
        self._wishes = _Note(state["wishes"].detach())
        self.rates = state["rates"].detach()
        self._serving = state["serving"].detach()

    def post(self, place: int, note: bytes) -> None:
        """Put up a note in place of the last. Only one process may write to a place at a time.

        Raises:
            OSError: There is no memory for it.
        """
        self._notes[place].post(note)

    def read(self, place: int) -> bytes:
        """Return the last whole note of a place; nothing where there was none yet."""
        return self._notes[place].read()

    def report(self, place: int, text: bytes) -> None:
        """Put up how far the worker of a place has come with what is wished, in place of the last.

        Raises:
            OSError: There is no memory for it.
        """
        self._reports[place].post(text)

    def reported(self, place: int) -> bytes:
        """Return the last whole report of a place; nothing where there was none yet."""
        return self._reports[place].read()

    def wishes(self) -> bytes:
        """Return what all workers are to come to; nothing where nothing was wished yet."""
        return self._wishes.read()

    def wish(self, change: Callable[[bytes], bytes]) -> None:
        """Change what all workers are to come to, one worker at a time.

        Whoever is killed meanwhile leaves it as it was: the lock goes with its process, and what it has half written is
        not read.

        Args:
            change: Makes the new text of the old one.

        Raises:
            BlockingIOError: Another worker is at it; it will not take long.
            OSError: There is no memory for it.
        """
        fcntl.lockf(self._wishes.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            self._wishes.post(change(self._wishes.read()))
        finally:
            fcntl.lockf(self._wishes.file, fcntl.LOCK_UN)

    def mark(self, place: int, *, is_serving: bool) -> None:
        """Tell whether the worker of a place takes requests, its models loaded."""
        os.pwrite(self._serving, bytes([is_serving]), place)
        if is_serving:
            self.note_served()

    def serving(self) -> tuple[bool, ...]:
        """Return which do."""
        return tuple(map(bool, os.pread(self._serving, self.places, 0)))

    def note_served(self) -> None:
        """Tell that a worker was ready: from now on whoever ends is replaced."""
        os.pwrite(self._serving, b"\1", self.places)

    @property
    def has_served(self) -> bool:
        """Whether any worker ever was ready."""
        return os.pread(self._serving, 1, self.places) == b"\1"

    def close(self) -> None:
        """Let go of the files."""
        for note in (*self._notes, *self._reports, self._wishes):
            os.close(note.file)
        os.close(self.rates)
        os.close(self._serving)


def _checksum(number: int, note: bytes) -> int:
    """Of the number too, or an old note would pass for the next one whose number alone was written."""
    return zlib.crc32(note, number & 0xFFFFFFFF)


def _file_in_memory(name: str) -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name)
    with tempfile.TemporaryFile() as file:  # systems other than Linux
        return os.dup(file.fileno())
