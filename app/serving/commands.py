"""What is wished of the models, told to every worker: each has to hear of every command, and to say so.

What is wished stands on a slate, which outlives every worker: of each model the last command, with a rising number.
A worker looks there several times a second, carries out what is new, and reports the number that it has come to. One
that starts, also in place of one that was killed, begins with what is wished. Whoever has asked waits until all workers
that serve have reported, so it does not matter which of them was asked, nor whether one ends meanwhile.

A policy is tried first: where a worker cannot load what it names, all of them go back to the one before. Only what has
come out well is settled, written to the state file, and what a new worker begins with. Where the worker that was asked
ends in the middle, the one that takes its place brings the command to its end.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson

from app.errors import Overloaded, ServingError
from app.serving.orders import Order, Outcome, Reached
from app.serving.slate import Command, OwnSlate, Report, Slate, dump, parse
from app.serving.state import Desired, StateFile
from app.serving.swap import Swap
from app.serving.threads import on_daemon_thread

logger = logging.getLogger("app.workers")

# between two looks at the reports of the others
_LOOK_S = 0.02
# to wish takes milliseconds; who is kept from it for longer is kept by a process that is stopped
_TRIES, _TRY_AGAIN_S = 100, 0.02
_OVERTAKEN = "a later command has changed it meanwhile"
# a bundle may end the process that loads it, or somebody else has: it gets a second chance, and no third
_MOST_TRIES = 2
_ENDED = "the workers that tried it have ended meanwhile"
_BEFORE = "it was not ready when this worker had started; the index and the log say why"


class Commands:
    """One worker's part in them.

    Args:
        swap: Carries them out in this worker.
        state: Where what is wished outlives a restart.
    """

    def __init__(self, swap: Swap, state: StateFile) -> None:
        self._swap = swap
        self._state = state
        self._slate: Slate = OwnSlate()
        self._place = 0
        self._has_begun = False
        self._read: bytes = b""
        self._commands: dict[str, Command] = {}
        self._reports: dict[str, Report] = {}
        self._have_read: dict[str, int] = {}
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._orphans: set[asyncio.Task[Outcome]] = set()
        self._writing = asyncio.Lock()  # the lock on the board is one of processes, not of their threads
        self._base: dict[str, Desired] = {}
        self._lasts_because = state.lasts_because

    def begin(self, slate: Slate, place: int) -> None:
        """Start with what is wished, before models are loaded.

        Args:
            slate: Shared by all workers.
            place: Of this worker.
        """
        self._slate, self._place, self._has_begun = slate, place, True
        self._base = {name: self._newest(name, desired) for name, desired in self._state.read().items()}
        self._register()
        self._look()
        for name in [name for name in self._swap.models if self._read and name not in self._commands]:
            logger.warning("%s has come to the models folder since the start; it waits until it is loaded", name)
            self._swap.forget(name)
        for name, command in self._commands.items():
            self._swap.begin(name, command.settled, command.known)
        self._have_read = {
            name: command.read_number - (not command.is_done) for name, command in self._commands.items()
        }  # fmt: skip

    def begin_alone(self) -> None:
        """Start with what is wished, where there is no other worker; where there are some, it has begun."""
        if not self._has_begun:
            self.begin(OwnSlate(), 0)

    def begun(self) -> None:
        """Report what has come of it, once the models are loaded; bring to its end what was begun at this place."""
        for name, command in self._commands.items():
            self._reports.setdefault(name, self._report_at_start(name, command))
            if not command.is_done and command.place == self._place:
                logger.warning("%s: bringing a command to its end whose worker has ended", name)
                order = Order(change=lambda desired: desired, is_tried=command.settled != command.desired)
                task = asyncio.get_running_loop().create_task(self._see_through(name, command, order))
                self._orphans.add(task)
                task.add_done_callback(self._end_orphan)
        self._report()

    def carry_on(self) -> None:
        """Begin what is new; called several times a second, once the worker has begun."""
        self._look()
        for name, command in self._commands.items():
            done = self._reports.get(name)
            if name not in self._under_way and (done is None or done.number < command.number):
                task = asyncio.get_running_loop().create_task(self._converge(name, command))
                self._under_way[name] = task
        self._refresh()

    @property
    def leads(self) -> bool:
        """Whether this worker is the first of those that serve: what one of them has to do, it does."""
        return next((place for place, serves in enumerate(self._slate.serving()) if serves), None) == self._place

    def offered(self, name: str) -> str:
        """Return what was last offered of a model; see :class:`Order`."""
        self._look()
        command = self._commands.get(name)
        return "" if command is None else command.offered

    def desired(self, name: str) -> Desired:
        """Return what is wished of a model, as far as it has come out well."""
        self._look()
        return self._settled(name)

    def standing(self, name: str) -> Outcome:
        """Tell what is wished of a model, and how every worker that serves has come out of it."""
        self._look()
        self._refresh(name)
        return Outcome(
            name=name,
            desired=self._settled(name),
            reached=tuple(
                Reached(worker=place, ready=report.ready, default=report.default, error=report.error)
                for place in self._places()
                if (report := self._reported(place, name)) is not None
            ),
            lasts_because=self._lasts_because,
        )

    async def carry_out(self, name: str, order: Order) -> Outcome:
        """Have all workers carry out an order, and return how each of those that serve came out of it.

        Raises:
            ServingError: What is wished cannot be made of what was.
            Overloaded: A worker that is stopped keeps the others from wishing anything.
        """
        wished: Command | None = None

        def wish(commands: dict[str, Command]) -> None:
            nonlocal wished
            before = commands.get(name)
            settled = self._base_of(name) if before is None else before.settled
            desired = order.change(settled)
            number = 1 + max((command.number for command in commands.values()), default=0)
            wished = commands[name] = Command(
                number=number,
                read_number=number if order.reads else 0 if before is None else before.read_number,
                desired=desired,
                settled=settled if order.is_tried else desired,
                is_done=False,
                known=() if before is None else before.known,
                place=self._place,
                offered=order.offered or ("" if before is None else before.offered),
            )

        await self._change(wish)
        assert wished is not None
        return await self._see_through(name, wished, order)

    def _report_at_start(self, name: str, command: Command) -> Report:
        """Return how far this worker has come with what it has begun with; what is not settled is still to be tried."""
        before = self._reported(self._place, name)  # of the worker that was here
        if before is not None and before.trying == command.number and before.tries >= _MOST_TRIES:
            logger.error("%s: %s; it is not tried again", name, _ENDED)
            self._have_read[name] = command.read_number
            return self._report_of(name, command.number, _ENDED)
        is_so = command.settled.loaded == bool(self._swap.ready(name))
        number = command.number if command.is_done else command.number - 1
        report = self._report_of(name, number, None if is_so else _BEFORE)
        if before is None or number == command.number:
            return report
        return report.model_copy(update={"trying": before.trying, "tries": before.tries})

    def _register(self) -> None:
        """Write down what is wished at the start, where no other worker has: all begin with the same.

        A model that is not among that has come to the folder since, and is none that this worker may begin with alone.
        """

        def add(text: bytes) -> bytes:
            if text:
                return text
            commands: dict[str, Command] = {}
            for name in self._swap.models:
                base = self._base_of(name)
                commands[name] = Command(
                    number=0, read_number=0, desired=base, settled=base, is_done=True,
                    known=self._swap.numbers(name), place=self._place,
                )  # fmt: skip
            return dump(commands)

        for _ in range(_TRIES):
            try:
                self._slate.wish(add)
            except BlockingIOError:
                time.sleep(_TRY_AGAIN_S)  # nobody is served yet
            else:
                return
        logger.error("worker %d begins with the settings: another one keeps it from what is wished", self._place)

    async def _see_through(self, name: str, wished: Command, order: Order) -> Outcome:
        """Wait for all workers, and then settle what was wished, or go back."""
        reached = await self._all_reach(name, wished)
        is_back = order.is_tried and any(worker.error is not None for worker in reached)
        back: Command | None = None

        def settle(commands: dict[str, Command]) -> None:
            nonlocal back
            command = commands[name]
            if command.number != wished.number:  # overtaken: the later one sees to it
                return
            if is_back:
                number = 1 + max(each.number for each in commands.values())
                back = command.model_copy(update={"number": number, "desired": command.settled, "is_done": True})
                commands[name] = back
            else:
                finished = order.finish(command.desired)
                known = self._swap.numbers(name) if order.reads else command.known
                commands[name] = command.model_copy(
                    update={"desired": finished, "settled": finished, "is_done": True, "known": known}
                )  # fmt: skip

        # what all have come to, and nobody had settled, would be undone by the next worker that starts
        await self._change(settle, keeps=not is_back, insists=True)
        if is_back and back is not None:
            await self._all_reach(name, back)
        self._look()
        desired, lasts_because = self._settled(name), self._lasts_because
        return Outcome(name=name, desired=desired, reached=reached, lasts_because=lasts_because)

    async def _all_reach(self, name: str, wished: Command) -> tuple[Reached, ...]:
        self.carry_on()
        while True:
            reports = {place: self._reported(place, name) for place in self._places()}
            if all(report is not None and report.number >= wished.number for report in reports.values()):
                break
            await asyncio.sleep(_LOOK_S)
        self._look()
        now = self._commands[name].desired
        is_overtaken = (now.loaded, now.policy) != (wished.desired.loaded, wished.desired.policy)
        return tuple(
            Reached(
                worker=place,
                ready=report.ready,
                default=report.default,
                error=_OVERTAKEN if is_overtaken and report.number > wished.number else report.error,
            )
            for place, report in reports.items()
            if report is not None
        )

    def _places(self) -> list[int]:
        """Return the workers whose reports count: those that serve, and this one; others begin with what is wished."""
        return [place for place, serves in enumerate(self._slate.serving()) if serves or place == self._place]

    async def _change(
        self, change: Callable[[dict[str, Command]], None], *, keeps: bool = False, insists: bool = False
    ) -> None:
        """Change the commands, one worker at a time.

        Args:
            change: Changes them in place.
            keeps: Whether what is settled is written to the state file meanwhile.
            insists: Whether to wait for as long as another worker is at it: the parent kills one that is stopped.

        Raises:
            Overloaded: Another worker is at it for too long, and this one does not insist.
        """

        def rewrite(text: bytes) -> bytes:
            commands = parse(text)
            change(commands)
            if keeps:
                settled = {
                    name: command.settled for name, command in commands.items() if command.is_done and command.number
                }
                self._lasts_because = self._state.write(self._base | settled)
            return dump(commands)

        async with self._writing:
            for _ in itertools.count() if insists else range(_TRIES):
                try:
                    # on a thread: a disk may take its time to keep it
                    await on_daemon_thread(partial(self._slate.wish, rewrite))
                except BlockingIOError:
                    await asyncio.sleep(_TRY_AGAIN_S)
                else:
                    return
        raise Overloaded("another worker is changing what is served, and does not come to an end", retry_after_s=10.0)

    async def _converge(self, name: str, command: Command) -> None:
        error: str | None = None
        reads = command.read_number > self._have_read.get(name, 0)
        before = self._reports.get(name) or self._report_of(name, 0, None)
        tries = 1 + (before.tries if before.trying == command.number else 0)
        self._reports[name] = before.model_copy(update={"trying": command.number, "tries": tries})
        self._report()
        try:
            await self._swap.carry_out(name, command.desired, known=None if reads else command.known)
        except ServingError as exc:
            error = str(exc)
        except Exception as exc:
            logger.exception("a command to %s failed", name)
            error = f"{type(exc).__name__}: {exc}"
        finally:
            del self._under_way[name]
        self._have_read[name] = max(command.read_number, self._have_read.get(name, 0))
        self._reports[name] = self._report_of(name, command.number, error)
        self._report()

    def _newest(self, name: str, kept: Desired) -> Desired:
        """Return what the file wishes of a model, or the settings, where those have changed since."""
        at_start = self._swap.desired_at_start(name)
        if kept.begun_with == at_start.policy:
            return kept
        logger.info("%s: the settings of its versions have changed, and count from now on", name)
        return at_start.model_copy(update={"loaded": kept.loaded, "history": kept.history}).remembering(kept.policy)

    def _base_of(self, name: str) -> Desired:
        return self._base.get(name) or self._swap.desired_at_start(name)

    def _settled(self, name: str) -> Desired:
        command = self._commands.get(name)
        return self._base_of(name) if command is None else command.settled

    def _look(self) -> None:
        text = self._slate.wishes()
        if text != self._read:
            self._read, self._commands = text, parse(text)

    def _refresh(self, *more: str) -> None:
        """Report what has changed without a command: a version may fail, and come back."""
        changed = False
        for name in (*self._reports, *(name for name in more if name not in self._reports)):
            told = self._reports.get(name)
            now = self._report_of(name, 0, None)
            if told is not None:
                now = told.model_copy(update={"ready": now.ready, "default": now.default})
            if now != told:
                self._reports[name], changed = now, True
        if changed:
            self._report()

    def _report_of(self, name: str, number: int, error: str | None) -> Report:
        return Report(number=number, ready=self._swap.ready(name), default=self._swap.default(name), error=error)

    def _report(self) -> None:
        try:
            self._slate.report(self._place, orjson.dumps({n: each.model_dump() for n, each in self._reports.items()}))
        except OSError as exc:
            logger.error("worker %d cannot report what it has loaded: %s", self._place, exc)

    def _reported(self, place: int, name: str) -> Report | None:
        text = self._slate.reported(place)
        reports: dict[str, Any] = orjson.loads(text) if text else {}
        return None if (found := reports.get(name)) is None else Report.model_validate(found)

    def _end_orphan(self, task: "asyncio.Task[Outcome]") -> None:
        self._orphans.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a command was not brought to its end: %s", error)
