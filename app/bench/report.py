"""What was measured, as a table for people and as JSON for programs."""

import dataclasses
import math
from datetime import UTC, datetime
from typing import Any

from app import __version__
from app.bench.histogram import PERCENTS, Histogram
from app.bench.plans import ClosedLoop, Plan
from app.bench.tally import Result

# above this share of a core the generator may have been what was measured
_BUSY = 0.9


def table(result: Result, plan: Plan, *, within_ms: float | None, tuning_ignored: str | None = None) -> str:
    """Return the report that is printed."""
    lines = [_how(plan), ""]
    lines += _counts(result, plan, within_ms)
    if result.response.count:
        lines += ["", *_times(result, plan)]
    lines += [f"note: {note}" for note in notes(result, plan, tuning_ignored)]
    return "\n".join(lines)


def notes(result: Result, plan: Plan, tuning_ignored: str | None = None) -> list[str]:
    """Return what a reader has to know before the figures are believed."""
    found: list[str] = []
    if result.was_stopped:
        found.append(f"stopped after {result.seconds:.2f} s; these are the figures until then")
    if not result.response.count:
        found.append("no request was answered with 200, so there are no times")
    if result.busy > _BUSY:
        found.append(f"the load itself was busy {result.busy:.0%} of the time: it may have been the limit")
    lag_ms = result.lag.percentile_ms(99)
    if not isinstance(plan, ClosedLoop) and lag_ms > max(1.0, 0.1 * result.response.percentile_ms(50)):
        found.append(
            f"1% of the requests were written {lag_ms:.2f} ms or more late: the load, or the machine, was busy"
        )
    if tuning_ignored is not None:
        found.append(f"the model is not served as it was tuned: {tuning_ignored}")
    return found


def document(
    result: Result,
    plan: Plan,
    *,
    within_ms: float | None,
    asked: dict[str, Any],
    environment: dict[str, str],
    tuning_ignored: str | None = None,
) -> dict[str, Any]:
    """Return everything, ready for JSON.

    Args:
        result: What was measured.
        plan: How.
        within_ms: The bound of goodput.
        asked: What the caller asked for.
        environment: What figures depend on, before the load was kept to a core of its own.
        tuning_ignored: Why the model is not served as it was tuned, where it was.
    """
    kind = "closed" if isinstance(plan, ClosedLoop) else "open"
    return {
        "version": __version__,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": environment,
        "asked": asked,
        "plan": {"loop": kind, **dataclasses.asdict(plan)},
        "seconds": result.seconds,
        "was_stopped": result.was_stopped,
        "requests": result.requests,
        "outcomes": dict(result.outcomes),
        "answered_per_s": result.requests_per_s,
        "goodput_per_s": result.goodput_per_s(within_ms),
        "within_ms": within_ms,
        "late": result.late,
        "retry_after_s": {str(seconds): count for seconds, count in sorted(result.retry_after_s.items())},
        "bytes_received": result.bytes_received,
        "bytes_sent": result.bytes_sent,
        "load_busy": result.busy,
        "response_ms": result.response.summary_ms(),
        "service_ms": result.service.summary_ms(),
        "refused_ms": result.refused.summary_ms(),
        "lag_ms": result.lag.summary_ms(),
        "response_histogram": _steps(result.response),
        "service_histogram": _steps(result.service),
        "timeline": [dict(second) for second in result.timeline],
        "notes": notes(result, plan, tuning_ignored),
    }


def _how(plan: Plan) -> str:
    if isinstance(plan, ClosedLoop):
        how = f"closed loop, {plan.clients} clients"
    else:
        how = f"open loop, {plan.rate:g} requests/s ({plan.arrivals}), up to {plan.connections} connections"
    return f"{how}, {plan.measured_s:g} s after {plan.warm_up_s:g} s of warm-up"


def _counts(result: Result, plan: Plan, within_ms: float | None) -> list[str]:
    rows = [("answered with 200", f"{result.answered}", f"{result.requests_per_s:.1f}/s")]
    if within_ms is not None:
        good = result.goodput_per_s(within_ms)
        rows.append((f"of these within {within_ms:g} ms", f"{good * result.seconds:.0f}", f"{good:.1f}/s"))
    for outcome, count in sorted(result.outcomes.items()):
        if outcome != "200":
            name = f"answered with {outcome}" if outcome.isdigit() else outcome
            rows.append((name, f"{count}", f"{count / result.seconds:.1f}/s"))
    if result.retry_after_s:
        least, most = min(result.retry_after_s), max(result.retry_after_s)
        after = f"{least} s" if least == most else f"{least} to {most} s"
        rows.append(("Retry-After of refusals", after, ""))
    if not isinstance(plan, ClosedLoop):
        rows.append(("waited for a connection", f"{result.late}", ""))
    rows.append(
        (
            "received",
            f"{result.bytes_received / 1e6:.2f} MB",
            f"{result.bytes_received / result.seconds / 1e6:.2f} MB/s",
        )
    )
    return [f"{name:<26}{count:>14}{rate:>16}".rstrip() for name, count, rate in rows]


def _times(result: Result, plan: Plan) -> list[str]:
    columns: list[tuple[str, Histogram]] = [("response ms", result.response)]
    if not isinstance(plan, ClosedLoop):
        columns.append(("service ms", result.service))
    if result.refused.count:
        columns.append(("refused ms", result.refused))
    lines = [f"{'':<10}" + "".join(f"{name:>14}" for name, _ in columns)]
    for percent in PERCENTS:
        cells = "".join(_cell(histogram.percentile_ms(percent)) for _, histogram in columns)
        lines.append(f"{f'p{percent:g}':<10}{cells}")
    lines.append(f"{'max':<10}" + "".join(_cell(h.max_ns / 1e6 if h.count else math.nan) for _, h in columns))
    lines.append(f"{'mean':<10}" + "".join(_cell(h.mean_ms) for _, h in columns))
    return lines


def _cell(value: float) -> str:
    return f"{'-' if math.isnan(value) else f'{value:.3f}':>14}"


def _steps(histogram: Histogram) -> list[list[float]]:
    """Return upper end in milliseconds and count of every step that is not empty."""
    return [[step.highest_ns / 1e6, step.count] for step in histogram.steps()]
