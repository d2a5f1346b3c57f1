"""A worker: a server under a parent, that may share its port with others.

It takes connections from its own socket, and from those of workers that do not serve at the moment, so that nobody
waits for a process that is being replaced. While its models load it takes none where another worker serves; nor, for
a moment, where it stands in place of one that was lost: whoever comes then waits a second, and is not refused.
"""

import asyncio
import logging
import math
import os
import select
import socket
import threading
import time

import orjson

from app import cpus, memory
from app.access.rates import Table
from app.errors import SettingsError
from app.main import ZeroToOne, create_app
from app.metrics import Snapshot
from app.server import LIFELINE, Server, run
from app.serving.versions import State
from app.settings import EXIT_BAD_SETTINGS, Settings
from app.workers import pulse
from app.workers.place import END_S, Place

logger = logging.getLogger("app.workers")

_TICKS_BETWEEN_NOTES = 10  # uvicorn ticks ten times a second
# one in place of another that loads for longer takes connections all the same, and says what it waits for
_PATIENCE_S = 5.0
# a runtime that is imported on another thread holds up the event loop
_LOADING_S = 30.0


class WorkerServer(Server):
    """Serves one app on the sockets of several workers.

    Args:
        app: What to serve.
        settings: Address, port and times.
        place: Of this worker.
    """

    shares_ports = True

    def __init__(self, app: ZeroToOne, settings: Settings, place: Place) -> None:
        super().__init__(app, settings)
        self._place = place
        self._commands = app.repository.commands
        self._taken: dict[int, asyncio.Server] = {}
        self._untaken: set[int] = set()  # those of them that it could not take, which it has told
        self._started_at = time.monotonic()
        self._has_loaded = False  # what is loaded later keeps it from nothing
        self._hung_s = settings.hung_s
        self._told: pulse.Answer | None = None
        app.catalog.on_ready = self._note_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start loading, and answer the parent; sockets are taken from the first tick on."""
        asyncio.get_running_loop().add_reader(self._place.pulse.fileno(), self._answer)
        self._commands.begin(self._place.board, self._place.number)
        await super().startup(sockets=[])
        self._tell()

    async def on_tick(self, counter: int) -> bool:
        """Look what there is to do, and whether it is time to leave."""
        if self._place.service_ends:
            self.should_exit = True
        if not self.should_exit:
            await self._take(self._wanted())
            if self._has_loaded or (self._is_alone and self._taken):
                await super()._open_other_doors()
            if self._has_loaded:
                self._commands.carry_on()
        if self._told != self._state():  # a worker that hangs right after loading has no longer time than another
            self._tell()
        if counter % _TICKS_BETWEEN_NOTES == 0:
            self._post(self._app.figures.snapshot())
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Leave the rest to the other workers; where all leave, drain every socket."""
        self._place.board.mark(self._place.number, is_serving=False)
        if self._place.service_ends:
            # one that hangs drains nothing; what waits for it is not lost, since the others take it
            await self._take(set(range(len(self._place.listeners))))
            for listener in self._place.listeners:
                listener.close()  # what was taken are copies
        await super().shutdown(sockets)
        self._post(self._app.figures.snapshot())

    def exchange(self, own: Snapshot) -> list[Snapshot]:
        """Show what this worker has counted, and return what the others have last shown."""
        self._post(own)
        notes = (self._place.board.read(other) for other in range(self._place.board.places)
                 if other != self._place.number)  # fmt: skip
        return [orjson.loads(note) for note in notes if note]

    def _answer(self) -> None:
        if pulse.hear(self._place.pulse):
            self._tell()

    def _tell(self) -> None:
        self._told = self._state()
        pulse.answer(self._place.pulse, self._told)

    def _state(self) -> pulse.Answer:
        """Return how long this worker may be silent, and whether it should be replaced."""
        health = self._app.health
        patience_s = max(self._hung_s, health.longest_on_the_loop_s())
        if self._is_loading:
            patience_s = max(patience_s, _LOADING_S)
        return {"patience_s": patience_s, "wants_out": health.wants_out}

    async def _open_other_doors(self) -> None:
        """Wait with what else listens until connections are taken: it cannot be left to another worker meanwhile."""

    def _left_listeners(self) -> list[socket.socket]:
        # the filter stays with a socket, which belongs to the next worker where only this one leaves
        return super()._left_listeners() if self._place.service_ends else []

    def _wanted(self) -> set[int]:
        """Return the numbers of the sockets to take connections from."""
        own, board = self._place.number, self._place.board
        down = {number for number, is_serving in enumerate(board.serving()) if not is_serving}
        if not self._has_loaded and self._is_loading:
            is_another_up = len(down | {own}) < board.places
            is_soon_there = not self._place.is_first and time.monotonic() - self._started_at < _PATIENCE_S
            return set() if is_another_up or is_soon_there else {own}
        self._has_loaded = True
        if own in down:
            self._commands.begun()
            board.mark(own, is_serving=True)
            logger.info("worker %d serves", own)
        return down | {own}

    def _note_ready(self) -> None:
        """Tell the parent in the very step in which the service is ready; by the next tick it may have been killed."""
        if self._app.catalog.is_ready:
            self._place.board.note_served()

    @property
    def _is_alone(self) -> bool:
        return self._place.board.places == 1

    @property
    def _is_loading(self) -> bool:
        return any(version.state in (State.LOADING, State.PROVING) for version in self._app.catalog.versions())

    async def _take(self, wanted: set[int]) -> None:
        """Take connections from these sockets and from no others; those that were taken go on."""
        for number in wanted - self._taken.keys():
            try:
                copy = socket.socket(fileno=os.dup(self._place.listeners[number].fileno()))
                self._taken[number] = await self._serve_on(copy)
            except OSError as exc:  # connections hold all the files that there may be; the next tick tries again
                if number not in self._untaken:
                    logger.error("worker %d cannot take connections of worker %d: %s", self._place.number, number, exc)
                self._untaken.add(number)
            else:
                self._untaken.discard(number)
        for number in self._taken.keys() - wanted:
            self._taken.pop(number).close()
        self.servers = list(self._taken.values())

    def _post(self, snapshot: Snapshot) -> None:
        try:
            self._place.board.post(self._place.number, orjson.dumps(snapshot, option=orjson.OPT_SERIALIZE_NUMPY))
        except OSError as exc:
            logger.warning("the other workers will tell old figures of this one: %s", exc)


