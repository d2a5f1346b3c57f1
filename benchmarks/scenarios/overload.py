"""Twice as many requests as the service can answer, in an open loop: what it still answers, and how it refuses."""

import asyncio
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import uvloop

from app.bench.load import ClosedLoop, OpenLoop, Result, Target, drive
from app.bench.load import run as run_load
from app.settings import Settings
from benchmarks import pictures
from benchmarks.findings import Bar, Finding, Setting
from benchmarks.scenarios import _command, _processes, padding
from benchmarks.scenarios._bundles import MODELS_DIR
from benchmarks.scenarios._drill import DEADLINE_MS, TIMES_PEAK, Drill, Fairness, Peak
from benchmarks.servers import Running, pinned, service, start

OVERLOAD_S, QUICK_OVERLOAD_S = 60.0, 5.0
BAR_GOODPUT, AIM_GOODPUT = 0.90, 0.97
BAR_REFUSED_MS = 10.0
BAR_RECOVERY_S = 1.0
BAR_GROWTH_MB = 3.0
# what a generator computes at most before it is the limit itself
MOST_BUSY = 0.9
CLIENTS_OF_PEAK = (32, 128)
CONNECTIONS = 4096
CLIENT_HEADER = "X-Client-ID"

_SAMPLE_EVERY_S = 0.5
_PROBE_S, _PROBES, _PROBE_SHARE = 0.25, 12, 0.1
_CALM_FACTOR, _CALM_MARGIN_MS = 2.0, 5.0
_LIGHT_CLIENTS, _LIGHT_SHARE = 3, 0.02


def measure(setting: Setting) -> Finding:
    """Overload the transformer and the CNN, and then the CNN with a greedy client beside light ones."""
    headers = {"X-Request-Timeout-Ms": str(DEADLINE_MS)}
    models = {
        "transformer": with_headers(padding.text_requests(256), headers),
        "cnn": with_headers(pictures.http_requests("/predict/cnn", pictures.bodies(64)), headers),
    }
    drills: dict[str, Drill] = {}
    fairness: dict[str, Fairness] = {}
    for model, requests in models.items():
        server = service(model, MODELS_DIR)
        if "client_header" in Settings.model_fields:
            server.environ["ZTO_CLIENT_HEADER"] = CLIENT_HEADER  # type: ignore[index]
        with start(server, setting.server_core) as running, pinned(setting.load_core):
            peak = find_peak(running, requests, setting)
            setting.tell(f"{model}: at most {peak.requests_per_s:,.0f}/s, {peak.server_us:.1f} us each")
            drills[model] = overload(running, requests, peak, setting)
            setting.tell(f"{model}: {drills[model].goodput_share:.0%} of it under overload")
            fairness[model] = be_greedy(running, requests, peak, setting)
    return Finding(
        title="Overload",
        bars=tuple(bar for model, drill in drills.items() for bar in bars(model, drill)),
        table_markdown="\n\n".join((_drill_table(drills), _fairness_table(fairness))),
        notes=_notes(),
        raw={model: _raw(drill) for model, drill in drills.items()},
    )


def with_headers(requests: Sequence[bytes], headers: dict[str, str]) -> list[bytes]:
    """Return whole HTTP/1.1 requests with more headers."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
    return [b"\r\n".join((head, lines + rest)) for head, _, rest in (r.partition(b"\r\n") for r in requests)]


def find_peak(running: Running, requests: Sequence[bytes], setting: Setting) -> Peak:
    """Return the most that the service answers in a closed loop."""
    peaks = []
    for clients in CLIENTS_OF_PEAK:
        plan = ClosedLoop(clients=clients, measured_s=max(1.0, setting.seconds), warm_up_s=setting.warm_up_s)
        result = run_load(Target(port=running.port), requests, plan, lambda: _processes.computed_s(running.pid))
        server_us = result.metered / max(1, result.answered) * 1e6
        peaks.append(Peak(requests_per_s=result.requests_per_s, server_us=server_us, clients=clients))
    return max(peaks, key=lambda peak: peak.requests_per_s)


def overload(running: Running, requests: Sequence[bytes], peak: Peak, setting: Setting) -> Drill:
    """Offer twice the peak for a while, and look at the service before, meanwhile and after."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_overload(running, requests, peak, setting))


