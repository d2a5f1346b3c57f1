"""Versions come and go in this worker while it serves.

What is new is loaded, proven and warmed up beside what answers, and takes its place in one step; what it has replaced
answers what waits for it, and is freed.

What does not prove never answers. Its reason stays on its version; what answered before goes on.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Protocol

from app import memory
from app.bundle.loader import Bundle, BundleRef, find_versions
from app.bundle.manifest import NAME_PATTERN
from app.errors import BundleError, NotLoaded, UnknownModel
from app.metrics import Metrics
from app.serving.catalog import Catalog, ContractCheck
from app.serving.policy import Policy
from app.serving.state import Desired
from app.serving.threads import on_daemon_thread
from app.serving.versions import Model, State, Version, policy_at_start, read_version
from app.settings import Settings

logger = logging.getLogger("app.catalog")

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

    def close(self, name: str) -> None:
        """Let in no request for a model any more: there is none."""
        ...


class Swap:
    """Brings what is loaded here to what is wished, one change of a model after the other.

    Args:
        catalog: What is changed.
        settings: Of the service.
        doors: Told of new models.
        check_contract: As of :meth:`app.serving.catalog.Catalog.load`.
        metrics: Told how every version came out of it.
    """

    def __init__(
        self, catalog: Catalog, settings: Settings, *, doors: Doors, check_contract: ContractCheck, metrics: Metrics
    ) -> None:
        self._catalog = catalog
        self._settings = settings
        self._doors = doors
        self._check_contract = check_contract
        self._metrics = metrics
        self._is_unsettled = False  # something was loaded, or let go

    @property
    def models(self) -> Mapping[str, Model]:
        """Those of the catalog, by name."""
        return self._catalog.models

    def desired_at_start(self, name: str) -> Desired:
        """Return what the settings wish of a model."""
        return Desired.at_start(policy_at_start(self._settings, name))

    def begin(self, name: str, desired: Desired, known: Collection[int]) -> None:
        """Start with what is wished of a model, before it is loaded.

        Args:
            name: Of the model.
            desired: What is wished.
            known: The versions that count, beside those that the policy names; others have come to the disk since.
        """
        model = self.models.get(name)
        if model is None:
            return
        policy = desired.policy
        model.adopt(policy)
        if counting := [each for each in model.versions if each.ref.version in policy.named.union(known)]:
            model.versions[:] = counting
        pinned = policy.pinned
        if pinned is not None and model.numbered(pinned) is None:
            # nobody else answers in its place
            folder = self._settings.models_dir / name / str(pinned)
            missing = Version(ref=BundleRef(name=name, version=pinned, folder=folder))
            missing.fail("its folder is not there, and the policy pins it")
            model.put(missing)
        if not desired.loaded:
            model.is_unloaded = True
            for version in model.versions:
                version.release()

    def forget(self, name: str) -> None:
        """Begin without a model that the others do not serve; see :meth:`app.serving.catalog.Catalog.forget`."""
        self._catalog.forget(name)
        self._doors.close(name)

    def numbers(self, name: str) -> tuple[int, ...]:
        """Return the versions of a model that there are here, in whatever state."""
        model = self.models.get(name)
        return () if model is None else tuple(version.ref.version for version in model.versions)

    def ready(self, name: str) -> tuple[str, ...]:
        """Return the versions of a model that serve here."""
        model = self.models.get(name)
        return () if model is None else tuple(str(v.ref.version) for v in model.versions if v.state is State.READY)

    def default(self, name: str) -> int | None:
        """Return the version that answers where none is asked for; None where none does."""
        model = self.models.get(name)
        return None if model is None or model.default.state is not State.READY else model.default.ref.version

    async def is_on_disk(self, name: str) -> bool:
        """Whether the models folder has versions of a model."""
        # what is no name may be a path that leads elsewhere
        return re.fullmatch(NAME_PATTERN, name) is not None and bool(await self._on_disk(name))

    async def carry_out(self, name: str, desired: Desired, *, known: Collection[int] | None) -> None:
        """Bring a model to what is wished of it.

        Args:
            name: Of the model.
            desired: What is wished.
            known: The versions that count, beside those that the policy names; None where the disk is to be read anew,
                and those that are new, changed or gone there count.

        Raises:
            UnknownModel: No such model.
            NotLoaded: Not all that is wished could be loaded. Where the policy names what could not, it is not adopted.
        """
        async with self._catalog.lock(name):
            try:
                await (
                    self._serve(name, desired.policy, known) if desired.loaded else self._unload(name, desired.policy)
                )
            finally:
                if self._is_unsettled:  # it holds the event loop up
                    self._is_unsettled = False
                    memory.settle()

    async def _on_disk(self, name: str) -> list[BundleRef]:
        return sorted(await on_daemon_thread(partial(find_versions, self._settings.models_dir / name)))

    async def _serve(self, name: str, policy: Policy, known: Collection[int] | None) -> None:
        refs = await self._on_disk(name)
        if not refs and known is None:
            raise NotLoaded(f"the folder of {name} holds no version any more; what is served of it stays as it is")
        model = self.models.get(name) or Model(name=name, policy=policy)
        before = model.default if model.versions and model.default.state is State.READY else None
        try:
            failed = await self._bring_wanted(model, policy, refs, reads=known is None)
            failed += self._absent(model, policy, refs)
            if policy != model.policy and not self._are_ready(model, policy.named):
                raise NotLoaded(_told(failed, self.ready(name)))
            model.adopt(policy)
            self._catalog.shadows.settle()  # before the call is answered
        finally:
            for version in model.versions:
                version.is_held = False
            if self.ready(name):
                model.is_unloaded = False
            self._tell_of_switch(model, before)
            await self._free(model, {ref.version for ref in refs}, known)
        if failed:
            raise NotLoaded(_told(failed, self.ready(name)))

    async def _bring_wanted(self, model: Model, policy: Policy, refs: Sequence[BundleRef], *, reads: bool) -> list[str]:
        """Bring up what a policy wants; return what is wrong with those that failed."""
        by_number = {ref.version: ref for ref in refs}
        failed = []
        for number in policy.in_order(by_number):
            known = model.numbered(number)
            is_asked_for = reads or number in policy.named or (known is not None and known.state is State.UNLOADED)
            if is_asked_for and model.wants(number, policy):
                version = await self._bring(model, by_number[number])
                if version.state is not State.READY:
                    failed.append(f"{version.label}: {version.reason or version.state}")
        return failed

    def _absent(self, model: Model, policy: Policy, refs: Sequence[BundleRef]) -> list[str]:
        """Tell which versions a policy names that neither lie on the disk nor serve."""
        absent = policy.named - {ref.version for ref in refs}
        return [
            f"{model.name}/{number}: it is not in the models folder"
            for number in sorted(absent)
            if not self._are_ready(model, {number})
        ]

    def _are_ready(self, model: Model, numbers: Collection[int]) -> bool:
        versions = [model.numbered(number) for number in numbers]
        return all(version is not None and version.state is State.READY for version in versions)

    async def _bring(self, model: Model, ref: BundleRef) -> Version:
        """Bring up a version as it lies on the disk, unless just that serves; return what became of it.

        What serves under its number is replaced once the new one is proven, and otherwise stays. What was sick stays so
        where it still does not prove: it has served, and is brought back by itself.
        """
        found = await on_daemon_thread(partial(read_version, ref, model, self._catalog.keys))
        current = model.numbered(ref.version)
        is_served = current is not None and current.state is State.READY
        was_sick = current is not None and current.state is State.SICK
        is_same = current is not None and found.stamp == current.stamp and found.manifest_read == current.manifest_read
        if current is not None and is_served and is_same:
            current.reason = ""
            return current
        if not is_served:  # seen from now on, in whatever state
            # others of its swap are still to come, and then all count at once
            found.is_held = bool(self.ready(model.name))
            model.put(found)
            self._catalog.models.setdefault(model.name, model)
        if found.state is not State.FAILED:
            await self._admit(model, found)
        if found.state is State.LOADING:
            self._is_unsettled = True
            await self._catalog.bring_up(found, self._check_contract)
        if is_same and was_sick and found.state is State.FAILED and found.bundle is not None:
            found.become(State.SICK, found.reason)
        self._metrics.swaps[model.name, "loaded" if found.state is State.READY else "refused"] += 1
        if current is not None and is_served:
            if found.state is State.READY:
                model.put(found)
                await self._take_down([current])
            else:
                current.reason = f"what lies in its folder now is not served: {found.reason}"
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

    def _tell_of_switch(self, model: Model, before: Version | None) -> None:
        after = model.default if model.versions else None
        if before is None or after is None or after.state is not State.READY:
            return
        if after.ref.version != before.ref.version:
            self._metrics.swaps[model.name, "switched"] += 1
            logger.info("%s answers in place of %s", after.label, before.label)

    async def _free(self, model: Model, on_disk: Collection[int], known: Collection[int] | None) -> None:
        """Take down what is no longer wanted; forget what no longer counts, but never what answers."""
        policy, default = model.policy, model.default if model.versions else None
        stays = policy.named.union(number for number in on_disk if known is None or number in known)
        gone: list[Version] = []
        if on_disk and any(v.state is State.READY and v.ref.version in stays for v in model.versions):
            gone = [version for version in model.versions if version.ref.version not in stays]
            model.versions[:] = [version for version in model.versions if version.ref.version in stays]
            default = model.default
        for version in model.versions:
            if version.state is State.READY and version.ref.version not in on_disk:
                logger.warning("%s is no longer on the disk, and goes on: it is what answers", version.label)
        surplus = []
        if policy.keep == "served" and default is not None and default.state is State.READY:
            surplus = [
                version
                for version in model.versions
                if version.state is State.READY and version is not default and version.ref.version not in policy.named
            ]
        await self._take_down([*gone, *surplus])
        for version in gone:
            if model.numbered(version.ref.version) is None:  # nor has it come back meanwhile
                self._metrics.forget(model.name, str(version.ref.version))

    async def _unload(self, name: str, policy: Policy) -> None:
        model = self.models.get(name)
        if model is None:
            raise UnknownModel(name, tuple(self.models))
        model.is_unloaded = True
        model.adopt(policy)
        self._catalog.shadows.settle()
        await self._take_down(model.versions)

    async def _take_down(self, versions: Iterable[Version]) -> None:
        """Take versions out of rotation, let their queues run dry, and give back what they hold."""
        leaving = [version for version in versions if version.state is not State.UNLOADED]
        self._is_unsettled |= bool(leaving)
        # whoever is sick has nobody left to answer, and may hang
        serving = [version for version in leaving if version.state is State.READY]
        for version in leaving:
            version.retire()
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self._settings.shutdown_s
        batchers = [version.batcher for version in serving if version.batcher is not None]
        while not all(batcher.is_idle for batcher in batchers) and loop.time() < ends_at:  # noqa: ASYNC110  seldom asked
            await asyncio.sleep(_LOOK_S)
        for version in leaving:
            version.release()
            logger.info("%s unloaded", version.label)


def _told(failed: Sequence[str], ready: Sequence[str]) -> str:
    served = f"it is served as version {', '.join(ready)}" if ready else "nothing of it is served"
    return f"{'; '.join(failed)}; {served}"
