"""A version that answers nobody: it computes a copy of what another version has answered, and is held against it.

::

    the serving version's batch is answered ──▶ drawn? ──▶ within the budget, room? ──▶ kept, as a copy
                                                                                         │ nobody waits for an answer
        figures ◀── compared ◀── computed on a thread of its own, one batch at a time ◀──┘

The serving version's callers have their answers before any of this begins, and nothing of it can raise into their way.
A batch is kept and computed as it was, so that both versions are timed on the same rows in the same company. The shadow
gives way: it begins only while no other version has anything to do, and owes the time that it took until as much has
come in again (:mod:`app.serving.budget`). Its thread has the priority of the others: at a lower one it would be timed
waiting for a core, and could be kept from one while it holds Python's lock.
"""

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import NamedTuple, TypeAlias

from app.comparison import Comparison
from app.metrics import Metrics
from app.serving.agreement import Agreement
from app.serving.budget import Budget
from app.serving.isolation import BatchResult
from app.serving.jobs import Slice, join
from app.serving.policy import Shadow as Wish
from app.serving.versions import State, Version
from app.tensors import Tensors, batches, num_rows, take

logger = logging.getLogger("app.shadow")

# of what waits to be computed; a single batch beyond them is kept where nothing else is
MAX_KEPT_ROWS = 1024
MAX_KEPT_BYTES = 32 * 1024 * 1024
# between two looks whether the others have come to rest
GIVE_WAY_S = 0.002

Key: TypeAlias = tuple[str, str, str, str]


class _Kept(NamedTuple):
    """One batch that was answered.

    Attributes:
        inputs: Of all its rows, and nobody else's.
        outputs: What the serving version made of them.
        rows: How many.
        serving_s: Seconds that it computed.
    """

    inputs: Tensors
    outputs: Tensors
    rows: int
    serving_s: float

    @property
    def num_bytes(self) -> int:
        return sum(array.nbytes for tensors in (self.inputs, self.outputs) for array in tensors.values())


class _Found(NamedTuple):
    """What came of one batch: counts of rows, differences, seconds."""

    agreed: int = 0
    disagreed: int = 0
    failed: int = 0
    max_difference: float = 0.0
    difference_sum: float = 0.0
    shadow_s: float = 0.0
    sick_because: str | None = None


