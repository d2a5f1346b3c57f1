"""How many bytes the bodies hold that are on their way in, all together: each adds what it takes, and gives it back."""

import threading
from types import TracebackType
from typing import Self

from app.errors import DeadlineExceeded, Limit, Overloaded

RETRY_AFTER_S = 1.0


class Incoming:
    """The bytes of all bodies on their way. Safe to use from any thread.

    Args:
        limit_bytes: That they may have together.

    Attributes:
        held_bytes: That they have now.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self.lock = threading.Lock()

    def share(self) -> "Share":
        """Return the account of one body, which is closed by leaving its ``with``."""
        return Share(self)


class Share:
    """What one body holds of them.

    Attributes:
        size: Bytes.
    """

    __slots__ = ("_incoming", "_is_closed", "size")

    def __init__(self, incoming: Incoming) -> None:
        self._incoming = incoming
        self._is_closed = False
        self.size = 0

    def add(self, num_bytes: int) -> None:
        """Take some more.

        Raises:
            Overloaded: All bodies together have too many; this one has them until it is closed.
            DeadlineExceeded: It is closed: whoever wanted the body waits no longer, and nobody is to go on with it.
        """
        incoming = self._incoming
        with incoming.lock:
            if self._is_closed:
                raise DeadlineExceeded("nobody waits for the body any more")
            self.size += num_bytes
            incoming.held_bytes += num_bytes
            if incoming.held_bytes > incoming.limit_bytes:
                raise Overloaded(
                    "too many large bodies are on their way",
                    retry_after_s=RETRY_AFTER_S,
                    limit=Limit("max_incoming_bytes", incoming.limit_bytes),
                )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Give everything back."""
        incoming = self._incoming
        with incoming.lock:
            self._is_closed = True
            incoming.held_bytes -= self.size
            self.size = 0