def serve(settings: Settings, place: Place) -> int:
    """Serve until the end; return the exit status.

    Raises:
        SettingsError: The models folder is not what the settings say, and this is the one worker's first start.
    """
    memory.configure(num_threads=cpus.num_cores())
    try:
        with memory.without_collections():
            app = create_app(settings, worker=place.number)
            app.health.expects_proven = not place.is_first
            server = WorkerServer(app, settings, place)
    except SettingsError as exc:
        if place.is_first and place.board.places == 1:
            raise
        logger.error("worker %d cannot start: %s", place.number, exc)
        return EXIT_BAD_SETTINGS
    if left_behind := place.board.read(place.number):
        app.figures.absorb(orjson.loads(left_behind))  # by the worker that was here before: counters only rise
    app.admission.share_rates(Table(place.board.rates))
    app.figures.share(server.exchange)
    # a second more than the parent allows, who says in the log what it does
    _end_within(settings.drain_s + settings.shutdown_s + END_S + 1.0, place.lifeline)
    return run(server)


def _end_within(seconds: float, lifeline: int) -> None:
    """See that this process ends so soon after the service, its event loop hanging or not.

    The parent kills who does not end in time, but it may have been killed itself. The time is slept in short pieces, so
    that a machine that was stopped meanwhile takes but one of them away.
    """
    own = os.dup(lifeline)

    def wait() -> None:
        select.select([own], [], [])
        for _ in range(math.ceil(seconds / pulse.LOOK_S)):
            time.sleep(pulse.LOOK_S)
        os._exit(1)

    threading.Thread(target=wait, name=LIFELINE, daemon=True).start()