class Shadow:
    """Compares one version with the one that serves, in one process. All methods run on the event loop's thread.

    Args:
        serving: Whose batches are copied; it is ready.
        version: Who is compared with it; it is ready too.
        wish: The shares, and how far apart answers may be.
        metrics: Told of every row that was drawn.
        key: Of the comparison in ``metrics.comparisons``.
        is_calm: Tells whether no other version has anything to do.
        clock: Monotonic seconds.
        draw: Returns numbers from 0 to 1, uniformly drawn.

    Attributes:
        serving, version, wish, key: As given.
        agreement: When two answers agree.
    """

    def __init__(
        self,
        serving: Version,
        version: Version,
        wish: Wish,
        metrics: Metrics,
        key: Key,
        *,
        is_calm: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        assert version.bundle is not None
        assert version.batcher is not None
        assert serving.batcher is not None
        self.serving, self.version, self.wish = serving, version, wish
        self._serving_batcher, self._batcher = serving.batcher, version.batcher
        self._bounds = version.bundle.manifest.batching  # which may be narrower than those of the serving version
        self.agreement = Agreement(version.bundle.manifest, version.backend_name or "", wish.tolerance)
        self._metrics, self.key = metrics, key
        self._is_calm = is_calm
        self._clock, self._draw = clock, draw
        self._threads = 1 if version.plan is None else version.plan.threads
        self._budget = Budget(wish.cpu_share, clock=clock)
        self._loop = asyncio.get_running_loop()
        self._kept: deque[_Kept] = deque()
        self._kept_rows = self._kept_bytes = 0
        self._running: _Kept | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._own_executor: ThreadPoolExecutor | None = None
        self._executor = self._take_thread()
        self._serving_batcher.tap = self._offer

    @property
    def is_in_place(self) -> bool:
        """Whether both versions still serve, by the queues that it knows."""
        return (
            not self._is_closed
            and self.serving.state is State.READY
            and self.version.state is State.READY
            and self.serving.batcher is self._serving_batcher
            and self.version.batcher is self._batcher
        )

    @property
    def is_under_way(self) -> bool:
        """Whether a batch is being computed, after the end too."""
        return self._running is not None

    @property
    def _comparison(self) -> Comparison:
        return self._metrics.comparisons[self.key]

    def _take_thread(self) -> Executor:
        """Return the one thread of the version, on which its own batches run too: its backend is called one at a time.

        A version whose batches run on the event loop is moved to a thread meanwhile, or it could hang the service.
        """
        if self.version.executor is not None:
            return self.version.executor
        self._own_executor = ThreadPoolExecutor(1, thread_name_prefix=f"shadow-{self.version.label}")
        self._batcher.executor = self._own_executor
        self.version.runs_on = "thread"
        return self._own_executor

    def close(self) -> None:
        """Look on no more. What is computed now is finished, and counted nowhere, but where it has made it sick."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._serving_batcher.tap == self._offer:
            self._serving_batcher.tap = None
        if self._timer is not None:
            self._timer.cancel()
        if (
            self._running is not None and self.version.state is State.SICK
        ):  # it hangs; app/serving/health.py has seen it
            self._count("failed", self._running.rows)
        self._kept.clear()
        if self._running is None:
            self._give_thread_back()

    def _give_thread_back(self) -> None:
        executor, self._own_executor = self._own_executor, None
        if executor is not None:
            self._batcher.executor = None
            if self.version.state is State.READY:
                self.version.runs_on = "loop"
            executor.shutdown(wait=False)

    def _offer(self, slices: list[Slice], result: BatchResult) -> None:
        """Take a batch that was answered, or leave it."""
        if result.is_split or self._draw() >= self.wish.share:  # split: some rows have no answer to compare with
            return
        rows = sum(stop - start for _, start, stop in slices)
        if self._budget.wait_s() > 0:
            self._count("over_budget", rows)
        elif self._kept_rows and self._kept_rows + rows > MAX_KEPT_ROWS:
            self._count("dropped", rows)
        else:
            self._kept_rows += rows
            # behind the callers who were answered in this very step, and are yet to be woken up
            self._loop.call_soon(self._keep, slices, result, rows)

    def _keep(self, slices: list[Slice], result: BatchResult, rows: int) -> None:
        if self._is_closed:
            return
        inputs = join(slices)
        if len(slices) == 1:  # else they are copied already
            inputs = {name: array.copy() for name, array in inputs.items()}
        kept = _Kept(inputs, result.outputs, rows, result.compute_s)
        if self._kept_bytes and self._kept_bytes + kept.num_bytes > MAX_KEPT_BYTES:
            self._kept_rows -= rows
            self._count("dropped", rows)
            return
        self._kept_bytes += kept.num_bytes
        self._kept.append(kept)
        if self._timer is None:
            self._look()

    def _look(self) -> None:
        """Compute the next batch, if it is time to."""
        self._timer = None
        if self._running is not None or not self._kept or self.version.state is not State.READY:
            return
        wait_s = self._budget.wait_s()
        if wait_s > 0 or not self._is_calm():
            self._timer = self._loop.call_later(max(wait_s, GIVE_WAY_S), self._look)
            return
        self._running = kept = self._kept.popleft()
        self._kept_bytes -= kept.num_bytes
        self.version.is_lent = True
        began_at = self._clock()
        try:
            computing = self._loop.run_in_executor(self._executor, self._compute, kept)
        except RuntimeError as exc:  # no thread can be started, or it was stopped with its version
            self._settle(kept, began_at, _Found(failed=kept.rows), told=str(exc))
            return
        computing.add_done_callback(lambda done: self._settle_from_thread(kept, began_at, done))

    def _compute(self, kept: _Kept) -> _Found:
        """Compute and compare one batch, on the thread."""
        total, start = _Found(), 0
        for part in batches(kept.inputs, max_rows=self._bounds.max_rows, max_elements=self._bounds.max_elements):
            stop = start + num_rows(part)
            found = self._compare(part, take(kept.outputs, start, stop))
            if found.sick_because is not None:
                return _Found(failed=kept.rows, sick_because=found.sick_because)
            total, start = _sum(total, found), stop
        return total

    def _compare(self, inputs: Tensors, outputs: Tensors) -> _Found:
        result = self._batcher.compute(inputs)
        rows, failed = num_rows(inputs), len(result.rejected_rows)
        if result.sick_because is not None or failed == rows:
            return _Found(failed=rows, sick_because=result.sick_because)
        compared = self.agreement.compare(outputs, result.outputs)
        agree_B, difference_B = compared.agree_B, compared.difference_B
        if failed:
            well = [row for row in range(rows) if row not in set(result.rejected_rows)]
            agree_B, difference_B = agree_B[well], difference_B[well]
        agreed = int(agree_B.sum())
        return _Found(
            agreed=agreed,
            disagreed=rows - failed - agreed,
            failed=failed,
            max_difference=float(difference_B.max()),
            difference_sum=float(difference_B.sum()),
            shadow_s=result.compute_s,
        )

    def _settle_from_thread(self, kept: _Kept, began_at: float, done: "asyncio.Future[_Found]") -> None:
        if done.cancelled():
            self._settle(kept, began_at, _Found(failed=kept.rows), told="the thread was stopped")
        elif (error := done.exception()) is not None:  # a defect of ours, and the service goes on
            logger.error("%s: a batch could not be compared", self.version.label, exc_info=error)
            self._settle(kept, began_at, _Found(failed=kept.rows))
        else:
            self._settle(kept, began_at, done.result())

    def _settle(self, kept: _Kept, began_at: float, found: _Found, *, told: str = "") -> None:
        """Count what came of a batch, and go on with the next."""
        self._running = None
        self.version.is_lent = False
        self._kept_rows -= kept.rows
        # by the clock, the way to the thread and back included: where it waits for a core, others want that core
        self._budget.spend((self._clock() - began_at) * self._threads)
        if self._is_closed:
            self._give_thread_back()
            return
        if told:
            logger.warning("%s: a batch was not computed: %s", self.version.label, told)
        self._record(kept, found)
        if found.sick_because is not None:
            self._batcher.turn_sick(found.sick_because)
        self._look()

    def _record(self, kept: _Kept, found: _Found) -> None:
        for outcome in ("agreed", "disagreed", "failed"):
            self._count(outcome, getattr(found, outcome))
        compared = found.agreed + found.disagreed
        if not compared:
            return
        comparison = self._comparison
        comparison.max_difference = max(comparison.max_difference, found.max_difference)
        comparison.difference_sum += found.difference_sum
        if found.failed:  # what was computed over and over, to find the rows that fail, says nothing of the others
            return
        comparison.timed += kept.rows
        comparison.serving_s += kept.serving_s
        comparison.shadow_s += found.shadow_s
        for of, seconds in (("serving", kept.serving_s), ("shadow", found.shadow_s)):
            self._metrics.shadow_s[self.key[0], str(self.version.ref.version), of].observe(seconds / kept.rows)

    def _count(self, outcome: str, rows: int) -> None:
        if rows:
            self._comparison.count(outcome, rows)
            self._metrics.shadow_rows[self.key[0], str(self.version.ref.version), outcome] += rows


def _sum(one: _Found, other: _Found) -> _Found:
    return _Found(
        agreed=one.agreed + other.agreed,
        disagreed=one.disagreed + other.disagreed,
        failed=one.failed + other.failed,
        max_difference=max(one.max_difference, other.max_difference),
        difference_sum=one.difference_sum + other.difference_sum,
        shadow_s=one.shadow_s + other.shadow_s,
    )
