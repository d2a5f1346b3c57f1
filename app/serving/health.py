"""Keeps readiness true: sees which versions no longer answer, or answer wrong; takes them out, and brings them back.

Twice a second it looks at every version, and now and then asks it a golden row (:mod:`app.serving.canary`). A version
is taken out of rotation, ``sick`` with a reason, where

- a call of its backend does not return: on a thread, since on the event loop this look would not come, and the parent
  of the worker sees that (:mod:`app.workers.pulse`);
- a golden row comes out wrong, or fails twice in a row;
- a batch fails, and so do the golden rows after it (:mod:`app.serving.isolation`).

What is sick is loaded anew with a backend of its own, proven and warmed up as at the start, beside the sick version,
and takes its place once it is ready. Where that fails, or it is soon sick again, the next try comes after a longer
pause, for as long as it is wanted.

A thread that hangs cannot be ended. It is left behind, with the memory of its backend; when too many are, the worker
asks to be replaced.

How long a call takes is counted in looks, as the parent counts the silence of a worker: a machine that stalls makes no
backend sick.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace

from app.errors import BundleNotProven
from app.memory import settle
from app.metrics import Metrics
from app.serving.calls import Calls
from app.serving.canary import Canary, Outcome
from app.serving.catalog import Catalog, ContractCheck
from app.serving.versions import Model, State, Version
from app.settings import Settings

logger = logging.getLogger("app.health")

LOOK_S = 0.5
# a call that takes as long as so many full batches is given up
MANY_BATCHES = 10
# the first call of a backend may compile, or wait for a device
FIRST_CALL_S = 30.0
# to read a bundle and hand it to its runtime, from the slowest of disks
LOAD_S = 600.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0
MOST_HUNG = 2
# what is sick again sooner than this after it was back, waits as if it had never been
FORGOTTEN_AFTER_S = 300.0
_FAILURES_IN_A_ROW = 2
# where canaries of versions lie in their interval: the next always in the largest gap (a sequence of van der Corput's
# kind, with the golden ratio)
_GOLDEN_RATIO = 0.6180339887


class _Watch:
    """What has been seen of one version.

    Attributes:
        call: The number of the call that was under way at the last look.
        looks: At how many looks in a row it was.
        canary: Asks golden rows, once it is ready.
        ask_at: When the next is due.
        failures: How many canaries have failed in a row.
    """

    __slots__ = ("ask_at", "call", "canary", "failures", "looks")

    def __init__(self, ask_at: float) -> None:
        self.call = 0
        self.looks = 0
        self.canary: Canary | None = None
        self.ask_at = ask_at
        self.failures = 0


class Health:
    """Looks after the versions of one catalog.

    Args:
        catalog: The models.
        settings: Of the service.
        metrics: Told what became of each canary.
        check_contract: As of :meth:`app.serving.catalog.Catalog.load`.
        clock: Monotonic seconds.

    Attributes:
        has_started: Whether every version found at the start has been loaded, or could not be.
        expects_proven: Whether what cannot be proven at the start has served before, in a process that this one stands
            in for: it is sick then, and not failed.
    """

    def __init__(
        self,
        catalog: Catalog,
        settings: Settings,
        metrics: Metrics,
        *,
        check_contract: ContractCheck,
        clock: Callable[[], float],
    ) -> None:
        self._catalog = catalog
        self._settings = settings
        self._metrics = metrics
        self._check_contract = check_contract
        self._clock = clock
        self._watches: dict[Version, _Watch] = {}
        self._fresh: set[Version] = set()  # on their way into the place of a sick one
        self._healing: dict[Version, asyncio.Task[None]] = {}
        self._num_watched = 0
        self._hung: dict[Calls, str] = {}  # the label of each version whose thread was left behind
        self._lapses: dict[str, tuple[int, float]] = {}  # by label: how often it had to be loaded anew, and when it was
        self.has_started = False
        self.expects_proven = False

    @property
    def wants_out(self) -> str:
        """Why this process should be replaced; empty where it need not."""
        hung = [label for calls, label in self._hung.items() if calls.is_under_way]
        if len(hung) < MOST_HUNG:
            return ""
        return f"has {len(hung)} threads that hang in the runtime of {', '.join(sorted(set(hung)))}"

    async def keep(self) -> None:
        """Look after them, until canceled."""
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                try:
                    self.look()
                except Exception:  # a defect of ours, that must not end the watch over the others
                    logger.exception("the state of the models could not be looked at")
        finally:
            for task in self._healing.values():
                task.cancel()

    def begin(self) -> None:
        """Note that the versions found at the start have been loaded, or could not be."""
        self.has_started = True
        if self.expects_proven:
            for version in self._catalog.versions():
                if version.state is State.FAILED and version.bundle is not None:
                    version.become(State.SICK, version.reason)

    def look(self) -> None:
        """Look at every version once."""
        now = self._clock()
        self._hung = {calls: label for calls, label in self._hung.items() if calls.is_under_way}  # some come back
        # what is to replace another under its number stands in no list yet, and may hang all the same
        coming = self._catalog.coming
        versions = list(dict.fromkeys([*self._catalog.versions(), *self._fresh, *([] if coming is None else [coming])]))
        self._watches = {version: self._watches.get(version) or self._new_watch(now) for version in versions}
        for version, watch in self._watches.items():
            self._look_at(version, watch)
            if version.state is State.READY and self._settings.canary_s > 0 and now >= watch.ask_at:
                watch.ask_at = now + self._settings.canary_s
                self._ask(version, watch)
        for version in versions:
            if version.state is State.SICK and version not in self._healing and version not in self._fresh:
                self._healing[version] = asyncio.get_running_loop().create_task(self._heal(version))

    def longest_on_the_loop_s(self) -> float:
        """Return how long the event loop may be held up by a batch."""
        return max((self._bound_s(each) for each in self._catalog.versions() if each.runs_on == "loop"), default=0.0)

    def _new_watch(self, now: float) -> _Watch:
        self._num_watched += 1
        return _Watch(now + self._settings.canary_s * (self._num_watched * _GOLDEN_RATIO % 1))

    def _look_at(self, version: Version, watch: _Watch) -> None:
        """Count for how long the call that is under way has been; give it up where that is too long."""
        calls = version.calls
        if calls is None and version is self._catalog.coming:
            self._look_at_loading(version, watch)
            return
        if calls is None or not calls.is_under_way or calls.number != watch.call:
            watch.call, watch.looks = (0 if calls is None else calls.number), 0
            return
        watch.looks += 1
        taken_s = watch.looks * LOOK_S
        if taken_s < self._bound_s(version):
            return
        reason = f"its backend has not answered for {taken_s:g} s"
        if version.state is State.READY:
            self._take_out(version, reason)
        elif version.under_way is not None and not version.under_way.done():
            version.backend = None  # which the thread still uses
            version.under_way.set_exception(BundleNotProven(reason))
        else:
            return  # it was taken out already
        watch.looks = 0
        self._hung[calls] = version.label

    def _look_at_loading(self, version: Version, watch: _Watch) -> None:
        """Give up what has not been loaded for too long, by a disk that hangs: all others wait for their turn."""
        watch.looks += 1
        if watch.looks * LOOK_S >= LOAD_S and version.under_way is not None and not version.under_way.done():
            version.under_way.set_exception(BundleNotProven(f"it could not be loaded within {LOAD_S:g} s"))

    def _bound_s(self, version: Version) -> float:
        if version.state in (State.LOADING, State.PROVING) and not self._is_known(version):
            return max(FIRST_CALL_S, self._settings.hung_s)
        full_s = 0.0 if version.costs is None else version.costs.full_s
        return max(self._settings.hung_s, MANY_BATCHES * full_s)

    def _is_known(self, version: Version) -> bool:
        """Whether it has been called before, in this process or in one before."""
        return version in self._fresh or (self.expects_proven and not self.has_started)

    def _ask(self, version: Version, watch: _Watch) -> None:
        if watch.canary is None:
            batcher, bundle, golden = version.batcher, version.bundle, version.golden
            assert batcher is not None
            assert bundle is not None
            assert golden is not None
            watch.canary = Canary(
                batcher, bundle.manifest, golden, version.backend_name or "",
                on_answer=lambda outcome, why: self._on_answer(version, watch, outcome, why),
            )  # fmt: skip
        watch.canary.ask()

    def _on_answer(self, version: Version, watch: _Watch, outcome: Outcome, why: str) -> None:
        self._metrics.canaries[version.ref.name, str(version.ref.version), outcome] += 1
        if version.state is not State.READY or outcome == "refused":
            return
        if outcome == "right":
            watch.failures = 0
            return
        watch.failures += 1
        if outcome == "wrong" or watch.failures >= _FAILURES_IN_A_ROW:
            self._take_out(version, why)
        else:
            watch.ask_at = 0.0  # at the next look, to be sure

    def _take_out(self, version: Version, reason: str) -> None:
        version.sicken(reason)
        if version.batcher is not None:
            version.batcher.abandon(reason)

    def _is_wanted(self, sick: Version) -> Model | None:
        model = self._catalog.models.get(sick.ref.name)
        return model if model is not None and sick in model.versions and sick.state is State.SICK else None

    async def _heal(self, sick: Version) -> None:
        """Load it anew until it is proven, or nobody wants it any more."""
        began_at, first_reason = self._clock(), sick.reason
        lapses, back_at = self._lapses.get(sick.label, (0, began_at))
        if began_at - back_at > FORGOTTEN_AFTER_S:
            lapses = 0
        try:
            for tries, pause_s in enumerate(_pauses(lapses), 1):
                await asyncio.sleep(pause_s)
                if sick.calls is not None and sick.calls.is_under_way:  # whoever has taken it out
                    self._hung[sick.calls] = sick.label
                async with self._catalog.lock(sick.ref.name):
                    model = self._is_wanted(sick)
                    if model is None:
                        return
                    fresh = await self._load_anew(sick)
                    if fresh.state is State.READY:
                        model.put(fresh)
                        sick.release()
                        self._lapses[sick.label] = lapses + tries, self._clock()
                        logger.info(
                            "%s is back after %.1f s: it was loaded anew %d times, and is proven",
                            sick.label, self._clock() - began_at, tries,
                        )  # fmt: skip
                        settle()
                        return
                    sick.become(State.SICK, f"{first_reason}; loaded anew {tries} times, and still: {fresh.reason}")
        finally:
            self._healing.pop(sick, None)

    async def _load_anew(self, sick: Version) -> Version:
        assert sick.bundle is not None
        assert sick.manifest_read is not None
        fresh = Version(
            ref=sick.ref,
            bundle=replace(sick.bundle, manifest=sick.manifest_read),  # without what was tuned, and still as signed
            manifest_read=sick.manifest_read,
            stamp=sick.stamp,
        )
        self._fresh.add(fresh)
        try:
            await self._catalog.bring_up(fresh, self._check_contract)
        finally:
            self._fresh.discard(fresh)
        return fresh


def _pauses(lapses: int) -> Iterator[float]:
    """Yield the seconds to wait before each further try, of what had to be loaded anew so often before."""
    for doubled in itertools.count(lapses):
        yield min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(doubled, 10))
