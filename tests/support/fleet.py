"""Two workers of one process, that share a real board and a folder of models; without sockets."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from app.bundle.golden import GoldenRows
from app.bundle.loader import Bundle
from app.bundle.manifest import Manifest
from app.metrics import Metrics
from app.serving.catalog import Catalog
from app.serving.policy import Policy
from app.serving.repository import Repository
from app.serving.versions import State
from app.settings import Settings
from app.workers.board import Board

TICK_S = 0.01
WITHIN_S = 30.0
CANARY = Policy(default=1, labels={"canary": 2}, weights={"canary": 0.5})


class OpenDoors:
    """Lets every model in."""

    def prepare(self, bundle: Bundle) -> Callable[[], None]:
        del bundle
        return lambda: None

    def close(self, name: str) -> None:
        del name


class Worker:
    """One worker of several, without its sockets."""

    def __init__(self, board: Board, place: int, settings: Settings) -> None:
        self.metrics = Metrics()
        self.catalog = Catalog(settings, self.metrics)
        self.repository = Repository(
            self.catalog, settings, doors=OpenDoors(), check_contract=lambda *_: None, metrics=self.metrics
        )
        self.commands = self.repository.commands
        self._board, self._place = board, place
        self.is_hung = False
        self._ticking: asyncio.Task[None] | None = None

    async def start(self) -> "Worker":
        self.commands.begin(self._board, self._place)
        await self.catalog.load(lambda *_: None)
        self.commands.begun()
        self._board.mark(self._place, is_serving=True)
        self._ticking = asyncio.create_task(self._tick())
        return self

    async def _tick(self) -> None:
        while True:
            self.commands.carry_on()
            await asyncio.sleep(TICK_S)

    async def end(self) -> None:
        """End as a killed process does: it does nothing more, and others are told."""
        if self._ticking is not None:
            self._ticking.cancel()
            with suppress(asyncio.CancelledError):
                await self._ticking
        self._board.mark(self._place, is_serving=False)

    def hangs_on(self, number: int | None) -> None:
        """Let the proof of a version never come to its end."""

        def check_contract(manifest: Manifest, golden: GoldenRows) -> None:
            del golden
            if manifest.version == number:
                self.is_hung = True
                threading.Event().wait()

        self.repository._swap._check_contract = check_contract

    async def kill(self) -> None:
        """End in the middle of whatever it is at."""
        await self.end()
        tasks = [*self.commands._under_way.values(), *self.commands._orphans, *self.repository._under_way]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def default(self) -> int:
        return self.catalog.models["dummy"].default.ref.version

    def states(self) -> list[State]:
        return [version.state for version in self.catalog.models["dummy"].versions]


class Service:
    """Two workers over one folder."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.models_dir = folder / "models"
        self.settings = Settings(
            models_dir=self.models_dir, backend="dummy", run_on="loop", state_dir=folder / "state", **settings
        )
        self.board = Board(2)

    async def worker(self, place: int, *, hangs_on: int | None = None) -> Worker:
        worker = Worker(self.board, place, self.settings)
        worker.hangs_on(hangs_on)
        return await worker.start()


def run(
    folder: Path, scenario: Callable[[Service, Worker, Worker], Coroutine[Any, Any, None]], **settings: Any
) -> None:  # fmt: skip
    async def both() -> None:
        service = Service(folder, **settings)
        workers = [await service.worker(0), await service.worker(1)]
        await scenario(service, *workers)
        for worker in workers:
            await worker.end()

    asyncio.run(both())


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not is_so():  # noqa: ASYNC110  what changes tells nobody
            await asyncio.sleep(TICK_S)
