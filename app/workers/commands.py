"""Commands to load and unload models, where several workers serve: each has to hear of every one, and to say so.

What is wished stands on the board, which outlives every worker: of each model the last command, with a rising number.
A worker looks there several times a second, carries out what is new, and reports the number that it has come to. One
that starts, also in place of one that was killed, begins with what is wished. Whoever has asked waits until all workers
that serve have reported, so it does not matter which of them was asked, nor whether one ends meanwhile.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, TypedDict

import orjson

from app.errors import Overloaded, ServingError
from app.serving.repository import Reached, Repository, Wish
from app.workers.board import Board

logger = logging.getLogger("app.workers")

# between two looks at the reports of the others
_LOOK_S = 0.02
# to wish takes microseconds; who is kept from it for longer is kept by a process that is stopped
_TRIES, _TRY_AGAIN_S = 100, 0.02


class _Command(TypedDict):
    number: int
    wish: Wish


class _Report(TypedDict):
    number: int
    ready: list[str]
    error: str | None


class Commands:
    """One worker's part in them.

    Args:
        board: Shared by all.
        place: Of this worker.
        repository: Carries out commands in this worker.
    """

    def __init__(self, board: Board, place: int, repository: Repository) -> None:
        self._board = board
        self._place = place
        self._repository = repository
        self._read: bytes = b""
        self._commands: dict[str, _Command] = {}
        self._reports: dict[str, _Report] = {}
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._begun_with: dict[str, _Command] = {}

    def begin(self) -> None:
        """Start with what is wished: models that were unloaded are not loaded."""
        self._look()
        self._begun_with = dict(self._commands)
        self._repository.leave_out(name for name, command in self._commands.items() if command["wish"] == "unload")

    def begun(self) -> None:
        """Report what has come of it, once the models are loaded."""
        for name, command in self._begun_with.items():
            is_so = (command["wish"] == "load") == bool(self._repository.ready(name))
            error = None if is_so else "it was not ready when this worker had started; the index and the log say why"
            self._reports.setdefault(name, self._report_of(name, command["number"], error))
        self._report()

    def carry_on(self) -> None:
        """Begin what is new; called several times a second, once the worker has begun."""
        self._look()
        for name, command in self._commands.items():
            done = self._reports.get(name)
            if name not in self._under_way and (done is None or done["number"] < command["number"]):
                task = asyncio.get_running_loop().create_task(self._converge(name, command))
                self._under_way[name] = task

    async def carry_out(self, name: str, wish: Wish) -> Sequence[Reached]:
        """Have all workers carry out a command, and return how each of those that serve came out of it.

        Raises:
            Overloaded: A worker that is stopped keeps the others from wishing anything.
        """
        number = await self._wish(name, wish)
        self.carry_on()
        while True:
            reports = {place: self._reported(place, name) for place in self._places()}
            if all(report is not None and report["number"] >= number for report in reports.values()):
                break
            await asyncio.sleep(_LOOK_S)
        return tuple(
            Reached(worker=place, ready=tuple(report["ready"]), error=_told(report, number, wish))
            for place, report in reports.items()
            if report is not None
        )

    def _places(self) -> list[int]:
        """Return the workers whose reports count: those that serve, and this one; others begin with what is wished."""
        return [place for place, serves in enumerate(self._board.serving()) if serves or place == self._place]

    async def _wish(self, name: str, wish: Wish) -> int:
        number = 0

        def add(text: bytes) -> bytes:
            nonlocal number
            wishes: dict[str, _Command] = orjson.loads(text) if text else {}
            number = 1 + max((command["number"] for command in wishes.values()), default=0)
            return orjson.dumps(wishes | {name: _Command(number=number, wish=wish)})

        for _ in range(_TRIES):
            try:
                self._board.wish(add)
            except BlockingIOError:
                await asyncio.sleep(_TRY_AGAIN_S)
            else:
                return number
        raise Overloaded("another worker is changing what is served, and does not come to an end", retry_after_s=10.0)

    async def _converge(self, name: str, command: _Command) -> None:
        error: str | None = None
        try:
            await self._repository.carry_out(name, command["wish"])
        except ServingError as exc:
            error = str(exc)
        except Exception as exc:
            logger.exception("the %s of %s failed", command["wish"], name)
            error = f"{type(exc).__name__}: {exc}"
        finally:
            del self._under_way[name]
        self._reports[name] = self._report_of(name, command["number"], error)
        self._report()

    def _look(self) -> None:
        text = self._board.wishes()
        if text != self._read:
            self._read, self._commands = text, orjson.loads(text)

    def _report_of(self, name: str, number: int, error: str | None) -> _Report:
        return _Report(number=number, ready=list(self._repository.ready(name)), error=error)

    def _report(self) -> None:
        try:
            self._board.report(self._place, orjson.dumps(self._reports))
        except OSError as exc:
            logger.error("worker %d cannot report what it has loaded: %s", self._place, exc)

    def _reported(self, place: int, name: str) -> _Report | None:
        text = self._board.reported(place)
        reports: dict[str, Any] = orjson.loads(text) if text else {}
        return reports.get(name)


def _told(report: _Report, number: int, wish: Wish) -> str | None:
    """Return what is wrong with what a worker has come to; None where nothing is."""
    if report["number"] == number:
        return report["error"]
    # it has come to a later command, which another caller has given meanwhile
    if (wish == "load") == bool(report["ready"]):
        return None
    return f"a later command has {'unloaded' if wish == 'load' else 'loaded'} it"
