"""What the workers show each other: a note of each, and whether it serves. Files in memory that no folder knows.

The files are inherited from the parent, so they work where no folder may be written, outlive the worker that wrote
them, and are read without asking it: a worker that hangs keeps nobody waiting.

A note is written to the two halves of its file in turn, with its number and a checksum in front, so that the one before
is whole while one is written, and after its writer was killed meanwhile.
"""

import os
import struct
import tempfile
import zlib
from multiprocessing import reduction
from typing import Any

_HEAD = struct.Struct("<QQI")  # number, bytes, CRC-32
_HALF_BYTES = 1 << 30  # sparse: only what was written takes memory
_TRIES = 3


class Board:
    """One place for each worker, by its number. Goes to a spawned process as it is; nowhere else.

    Args:
        places: How many workers there are.
    """

    def __init__(self, places: int) -> None:
        self.places = places
        self._notes = [_file_in_memory(f"zto-note-{place}") for place in range(places)]
        self._serving = _file_in_memory("zto-serving")
        os.pwrite(self._serving, bytes(places), 0)

    def __getstate__(self) -> dict[str, Any]:
        return {
            "places": self.places,
            "notes": [reduction.DupFd(note) for note in self._notes],
            "serving": reduction.DupFd(self._serving),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.places = state["places"]
        self._notes = [note.detach() for note in state["notes"]]
        self._serving = state["serving"].detach()

    def post(self, place: int, note: bytes) -> None:
        """Put up a note in place of the last. Only one process may write to a place at a time.

        Raises:
            OSError: There is no memory for it.
        """
        number = 1 + max(self._head(place, half)[0] for half in (0, 1))
        head = _HEAD.pack(number, len(note), _checksum(number, note))
        written = os.pwrite(self._notes[place], head + note, number % 2 * _HALF_BYTES)
        if written < _HEAD.size + len(note):
            raise OSError(f"only {written} bytes of a note of {len(note)} were written")

    def read(self, place: int) -> bytes:
        """Return the last whole note of a place; nothing where there was none yet."""
        for _ in range(_TRIES):  # its writer may just have begun the next
            halves = sorted(((self._head(place, half), half) for half in (0, 1)), reverse=True)
            for (number, length, checksum), half in halves:
                note = os.pread(self._notes[place], length, half * _HALF_BYTES + _HEAD.size) if number else b""
                if len(note) == length and _checksum(number, note) == checksum:
                    return note
        return b""

    def mark(self, place: int, *, is_serving: bool) -> None:
        """Tell whether the worker of a place takes requests, its models loaded."""
        os.pwrite(self._serving, bytes([is_serving]), place)

    def serving(self) -> tuple[bool, ...]:
        """Return which do."""
        return tuple(map(bool, os.pread(self._serving, self.places, 0)))

    def close(self) -> None:
        """Let go of the files."""
        for file in (*self._notes, self._serving):
            os.close(file)

    def _head(self, place: int, half: int) -> tuple[int, int, int]:
        head = os.pread(self._notes[place], _HEAD.size, half * _HALF_BYTES)
        return _HEAD.unpack(head) if len(head) == _HEAD.size else (0, 0, 0)


def _checksum(number: int, note: bytes) -> int:
    """Of the number too, or an old note would pass for the next one whose number alone was written."""
    return zlib.crc32(note, number & 0xFFFFFFFF)


def _file_in_memory(name: str) -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name)
    with tempfile.TemporaryFile() as file:  # systems other than Linux
        return os.dup(file.fileno())
