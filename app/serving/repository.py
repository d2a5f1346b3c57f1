"""Models come and go while the service runs, and so do the policies by which their versions answer.

Every change goes one way: it is wished on the slate of the workers, carried out by each of them and reported; see
:class:`app.serving.commands.Commands`. Commands to one model are carried out one after the other, and to the end,
whether or not their caller waits.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from app.errors import (
    DeadlineExceeded,
    Fault,
    InvalidInput,
    NotLoaded,
    NotPromotable,
    ServingError,
    UnknownModel,
    UnknownVersion,
)
from app.metrics import Metrics
from app.serving.catalog import Catalog, ContractCheck
from app.serving.commands import Commands
from app.serving.orders import Order, Outcome, Reached
from app.serving.policy import Policy, Shadow
from app.serving.state import Desired, StateFile
from app.serving.swap import Doors, Swap
from app.serving.versions import State
from app.settings import Settings

logger = logging.getLogger("app.catalog")

Wish: TypeAlias = Literal["load", "unload"]
# the label of what is trusted; it moves along where a version is promoted
STABLE = "stable"


class Promotable(Protocol):
    """Tells whether a shadow may answer."""

    def __call__(self, name: str, /, *, min_agreement: float | None = None, min_rows: int | None = None) -> object:
        """Raise :class:`ServingError` where the shadow of a model has not earned it."""
        ...


class IndexEntry(NamedTuple):
    """One version in the list of what there is."""

    name: str
    version: str
    state: State
    reason: str


class Repository:
    """What may be asked of the models.

    Args:
        catalog: What is changed.
        settings: Of the service.
        doors: Told of new models.
        check_contract: As of :meth:`app.serving.catalog.Catalog.load`.
        metrics: Told of every swap.

    Attributes:
        commands: This worker's part in what is wished of all.
        expect_promotable: Asked before a shadow is promoted.
    """

    def __init__(
        self, catalog: Catalog, settings: Settings, *, doors: Doors, check_contract: ContractCheck, metrics: Metrics
    ) -> None:
        self._catalog = catalog
        self._metrics = metrics
        self._swap = Swap(catalog, settings, doors=doors, check_contract=check_contract, metrics=metrics)
        self.commands = Commands(self._swap, StateFile(settings.state_dir))
        self.expect_promotable: Promotable = catalog.shadows.expect_promotable
        self._under_way: set[asyncio.Task[Any]] = set()

    def index(self, *, only_ready: bool = False) -> list[IndexEntry]:
        """List every version of every model, loaded or not, as this worker sees them."""
        return [
            IndexEntry(version.ref.name, str(version.ref.version), version.state, version.reason)
            for version in self._catalog.versions()
            if version.state is State.READY or not only_ready
        ]

    @property
    def leads(self) -> bool:
        """Whether this worker does what one of several has to do."""
        return self.commands.leads

    def offered(self, name: str) -> str:
        """Return what was last offered of a model; see :meth:`load`."""
        return self.commands.offered(name)

    def known(self, name: str) -> frozenset[int]:
        """Return the versions of a model that there are here, in whatever state."""
        model = self._catalog.models.get(name)
        return frozenset(() if model is None else (version.ref.version for version in model.versions))

    def is_wanted(self, name: str) -> bool:
        """Whether a model is to serve: it was not unloaded."""
        return self.commands.desired(name).loaded

    @property
    def names(self) -> tuple[str, ...]:
        """Those of all models."""
        return tuple(self._catalog.models)

    def standing(self, name: str) -> Outcome:
        """Tell what is wished of a model, and how far each worker has come.

        Raises:
            UnknownModel: No such model.
        """
        self._expect_known(name)
        return self.commands.standing(name)

    async def command(self, name: str, wish: Wish, *, within_s: float) -> Sequence[Reached]:
        """Have a model loaded or unloaded by every worker, and return how each came out of it.

        Raises:
            UnknownModel, NotLoaded, DeadlineExceeded: As :meth:`load` and :meth:`unload` raise them.
        """
        outcome = await (self.load if wish == "load" else self.unload)(name, within_s=within_s)
        return outcome.reached

    async def load(self, name: str, *, within_s: float, offered: str = "") -> Outcome:
        """Have every worker load what is new or changed on the disk, and let go what is gone.

        Where another version answers then, one can roll back to the one that did.

        Args:
            name: Of the model.
            within_s: How long to wait; it goes on where the time is over, and where the caller is gone.
            offered: What lay there, where a look at the folder has led here.

        Raises:
            UnknownModel: Neither the service nor the models folder has such a model.
            NotLoaded: A worker could not load it, or not all of it.
            DeadlineExceeded: It takes longer.
        """
        if name not in self._catalog.models and not await self._swap.is_on_disk(name):
            raise UnknownModel(name, tuple(self._catalog.models))
        before = self._swap.default(name)

        def remember(desired: Desired) -> Desired:
            after = self._swap.default(name)
            if before is None or after is None or before == after:
                return desired
            return desired.remembering(_pinned_to(before, desired.policy))

        order = Order(
            change=lambda desired: desired.model_copy(update={"loaded": True}),
            reads=True,
            finish=remember,
            offered=offered,
        )
        return await self._carry_out(name, order, "load", within_s)

    async def unload(self, name: str, *, within_s: float) -> Outcome:
        """Have every worker take a model out of rotation, and give back what it holds.

        Raises:
            UnknownModel: No such model.
            NotLoaded, DeadlineExceeded: As :meth:`load` raises them.
        """
        self._expect_known(name)
        order = Order(change=lambda desired: desired.model_copy(update={"loaded": False}))
        return await self._carry_out(name, order, "unload", within_s)

    async def set_policy(self, name: str, policy: Policy, *, within_s: float) -> Outcome:
        """Have a model answer by another policy, once every worker has loaded what that names; else all stay.

        Raises:
            UnknownModel: No such model.
            NotLoaded: A worker could not load a version that the policy names.
            DeadlineExceeded: It takes longer.
        """
        return await self._try(name, lambda desired: desired.with_policy(policy), "change of the policy", within_s)

    async def roll_back(self, name: str, *, within_s: float) -> Outcome:
        """Have a model answer by the policy before, or by the version that answered before the last one was loaded.

        Raises:
            UnknownModel, NotLoaded, DeadlineExceeded: As :meth:`set_policy` raises them.
            NothingToRollBack: There was none.
        """
        outcome = await self._try(name, Desired.rolled_back, "rollback", within_s)
        self._metrics.swaps[name, "rolled_back"] += 1
        logger.warning("%s is rolled back to %s", name, outcome.desired.policy.model_dump_json(exclude_defaults=True))
        return outcome

    async def set_shadow(self, name: str, shadow: Shadow | None, *, within_s: float) -> Outcome:
        """Have a version get a copy of the traffic, or none.

        Raises:
            UnknownModel, NotLoaded, DeadlineExceeded: As :meth:`set_policy` raises them.
            InvalidInput: The version is the one that is pinned.
        """

        def change(desired: Desired) -> Desired:
            if shadow is not None and shadow.version == desired.policy.default:
                message = f"version {shadow.version} is the default, and cannot shadow itself"
                raise InvalidInput(Fault(pointer="#/version", code="out_of_range", message=message))
            return desired.with_policy(desired.policy.model_copy(update={"shadow": shadow}))

        return await self._try(name, change, "change of the shadow", within_s)

    async def promote(
        self,
        name: str,
        number: int | None = None,
        *,
        min_agreement: float | None = None,
        min_rows: int | None = None,
        within_s: float,
    ) -> Outcome:
        """Have the shadow of a model answer: it is pinned, and takes the label ``stable`` along where there is one.

        Args:
            name: Of the model.
            number: Which shadow is meant; None for the one that there is.
            min_agreement: In place of that of the policy.
            min_rows: Likewise.
            within_s: How long to wait.

        Raises:
            UnknownModel, NotLoaded, DeadlineExceeded: As :meth:`set_policy` raises them.
            UnknownVersion: Another one than the number says is the shadow.
            NotPromotable: There is no shadow, or it has not earned it.
        """
        self._expect_known(name)
        judged = self._catalog.models[name].policy.shadow
        self.expect_promotable(name, min_agreement=min_agreement, min_rows=min_rows)

        def change(desired: Desired) -> Desired:
            shadow = desired.policy.shadow
            if shadow is None or number not in (None, shadow.version):
                raise UnknownVersion(name, str(number), () if shadow is None else (str(shadow.version),))
            if shadow != judged:  # by another call meanwhile
                raise NotPromotable(f"the shadow of {name} has changed since it was looked at; ask again")
            return desired.with_policy(_promoted(desired.policy, shadow.version))

        return await self._try(name, change, "promotion", within_s)

    async def _try(self, name: str, change: Callable[[Desired], Desired], what: str, within_s: float) -> Outcome:
        self._expect_known(name)
        return await self._carry_out(name, Order(change=change, is_tried=True), what, within_s)

    async def _carry_out(self, name: str, order: Order, what: str, within_s: float) -> Outcome:
        task = self._start(self.commands.carry_out(name, order))
        try:
            outcome = await asyncio.wait_for(asyncio.shield(task), within_s)
        except TimeoutError:
            raise DeadlineExceeded(
                f"the {what} of {name} takes longer than the request waits for it, and goes on; the index tells what "
                "has become of it, and X-Request-Timeout-Ms says how long to wait"
            ) from None
        if failed := outcome.failed:
            told = "; ".join(_tell(worker, len(outcome.reached)) for worker in failed)
            raise NotLoaded(f"{told}; the policy stays as it was" if order.is_tried else told)
        return outcome

    def _expect_known(self, name: str) -> None:
        if name not in self._catalog.models:
            raise UnknownModel(name, tuple(self._catalog.models))

    def _start(self, carrying_out: Coroutine[Any, Any, Outcome]) -> "asyncio.Task[Outcome]":
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


def _pinned_to(number: int, policy: Policy) -> Policy:
    """Return a policy by which one version answers; where that was the shadow, there is none any more."""
    shadow = policy.shadow
    is_itself = shadow is not None and shadow.version == number
    return policy.model_copy(update={"default": number, "shadow": None if is_itself else shadow})


def _promoted(policy: Policy, number: int) -> Policy:
    labels = policy.labels | ({STABLE: number} if STABLE in policy.labels else {})
    return policy.model_copy(update={"default": number, "labels": labels, "weights": {}, "shadow": None})


def _tell(worker: Reached, workers: int) -> str:
    return f"worker {worker.worker}: {worker.error}" if workers > 1 else str(worker.error)
