"""Where a worker stands; light, since the parent that hands it out imports nothing of what serves."""

import os
import select
import socket
from dataclasses import dataclass

from app.workers.board import Board

# beyond draining and finishing: stopping to open, lingering, cutting, and leaving where a runtime hangs
END_S = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a worker stands among the others.

    Attributes:
        number: Of the worker, on the board and among the listeners.
        board: Shared by all.
        listeners: The socket of each worker.
        pulse: Where the parent asks whether the event loop turns, see :mod:`app.workers.pulse`.
        lifeline: A pipe that comes to its end when the whole service ends, and when the parent is no more.
        is_first: Whether none has stood here before.
    """

    number: int
    board: Board
    listeners: list[socket.socket]
    pulse: socket.socket
    lifeline: int
    is_first: bool = True

    @property
    def service_ends(self) -> bool:
        """Whether the whole service ends."""
        return bool(select.select([self.lifeline], [], [], 0)[0])  # it carries nothing, so only its end can be read

    def close(self) -> None:
        """Let go of all that the worker was given."""
        for sock in (*self.listeners, self.pulse):
            sock.close()
        os.close(self.lifeline)
