"""Several servers on one core, asked in turn: all are up, one at a time is under load, and each turn is soon over.

Whatever else the machine does meets all of them alike, and a ratio within one turn says more than one of totals.
Servers are started anew for every round, since where a process lies in memory is worth some percent by itself.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import Any

from benchmarks import load
from benchmarks.findings import Setting
from benchmarks.scenarios import _processes
from benchmarks.servers import Running, Server, pinned, start

TURNS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A server, and what it is asked: whole HTTP requests."""

    server: Server
    requests: Sequence[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One server under load in one turn.

    Attributes:
        requests_per_s: Answered with 200.
        server_us: Microseconds that the server computed for each of them.
        p50_ms: Latency that half of the answers did not exceed.
        p99_ms: Likewise, of 99 in 100.
        generator_busy: Share of its core that the load generator took.
        failures: Answers other than 200, and lost connections.
    """

    requests_per_s: float
    server_us: float
    p50_ms: float
    p99_ms: float
    generator_busy: float
    failures: int


Turn = Mapping[str, Sample]


def run(
    contenders: Sequence[Contender],
    setting: Setting,
    *,
    clients: int,
    at_the_end: Callable[[Server, Running], None] = lambda server, running: None,
) -> list[Turn]:
    """Ask all servers in turn, closed loop.

    Args:
        contenders: Whom, and what.
        setting: How often and how long.
        clients: Each with one request in flight.
        at_the_end: Called with every server before it is stopped.

    Returns:
        For every turn the sample of each, by the server's name.
    """
    turns: list[Turn] = []
    for number in range(1, setting.rounds + 1):
        with contextlib.ExitStack() as stack:
            running = [stack.enter_context(start(contender.server, setting.server_core)) for contender in contenders]
            stack.enter_context(pinned(setting.load_core))
            pairs = list(zip(contenders, running, strict=True))
            for turn in range(1 if setting.is_quick else TURNS):
                shift = turn % len(pairs)  # nobody is always the first
                in_turn = pairs[shift:] + pairs[:shift]
                samples, _ = setting.patience.measure(partial(_turn, in_turn, setting, clients))
                turns.append(samples)
            for contender, server in pairs:
                at_the_end(contender.server, server)
        setting.tell(
            f"round {number} of {setting.rounds}: "
            + ", ".join(
                f"{name} {sample.requests_per_s:,.0f}/s {sample.server_us:.1f} us" for name, sample in turns[-1].items()
            )
        )
    return turns


def _turn(pairs: Sequence[tuple[Contender, Running]], setting: Setting, clients: int) -> dict[str, Sample]:
    return {contender.server.name: ask(running, contender.requests, setting, clients) for contender, running in pairs}


def ask(running: Running, requests: Sequence[bytes], setting: Setting, clients: int) -> Sample:
    """Put one server under load, closed loop."""
    shape = load.Load(clients=clients, warm_up_s=min(0.5, setting.warm_up_s), measured_s=setting.seconds)
    return sample(load.run(running.port, requests, shape, lambda: _processes.computed_s(running.pid)))


def sample(result: load.Result) -> Sample:
    """Return what a loop measured, whose meter is the server's processor time."""
    return Sample(
        requests_per_s=result.requests_per_s,
        server_us=result.metered / max(1, result.requests) * 1e6,
        p50_ms=result.percentile_ms(50),
        p99_ms=result.percentile_ms(99),
        generator_busy=result.busy,
        failures=result.failures.total(),
    )


def middle(turns: Sequence[Turn], name: str, read: Callable[[Sample], float]) -> float:
    """Return the median of a figure of one server over all turns."""
    return median(read(turn[name]) for turn in turns)


def ratio(turns: Sequence[Turn], name: str, other: str, read: Callable[[Sample], float]) -> float:
    """Return the median, over all turns, of one server's figure divided by another's in the same turn."""
    return median(read(turn[name]) / read(turn[other]) for turn in turns)


def raw(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """Return all samples as JSON can hold them."""
    return [{name: asdict(sample) for name, sample in turn.items()} for turn in turns]


COLUMNS = ("server", "requests/s", "CPU us a request", "p50 ms", "p99 ms", "generator busy", "failed")


def row(turns: Sequence[Turn], name: str) -> list[str]:
    """Return the medians of one server as a line below ``COLUMNS``."""
    return [
        name,
        f"{middle(turns, name, lambda sample: sample.requests_per_s):,.0f}",
        f"{middle(turns, name, lambda sample: sample.server_us):.1f}",
        f"{middle(turns, name, lambda sample: sample.p50_ms):.2f}",
        f"{middle(turns, name, lambda sample: sample.p99_ms):.2f}",
        f"{middle(turns, name, lambda sample: sample.generator_busy):.0%}",
        str(sum(turn[name].failures for turn in turns)),
    ]
