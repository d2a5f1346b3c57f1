"""A worker: a server that shares its port with others.

It takes connections from its own socket, and from those of workers that do not serve at the moment, so that nobody
waits for a process that is being replaced. While its models load and another worker serves, it takes none.
"""

import asyncio
import logging
import os
import socket
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import orjson

from app import memory
from app.access.rates import Table
from app.errors import SettingsError
from app.main import ZeroToOne, create_app
from app.metrics import Snapshot
from app.server import Server, run
from app.serving.versions import State
from app.settings import EXIT_BAD_SETTINGS, Settings
from app.workers.board import Board

logger = logging.getLogger("app.workers")

_TICKS_BETWEEN_NOTES = 10  # uvicorn ticks ten times a second


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a worker stands among the others.

    Attributes:
        number: Of the worker, on the board and among the listeners.
        board: Shared by all.
        listeners: The socket of each worker.
        pings: Of the parent, answered by the event loop while it turns.
        lifeline: Comes to its end when the whole service ends, and when the parent is no more.
    """

    number: int
    board: Board
    listeners: list[socket.socket]
    pings: "Connection[Any, Any]"
    lifeline: "Connection[Any, Any]"


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
        self._has_begun = False  # what is loaded later keeps it from nothing

    @property
    def _service_ends(self) -> bool:
        return self._place.lifeline.poll()  # it carries nothing, so only its end can be read

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start loading, and answer pings; sockets are taken from the first tick on."""
        asyncio.get_running_loop().add_reader(self._place.pings.fileno(), self._pong)
        self._commands.begin(self._place.board, self._place.number)
        await super().startup(sockets=[])

    async def on_tick(self, counter: int) -> bool:
        """Look what there is to do, and whether it is time to leave."""
        if self._service_ends:
            self.should_exit = True
        if not self.should_exit:
            await self._take(self._wanted())
            if self._has_begun:
                await super()._open_other_doors()
                self._commands.carry_on()
        if counter % _TICKS_BETWEEN_NOTES == 0:
            self._post(self._app.figures.snapshot())
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Leave the rest to the other workers; where all leave, drain every socket."""
        self._place.board.mark(self._place.number, is_serving=False)
        if self._service_ends:
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

    def _pong(self) -> None:
        try:
            self._place.pings.recv()
            self._place.pings.send(True)
        except (OSError, EOFError):  # the parent has hung up
            asyncio.get_running_loop().remove_reader(self._place.pings.fileno())

    async def _open_other_doors(self) -> None:
        """Wait with gRPC until the models are loaded: its socket cannot be left to another worker for that long."""

    def _left_listeners(self) -> list[socket.socket]:
        # the filter stays with a socket, which belongs to the next worker where only this one leaves
        return super()._left_listeners() if self._service_ends else []

    def _wanted(self) -> set[int]:
        """Return the numbers of the sockets to take connections from."""
        own, board = self._place.number, self._place.board
        down = {number for number, is_serving in enumerate(board.serving()) if not is_serving}
        if not self._has_begun and self._is_loading:
            is_another_up = len(down | {own}) < board.places
            return set() if is_another_up else {own}
        self._has_begun = True
        if own in down:
            self._commands.begun()
            board.mark(own, is_serving=True)
            logger.info("worker %d serves", own)
        return down | {own}

    @property
    def _is_loading(self) -> bool:
        return any(version.state in (State.LOADING, State.PROVING) for version in self._app.catalog.versions())

    async def _take(self, wanted: set[int]) -> None:
        """Take connections from these sockets and from no others; those that were taken go on."""
        for number in wanted - self._taken.keys():
            copy = socket.socket(fileno=os.dup(self._place.listeners[number].fileno()))
            self._taken[number] = await self._serve_on(copy)
        for number in self._taken.keys() - wanted:
            self._taken.pop(number).close()
        self.servers = list(self._taken.values())

    def _post(self, snapshot: Snapshot) -> None:
        try:
            self._place.board.post(self._place.number, orjson.dumps(snapshot, option=orjson.OPT_SERIALIZE_NUMPY))
        except OSError as exc:
            logger.warning("the other workers will tell old figures of this one: %s", exc)


def serve(settings: Settings, place: Place) -> int:
    """Serve until the end; return the exit status."""
    memory.return_large_blocks()
    try:
        app = create_app(settings, worker=place.number)
    except SettingsError as exc:
        logger.error("worker %d cannot start: %s", place.number, exc)
        return EXIT_BAD_SETTINGS
    if left_behind := place.board.read(place.number):
        app.figures.absorb(orjson.loads(left_behind))  # by the worker that was here before: counters only rise
    app.admission.share_rates(Table(place.board.rates))
    server = WorkerServer(app, settings, place)
    app.figures.share(server.exchange)
    return run(server)