async def _overload(running: Running, requests: Sequence[bytes], peak: Peak, setting: Setting) -> Drill:
    target = Target(port=running.port)
    seconds = QUICK_OVERLOAD_S if setting.is_quick else OVERLOAD_S
    calm = OpenLoop(rate=peak.requests_per_s * _PROBE_SHARE, measured_s=1.0)
    usual_ms = (await drive(target, requests, calm)).response.percentile_ms(50)
    resident_mb: list[float] = []

    async def look() -> None:
        while True:
            resident_mb.append(running.resident_bytes() / 1e6)
            await asyncio.sleep(_SAMPLE_EVERY_S)

    plan = OpenLoop(
        rate=peak.requests_per_s * TIMES_PEAK, measured_s=seconds, connections=CONNECTIONS, opened=CONNECTIONS
    )
    looking = asyncio.create_task(look())
    overloading = asyncio.create_task(drive(target, requests, plan, lambda: _processes.computed_s(running.pid)))
    await asyncio.sleep(seconds)
    looking.cancel()
    recovered_s = await _recovery_s(target, requests, calm.rate, usual_ms)
    result = await overloading
    return Drill(peak=peak, overload=result, server_s=result.metered, resident_mb=resident_mb, recovered_s=recovered_s)


async def _recovery_s(target: Target, requests: Sequence[bytes], rate: float, usual_ms: float) -> float:
    """Probe with a light load, from now on; return when the last probe ended that saw anything unusual."""
    ended_at = asyncio.get_running_loop().time()
    recovered_s = 0.0
    for number in range(_PROBES):
        plan = OpenLoop(rate=rate, measured_s=_PROBE_S, seed=number)
        probe = await drive(target, requests, plan)
        is_usual = probe.answered == probe.requests and (
            not probe.requests or probe.response.percentile_ms(50) <= usual_ms * _CALM_FACTOR + _CALM_MARGIN_MS
        )
        if not is_usual:
            recovered_s = asyncio.get_running_loop().time() - ended_at
            if number == _PROBES - 1:
                return float("inf")
    return recovered_s


def be_greedy(running: Running, requests: Sequence[bytes], peak: Peak, setting: Setting) -> Fairness:
    """Let one client offer twice the peak, and a few others little; each says who it is in a header."""
    seconds = QUICK_OVERLOAD_S / 2 if setting.is_quick else OVERLOAD_S / 4
    target = Target(port=running.port)

    async def together() -> list[Result]:
        light = [
            request
            for each in zip(
                *(with_headers(requests, {CLIENT_HEADER: f"light-{n}"}) for n in range(_LIGHT_CLIENTS)), strict=True
            )
            for request in each
        ]
        light_rate = peak.requests_per_s * _LIGHT_SHARE * _LIGHT_CLIENTS
        greedy = OpenLoop(
            rate=peak.requests_per_s * TIMES_PEAK, measured_s=seconds, connections=CONNECTIONS, opened=CONNECTIONS
        )
        modest = OpenLoop(rate=light_rate, measured_s=seconds, seed=1)
        return list(
            await asyncio.gather(
                drive(target, light, modest),
                drive(target, with_headers(requests, {CLIENT_HEADER: "greedy"}), greedy),
            )
        )

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        light, greedy = runner.run(together())
    return Fairness(light=light, greedy=greedy)


def bars(model: str, drill: Drill) -> Iterator[Bar]:
    """Hold a drill against the bars."""
    load, share = drill.overload, drill.goodput_share
    what = f"{model}, open loop at {TIMES_PEAK:.0f} times the peak, {load.seconds:.0f} s: "
    is_limited = load.busy > MOST_BUSY
    yield Bar(
        what=what + "goodput",
        bar=f"{BAR_GOODPUT:.0%} of the peak",
        aim=f"{AIM_GOODPUT:.0%}",
        measured=f"{share:.1%}; a refusal costs {drill.refusal_us:.1f} of {drill.peak.server_us:.1f} us, which leaves "
        f"{drill.limit:.0%} at most" + (", and the generator was the limit" if is_limited else ""),
        is_met=share >= BAR_GOODPUT and not is_limited,
        is_aim_met=share >= AIM_GOODPUT and not is_limited,
    )
    answered_ms = load.response.percentile_ms(99)
    yield Bar(
        what=what + "p99 of the answered",
        bar=f"within the deadline of {DEADLINE_MS} ms",
        measured=f"{answered_ms:.0f} ms",
        is_met=answered_ms <= DEADLINE_MS,
    )
    refused_ms, refusals = drill.refused_ms(99), load.outcomes["503"]
    yield Bar(
        what=what + "p99 of the refusals",
        bar=f"under {BAR_REFUSED_MS:.0f} ms",
        measured=f"{refused_ms:.1f} ms from the write of the request" if refusals else "none was refused",
        is_met=not refusals or refused_ms < BAR_REFUSED_MS,
    )
    yield Bar(
        what=what + "memory",
        bar=f"flat: {BAR_GROWTH_MB:.0f} MB or less from the second quarter to the last",
        measured=f"{drill.growth_mb:+.1f} MB, {max(drill.resident_mb):.0f} MB at most",
        is_met=drill.growth_mb <= BAR_GROWTH_MB,
    )
    yield Bar(
        what=what + "recovery",
        bar=f"within {BAR_RECOVERY_S:.0f} s",
        measured=f"{drill.recovered_s:.2f} s",
        is_met=drill.recovered_s <= BAR_RECOVERY_S,
    )


