"""Calls of a backend, seen from outside: which one is under way, since one that hangs tells nothing itself."""

from app.backends import Backend
from app.tensors import Tensors


class Calls:
    """Passes calls on to a backend, one at a time, from whichever thread.

    Args:
        backend: Who is called.

    Attributes:
        number: Of the last call that has begun, from 1.
        is_under_way: Whether it has not returned.
    """

    __slots__ = ("_backend", "_run", "is_under_way", "number")

    def __init__(self, backend: Backend) -> None:
        self._run = backend.run  # looked up once: it is called for every batch
        self._backend = backend
        self.number = 0
        self.is_under_way = False

    def __call__(self, inputs: Tensors) -> Tensors:
        """Call it; see :meth:`app.backends.Backend.run`."""
        self.number += 1
        self.is_under_way = True
        try:
            return self._run(inputs)
        finally:
            self.is_under_way = False

    def settle(self, row: Tensors) -> None:
        """Have it give memory back; see :meth:`app.backends.Backend.settle`."""
        self.number += 1
        self.is_under_way = True
        try:
            self._backend.settle(row)
        finally:
            self.is_under_way = False
