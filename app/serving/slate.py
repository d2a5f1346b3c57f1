"""Where workers write what all of them are to come to, and how far each has come."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import orjson
from pydantic import BaseModel, ConfigDict

from app.serving.state import Desired


class Slate(Protocol):
    """Where workers write what the others are to read; see :class:`app.workers.board.Board`."""

    def wishes(self) -> bytes:
        """Return what all workers are to come to; nothing where nothing was wished yet."""
        ...

    def wish(self, change: Callable[[bytes], bytes]) -> None:
        """Change what all workers are to come to; raises :class:`BlockingIOError` while another worker does."""
        ...

    def report(self, place: int, text: bytes) -> None:
        """Put up how far the worker of a place has come."""
        ...

    def reported(self, place: int) -> bytes:
        """Return the last report of a place; nothing where there was none yet."""
        ...

    def serving(self) -> tuple[bool, ...]:
        """Return which workers take requests."""
        ...


class OwnSlate:
    """That of a process that serves alone; see :class:`Slate`."""

    def __init__(self) -> None:
        self._wishes = self._report = b""

    def wishes(self) -> bytes:
        """Return what is wished."""
        return self._wishes

    def wish(self, change: Callable[[bytes], bytes]) -> None:
        """Change what is wished."""
        self._wishes = change(self._wishes)

    def report(self, place: int, text: bytes) -> None:
        """Note how far this process has come."""
        del place
        self._report = text

    def reported(self, place: int) -> bytes:
        """Return the last report."""
        del place
        return self._report

    def serving(self) -> tuple[bool, ...]:
        """Return that this one serves."""
        return (True,)


class Command(BaseModel):
    """The last command to a model.

    Attributes:
        number: Rises with every command to any model.
        read_number: That of the last one for which the disk counts.
        desired: What is to be tried.
        settled: What has come out well, and a new worker begins with.
        is_done: Whether nobody has to bring it to its end any more.
        known: The versions that were there at the start, or when the disk was last read: one that has come since, and
            that no policy names, is none that a new worker may begin with.
        place: Of the worker that was asked.
        offered: What a look at the models folder had found there; see :mod:`app.serving.polling`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    read_number: int
    desired: Desired
    settled: Desired
    is_done: bool
    known: tuple[int, ...]
    place: int
    offered: str = ""


class Report(BaseModel):
    """How far one worker has come with a model.

    Attributes:
        number: Of the command that it has come to.
        ready: The versions that it serves.
        default: The one that answers where none is asked for; None where none does.
        error: What went wrong with that command; None where nothing did.
        trying: The command that it is at.
        tries: How often a worker at this place has been at that one. Whoever ends meanwhile leaves it to the next.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    ready: tuple[str, ...]
    default: int | None
    error: str | None
    trying: int = 0
    tries: int = 0


def parse(text: bytes) -> dict[str, Command]:
    """Return the commands on a slate, by model."""
    commands: dict[str, Any] = orjson.loads(text) if text else {}
    return {name: Command.model_validate(command) for name, command in commands.items()}


def dump(commands: Mapping[str, Command]) -> bytes:
    """Return commands as they stand on a slate."""
    return orjson.dumps({name: command.model_dump() for name, command in commands.items()})