def _drill_table(drills: dict[str, Drill]) -> str:
    head = (
        "model", "peak/s (clients)", "CPU us at the peak", "offered/s", "goodput/s", "of the peak", "CPU us a refusal",
        "limit by that", "answered p50 ms", "p99 ms", "refused p50 ms", "p99 ms", "outcomes",
        "generator busy", "sent late by p99 ms",
    )  # fmt: skip
    rows = []
    for model, drill in drills.items():
        load = drill.overload
        rows.append(
            [
                model,
                f"{drill.peak.requests_per_s:,.0f} ({drill.peak.clients})",
                f"{drill.peak.server_us:.1f}",
                f"{load.requests / load.seconds:,.0f}",
                f"{load.goodput_per_s(DEADLINE_MS):,.0f}",
                f"{drill.goodput_share:.1%}",
                f"{drill.refusal_us:.1f}",
                f"{drill.limit:.1%}",
                f"{load.response.percentile_ms(50):.1f}",
                f"{load.response.percentile_ms(99):.1f}",
                f"{drill.refused_ms(50):.2f}",
                f"{drill.refused_ms(99):.2f}",
                _outcomes(load.outcomes),
                f"{load.busy:.0%}",
                f"{load.lag.percentile_ms(99):.2f}",
            ]
        )
    return _command.table(head, rows)


def _fairness_table(fairness: dict[str, Fairness]) -> str:
    head = ("model", "client", "offered/s", "answered", "p50 ms", "p99 ms", "outcomes")
    rows = []
    for model, found in fairness.items():
        for name, load in ((f"{_LIGHT_CLIENTS} light ones", found.light), ("a greedy one", found.greedy)):
            rows.append(
                [
                    model,
                    name,
                    f"{load.requests / load.seconds:,.0f}",
                    f"{load.answered / max(1, load.requests):.1%}",
                    f"{load.response.percentile_ms(50):.1f}",
                    f"{load.response.percentile_ms(99):.1f}",
                    _outcomes(load.outcomes),
                ]
            )
    return _command.table(head, rows)


def _outcomes(outcomes: Counter[str]) -> str:
    return ", ".join(f"{name}: {count:,}" for name, count in sorted(outcomes.items()))


def _notes() -> str:
    return (
        f"Requests come at Poisson's times, {TIMES_PEAK:.0f} times as many as a closed loop got answered just before, "
        f"each with a deadline of {DEADLINE_MS} ms, over up to {CONNECTIONS:,} connections. Goodput counts answers "
        "within the deadline. An answer's time runs from when its request was due, a refusal's from when it was "
        "written, since what the generator kept back the service could not refuse; those that passed their deadline "
        "in the queue (504) are no refusals, and counted apart. What a request costs that is not "
        "answered is the server's CPU time less that of the answers at the price of the peak; from it follows what "
        "goodput one core can have left: with r the share of an answer's price, (1 - 2r) / (1 - r). Recovery is when "
        f"a light load, probed every {_PROBE_S * 1e3:.0f} ms, is answered whole and as fast as before. In the second "
        f"table one client offers twice the peak, and {_LIGHT_CLIENTS} offer {_LIGHT_SHARE:.0%} of it each; they are "
        f"told apart by {CLIENT_HEADER}"
        + ("." if "client_header" in Settings.model_fields else ", which this service does not know.")
    )


def _raw(drill: Drill) -> dict[str, Any]:
    load = drill.overload
    return {
        "peak_per_s": drill.peak.requests_per_s,
        "peak_us": drill.peak.server_us,
        "goodput_share": drill.goodput_share,
        "refusal_us": drill.refusal_us,
        "limit": drill.limit,
        "response_ms": load.response.summary_ms(),
        "refused_ms": load.refused.summary_ms(),
        "lag_ms": load.lag.summary_ms(),
        "outcomes": dict(load.outcomes),
        "timeline": [dict(second) for second in load.timeline],
        "retry_after_s": {str(seconds): count for seconds, count in load.retry_after_s.items()},
        "late": load.late,
        "generator_busy": load.busy,
        "resident_mb": list(drill.resident_mb),
        "recovered_s": drill.recovered_s,
    }


if __name__ == "__main__":
    sys.exit(_command.run(measure))
