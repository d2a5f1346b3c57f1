"""Asks one question after the other, and changes an answer only where the measurements leave no doubt.

Each step holds all else fixed and sets candidates against the choice so far: artifact, threads, rows of a batch, bound
on elements, event loop or thread, waiting for company. Within a step the candidates take turns for several rounds, so
that what the machine does meanwhile meets them all. A candidate replaces the choice where its full batch keeps the
bound, it was faster in every round, and by :data:`LEAST_GAIN` in the median of them: without any difference, five
rounds would all agree once in 32 times. In the end the whole choice has to win once more, in the same way, against the
manifest's own settings.
"""

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from app.bundle.manifest import Manifest
from app.bundle.tuning import Choice, Measured
from app.errors import BundleError, ServingError
from app.serving.catalog import LOOP_BATCH_S
from app.tune.candidates import Bounds, brief, other_elements, other_rows, other_threads, other_waits
from app.tune.measure import Bench

LEAST_GAIN = 1.03
MIN_VISIT_S, MAX_VISIT_S = 0.05, 1.0
_STEPS = 7


@dataclass(slots=True)
class _Contender:
    """A candidate of one step."""

    choice: Choice
    rates: list[float] = field(default_factory=list)
    batch_s: float | None = None
    out_because: str | None = None

    @property
    def rate(self) -> float:
        return statistics.median(self.rates) if self.rates else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What came of a search.

    Attributes:
        choice: How to serve.
        gain: Rows a second, over those with the manifest's settings; 1 where these fail.
        replaces: Whether it is another than the manifest's own settings.
        candidates: All that was measured or left out, in the order of the steps.
    """

    choice: Choice
    gain: float
    replaces: bool
    candidates: list[Measured]


class Search:
    """One search.

    Args:
        bench: Measures.
        bounds: What a choice may cost.
        time_budget_s: About how long it may take.
        rounds: How often each candidate of a step has its turn.
        tell: Given a line for each candidate.
        clock: Seconds.
    """

    def __init__(
        self,
        bench: Bench,
        bounds: Bounds,
        *,
        time_budget_s: float,
        rounds: int = 5,
        tell: Callable[[str], None] = lambda line: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._bench = bench
        self._bounds = bounds
        self._ends_at = clock() + time_budget_s
        self._rounds = rounds
        self._tell = tell
        self._clock = clock
        self._steps_left = _STEPS
        self._measured: list[Measured] = []

    async def run(self, manifest: Manifest, keys: Sequence[str], *, threads: int) -> Found:
        """Search from the manifest's own settings.

        Args:
            manifest: Of the bundle.
            keys: Artifacts that may serve; the first that can be loaded is the one that serves by itself.
            threads: Where the search begins.

        Raises:
            BundleError: None of the artifacts can be loaded and proven.
        """
        able = self._able([Choice(backend=key, threads=threads, batching=manifest.batching) for key in keys])
        default = choice = able[0]
        choice = await self._step("artifact", choice, able[1:])
        choice = await self._step("threads", choice, other_threads(choice))
        choice = await self._step("max_rows", choice, other_rows(choice, self._bounds.clients))
        choice = await self._step("max_elements", choice, other_elements(choice))
        choice = await self._step("run_on", choice, self._other_place(choice))
        choice = await self._step("max_wait_ms", choice, other_waits(choice))
        if choice == default:
            return Found(choice=default, gain=1.0, replaces=False, candidates=self._measured)
        return await self._once_more(default, choice)

    def _able(self, choices: Sequence[Choice]) -> list[Choice]:
        """Return those that can be loaded and are proven."""
        able: list[Choice] = []
        for choice in choices:
            try:
                self._bench.prove(choice)
            except BundleError as exc:
                self._note("artifact", _Contender(choice), f"left out: {exc}")
            else:
                able.append(choice)
        if not able:
            raise BundleError("; ".join(f"{m.choice.backend}: {m.verdict}" for m in self._measured) or "no artifact")
        return able

    def _other_place(self, choice: Choice) -> list[Choice]:
        now = self._bench.runs_on(choice)
        if now == "thread" and self._bench.full_batch_s(choice) > LOOP_BATCH_S:
            return []  # nobody else's request would be read meanwhile
        return [choice.model_copy(update={"run_on": "thread" if now == "loop" else "loop"})]

    async def _step(self, step: str, choice: Choice, others: Sequence[Choice]) -> Choice:
        contenders = [_Contender(choice), *(_Contender(other) for other in others)]
        if len(contenders) > 1:
            await self._measure(contenders)
            choice = self._judge(step, contenders[0], contenders[1:])
        self._steps_left -= 1
        return choice

    async def _measure(self, contenders: Sequence[_Contender]) -> None:
        """Let all have their turns; the order is reversed from round to round."""
        for contender in contenders:
            try:
                contender.batch_s = self._bench.full_batch_s(contender.choice)
            except Exception as exc:  # a runtime raises what it likes, for want of memory too
                contender.out_because = f"fails: {type(exc).__name__}: {exc}"
        running = [c for c in contenders if c.out_because is None and (c is contenders[0] or self._keeps_bound(c))]
        visits = max(1, len(running) * self._rounds * max(1, self._steps_left))
        visit_s = min(MAX_VISIT_S, max(MIN_VISIT_S, (self._ends_at - self._clock()) / visits))
        for turn in range(self._rounds):
            for contender in running if turn % 2 == 0 else running[::-1]:
                if contender.out_because is None:
                    try:
                        contender.rates.append(await self._bench.rows_per_s(contender.choice, visit_s))
                    except ServingError as exc:
                        contender.out_because = f"fails: {exc}"
            await asyncio.sleep(0)

    def _judge(self, step: str, incumbent: _Contender, others: Sequence[_Contender]) -> Choice:
        """Return the winner, and note why each of the others is none."""
        may_stay = incumbent.out_because is None and self._keeps_bound(incumbent)
        winners = [other for other in others if self._beats(other, incumbent, may_stay=may_stay)]
        winner = max(winners, key=lambda other: other.rate, default=incumbent)
        for contender in (incumbent, *others):
            self._note(step, contender, self._verdict(contender, incumbent, winner))
        return winner.choice

    def _keeps_bound(self, contender: _Contender) -> bool:
        """Tell whether a full batch is short enough; a single row cannot be made less of."""
        assert contender.batch_s is not None
        return contender.batch_s * 1e3 <= self._bounds.max_batch_ms or contender.choice.batching.max_rows == 1

    def _beats(self, other: _Contender, incumbent: _Contender, *, may_stay: bool) -> bool:
        if other.out_because is not None or not other.rates or not self._keeps_bound(other):
            return False
        if not may_stay:
            return True
        return is_faster(other.rates, incumbent.rates)

    def _verdict(self, contender: _Contender, incumbent: _Contender, winner: _Contender) -> str:
        if contender.out_because is not None:
            return f"left out: {contender.out_because}"
        if contender is winner:
            return "stays" if contender is incumbent else "taken"
        if not self._keeps_bound(contender):
            return f"left out: a full batch takes longer than {self._bounds.max_batch_ms:g} ms"
        if contender is incumbent:
            return "replaced"
        return "not taken: another is faster" if winner is not incumbent else "not taken: not faster beyond the noise"

    async def _once_more(self, default: Choice, choice: Choice) -> Found:
        contenders = [_Contender(default), _Contender(choice)]
        await self._measure(contenders)
        winner = self._judge("once more", contenders[0], contenders[1:])
        if winner == default:
            return Found(choice=default, gain=1.0, replaces=False, candidates=self._measured)
        before, after = contenders
        gain = 1.0 if before.out_because is not None or not before.rate else after.rate / before.rate
        return Found(choice=choice, gain=gain, replaces=True, candidates=self._measured)

    def _note(self, step: str, contender: _Contender, verdict: str) -> None:
        measured = Measured(
            step=step,
            choice=contender.choice,
            rows_per_s=tuple(round(rate, 1) for rate in contender.rates),
            median_rows_per_s=round(contender.rate, 1) if contender.rates else None,
            batch_ms=None if contender.batch_s is None else round(contender.batch_s * 1e3, 4),
            verdict=verdict,
        )
        self._measured.append(measured)
        self._tell(line_of(measured))


def is_faster(rates: Sequence[float], than: Sequence[float]) -> bool:
    """Tell whether rates are higher than others of the same rounds beyond what the noise of these rounds explains."""
    ratios = [rate / other for rate, other in zip(rates, than, strict=True)]
    return min(ratios) > 1 and statistics.median(ratios) >= LEAST_GAIN


def line_of(measured: Measured) -> str:
    """Return one line of the report."""
    rates = measured.rows_per_s
    rate = "" if not rates else f"{measured.median_rows_per_s:>9.1f} rows/s ({min(rates):.0f} to {max(rates):.0f})"
    batch = "" if measured.batch_ms is None else f"{measured.batch_ms:.2f} ms"
    return f"{measured.step:<13}{brief(measured.choice):<52}{rate:<34}{batch:>11}  {measured.verdict}"
