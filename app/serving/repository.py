"""Models come and go while the service runs: load, unload, and a list of what there is.

Commands to one model are carried out one after the other, and to the end, whether or not their caller waits. What is
loaded is proven as it is at the start. A version that does not load takes no other one down.

Where several workers serve, each has a :class:`Repository` of its own, and a :class:`Crew` sees to it that all of them
hear of a command.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from app import memory
from app.bundle.loader import Bundle, BundleRef, find_versions
from app.bundle.manifest import NAME_PATTERN
from app.errors import BundleError, DeadlineExceeded, NotLoaded, ServingError, UnknownModel
from app.serving.catalog import Catalog, ContractCheck
from app.serving.threads import on_daemon_thread
from app.serving.versions import Model, State, Version, read_version
from app.settings import Settings

logger = logging.getLogger("app.catalog")

Wish: TypeAlias = Literal["load", "unload"]
# between two looks whether a queue is empty
_LOOK_S = 0.01


class Doors(Protocol):
    """Those who translate for a model, and have to hear of a new one."""

    def prepare(self, bundle: Bundle) -> Callable[[], None]:
        """Make ready what a model of this bundle needs; called on a thread, and changes nothing yet.

        Returns:
            What lets requests for it in, called on the event loop's thread; again for each version.

        Raises:
            BundleError: The manifest's tensors are not those of its task.
        """
        ...


class Crew(Protocol):
    """Several workers, each of which has to carry out a command."""

    async def carry_out(self, name: str, wish: Wish) -> Sequence["Reached"]:
        """Tell all workers, and return how each of them came out of it."""
        ...


class IndexEntry(NamedTuple):
    """One version in the list of what there is."""

    name: str
    version: str
    state: State
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """How one worker has come out of a command.

    Attributes:
        worker: Its number, from 0.
        ready: The versions that it serves now.
        error: What went wrong; None where nothing did.
    """

    worker: int
    ready: tuple[str, ...]
    error: str | None = None


class Repository:
    """Carries out commands.

    Args:
        catalog: What is changed.
        settings: Of the service.
        doors: Told of new models.
        check_contract: As of :meth:`app.serving.catalog.Catalog.load`.

    Attributes:
        crew: All the workers; None where there is one.
    """

    def __init__(self, catalog: Catalog, settings: Settings, *, doors: Doors, check_contract: ContractCheck) -> None:
        self._catalog = catalog
        self._settings = settings
        self._doors = doors
        self._check_contract = check_contract
        self._under_way: set[asyncio.Task[Any]] = set()
        self.crew: Crew | None = None

    def index(self, *, only_ready: bool = False) -> list[IndexEntry]:
        """List every version of every model, loaded or not, as this worker sees them."""
        return [
            IndexEntry(version.ref.name, str(version.ref.version), version.state, version.reason)
            for version in self._catalog.versions()
            if version.state is State.READY or not only_ready
        ]

    async def command(self, name: str, wish: Wish, *, within_s: float) -> Sequence[Reached]:
        """Have a model loaded or unloaded by every worker, and return how each came out of it.

        The command goes on where the time is over, and where the caller is gone.

        Raises:
            UnknownModel: Neither the service nor the models folder has such a model.
            NotLoaded: A worker could not load it, or not all of it.
            DeadlineExceeded: It takes longer.
        """
        if name not in self._catalog.models and not (wish == "load" and await self._is_on_disk(name)):
            raise UnknownModel(name, tuple(self._catalog.models))
        carrying_out = self._alone(name, wish) if self.crew is None else self.crew.carry_out(name, wish)
        task = self._start(carrying_out)
        try:
            reached = await asyncio.wait_for(asyncio.shield(task), within_s)
        except TimeoutError:
            raise DeadlineExceeded(
                f"the {wish} of {name} takes longer than the request waits for it, and goes on; the index tells what "
                "has become of it, and X-Request-Timeout-Ms says how long to wait"
            ) from None
        if failed := [worker for worker in reached if worker.error is not None]:
            raise NotLoaded("; ".join(_tell(worker, len(reached)) for worker in failed))
        return reached

    async def carry_out(self, name: str, wish: Wish) -> None:
        """Load or unload a model here.

        Raises:
            UnknownModel: No such model, or its folder is gone.
            NotLoaded: Not all that lies in its folder could be loaded.
        """
        async with self._catalog.lock(name):
            try:
                await (self._load(name) if wish == "load" else self._unload(name))
            finally:
                memory.settle()

    def ready(self, name: str) -> tuple[str, ...]:
        """Return the versions of a model that serve here."""
        model = self._catalog.models.get(name)
        return () if model is None else tuple(str(v.ref.version) for v in model.versions if v.state is State.READY)

    def leave_out(self, names: Iterable[str]) -> None:
        """Unload models before they are loaded: those that were unloaded before this worker started."""
        for name in names:
            if model := self._catalog.models.get(name):
                model.is_unloaded = True
                for version in model.versions:
                    version.release()

    async def _alone(self, name: str, wish: Wish) -> Sequence[Reached]:
        await self.carry_out(name, wish)
        return (Reached(worker=0, ready=self.ready(name)),)

    def _start(self, carrying_out: Coroutine[Any, Any, Sequence[Reached]]) -> "asyncio.Task[Sequence[Reached]]":
        task = asyncio.get_running_loop().create_task(carrying_out)
        self._under_way.add(task)  # the loop itself keeps no task alive
        task.add_done_callback(self._end)
        return task

    def _end(self, task: "asyncio.Task[Any]") -> None:
        self._under_way.discard(task)
        if task.cancelled():
            return
        error = task.exception()  # asked for, or asyncio complains where the caller has gone
        if error is not None and not isinstance(error, ServingError):
            logger.error("a command failed", exc_info=error)

    async def _is_on_disk(self, name: str) -> bool:
        # what is no name may be a path that leads elsewhere
        return re.fullmatch(NAME_PATTERN, name) is not None and bool(await self._on_disk(name))

    async def _on_disk(self, name: str) -> list[BundleRef]:
        return sorted(await on_daemon_thread(partial(find_versions, self._settings.models_dir / name)))

    async def _load(self, name: str) -> None:
        refs = await self._on_disk(name)
        if not refs:
            raise NotLoaded(f"the folder of {name} holds no version any more; what is served of it stays as it is")
        model = self._catalog.models.get(name) or Model(name=name)
        failed = [version for ref in refs if (version := await self._bring(model, ref)).state is State.FAILED]
        if self.ready(name):
            model.is_unloaded = False
            await self._drop(model, keep={ref.version for ref in refs})
        ready = self.ready(name)
        if failed:
            reasons = "; ".join(f"{version.label}: {version.reason}" for version in failed)
            served = f"it is served as version {', '.join(ready)}" if ready else "nothing of it is served"
            raise NotLoaded(f"{reasons}; {served}")

    async def _bring(self, model: Model, ref: BundleRef) -> Version:
        """Bring up a version as it lies on the disk, unless just that serves; return what became of it.

        What serves under its number is replaced once the new one is proven, and otherwise stays.
        """
        found = await on_daemon_thread(partial(read_version, ref, model))
        current = next((version for version in model.versions if version.ref.version == ref.version), None)
        is_served = current is not None and current.state is State.READY
        if current is not None and is_served and found.manifest_read == current.manifest_read:
            return current
        if not is_served:  # seen from now on, in whatever state
            model.put(found)
            self._catalog.models.setdefault(model.name, model)
        if found.state is not State.FAILED:
            await self._admit(model, found)
        if found.state is State.LOADING:
            await self._catalog.bring_up(found, self._check_contract)
        if current is not None and is_served and found.state is State.READY:
            model.put(found)
            await self._take_down([current])
        return found

    async def _admit(self, model: Model, version: Version) -> None:
        """Open the doors for a version; where they do not fit, it has failed."""
        assert version.bundle is not None
        try:
            admit = await on_daemon_thread(partial(self._doors.prepare, version.bundle))
        except Exception as exc:  # whatever it is, it is this version's alone
            if not isinstance(exc, BundleError):
                logger.exception("%s: unexpected failure while its task was created", version.label)
            version.bundle = None
            version.fail(str(exc) or type(exc).__name__)
        else:
            model.contract = model.contract or version.manifest_read
            admit()

    async def _drop(self, model: Model, *, keep: set[int]) -> None:
        """Take down versions that are no longer on the disk, and forget them."""
        gone = [version for version in model.versions if version.ref.version not in keep]
        model.versions[:] = [version for version in model.versions if version.ref.version in keep]
        await self._take_down(gone)

    async def _unload(self, name: str) -> None:
        model = self._catalog.models.get(name)
        if model is None:
            raise UnknownModel(name, tuple(self._catalog.models))
        model.is_unloaded = True
        await self._take_down(model.versions)

    async def _take_down(self, versions: Sequence[Version]) -> None:
        """Take versions out of rotation, let their queues run dry, and give back what they hold."""
        for version in versions:
            version.retire()
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self._settings.shutdown_s
        batchers = [version.batcher for version in versions if version.batcher is not None]
        while not all(batcher.is_idle for batcher in batchers) and loop.time() < ends_at:  # noqa: ASYNC110  seldom asked
            await asyncio.sleep(_LOOK_S)
        for version in versions:
            version.release()
            logger.info("%s unloaded", version.label)


def _tell(worker: Reached, workers: int) -> str:
    return f"worker {worker.worker}: {worker.error}" if workers > 1 else str(worker.error)
