"""The pulse of a worker: its parent asks, and its event loop answers for as long as it turns.

How long a worker is silent is counted in the parent's own looks, half a second apart at least, and not on a clock: on
a machine that stalls, or was suspended, the parent looks no more often than the worker could have answered. Nor does a
look count at which the worker was about to run, or waited for a disk, and had hardly been let: a crowded machine is not
a hung worker.

With its answer a worker tells how long it may be silent from then on: longer while it loads, since imports hold the
loop up, and where a batch of its own takes long.
"""

import contextlib
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

LOOK_S = 0.5
# whatever the machine does, a worker that was silent at so many seconds' looks is given up
MOST_EXCUSED_S = 60.0
_PING = b"?"
_MOST_BYTES = 4096
# less of a processor than this, and the worker that wanted one was not let
_STARVED_SHARE = 0.1
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Answer(TypedDict):
    """What a worker tells with each answer.

    Attributes:
        patience_s: How long it may be silent before it is given up.
        wants_out: Why it asks to be replaced; empty where it does not.
    """

    patience_s: float
    wants_out: str


class Effort(NamedTuple):
    """What a process does, and has done.

    Attributes:
        wants: Whether its main thread is about to run or waits for a disk.
        computed_s: Processor time of its main thread.
    """

    wants: bool
    computed_s: float


class Pulse:
    """One worker's, seen from the parent.

    Args:
        channel: The parent's end; it is closed by :meth:`close`.
        patience_s: How long a worker may be silent that has never answered.
        effort: Tells what the worker's process does; None where the system does not tell.

    Attributes:
        has_answered: Whether it ever has.
        silent_s: For how long it has owed an answer, in looks.
        patience_s: For how long it may.
        wants_out: Why it asks to be replaced; empty where it does not.
    """

    def __init__(self, channel: socket.socket, *, patience_s: float, effort: Callable[[], Effort | None]) -> None:
        self._channel = channel
        self._channel.setblocking(False)
        self._effort = effort
        self._last_effort: Effort | None = None
        self._is_asked = False
        self._looked_at = float("-inf")
        self._excused_s = 0.0
        self.has_answered = False
        self.silent_s = 0.0
        self.patience_s = patience_s
        self.wants_out = ""

    @property
    def has_stopped(self) -> bool:
        """Whether the worker has been silent for longer than it may."""
        return self.silent_s >= self.patience_s or self.silent_s + self._excused_s >= self.patience_s + MOST_EXCUSED_S

    def fileno(self) -> int:
        """Of the channel, for whoever waits for an answer."""
        return self._channel.fileno()

    def look(self, now: float) -> None:
        """Hear what was answered, ask again, or count the silence; does nothing where the last look was just now."""
        self._hear()
        if now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        effort = self._effort()
        if not self._is_asked:
            self._ask()
        elif self._was_starved(effort):
            self._excused_s += LOOK_S
        else:
            self.silent_s += LOOK_S
        self._last_effort = effort

    def close(self) -> None:
        """Let go of the channel."""
        self._channel.close()

    def _hear(self) -> None:
        with contextlib.suppress(OSError):  # nothing there, or nobody any more
            while answer := self._channel.recv(_MOST_BYTES):
                told: Answer = json.loads(answer)
                self.patience_s, self.wants_out = told["patience_s"], told["wants_out"]
                self.has_answered, self._is_asked = True, False
                self.silent_s = self._excused_s = 0.0

    def _ask(self) -> None:
        with contextlib.suppress(OSError):  # it has ended, which is noticed otherwise
            self._channel.send(_PING)
            self._is_asked = True

    def _was_starved(self, effort: Effort | None) -> bool:
        if effort is None or self._last_effort is None or not effort.wants:
            return False
        return effort.computed_s - self._last_effort.computed_s < _STARVED_SHARE * LOOK_S


def effort_of(pid: int) -> Effort | None:
    """Return what a process does, from ``/proc``; None where there is none. See ``proc_pid_stat(5)``."""
    try:
        fields = Path(f"/proc/{pid}/task/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return Effort(fields[0] in "RD", (int(fields[11]) + int(fields[12])) / _TICKS_PER_S)


def answer(channel: socket.socket, told: dict[str, Any] | Answer) -> None:
    """Answer, on the worker's side, whatever was asked; also unasked, to tell that it has begun."""
    with contextlib.suppress(OSError):  # the parent is stopped, or no more
        channel.send(json.dumps(told).encode(), socket.MSG_DONTWAIT)


def hear(channel: socket.socket) -> bool:
    """Take what the parent asks off the channel, on the worker's side; return whether it did."""
    is_asked = False
    with contextlib.suppress(OSError):
        while channel.recv(_MOST_BYTES, socket.MSG_DONTWAIT):
            is_asked = True
    return is_asked
