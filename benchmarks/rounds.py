"""The servers in turn, over several rounds: whatever else the machine does meets all of them alike."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

from benchmarks import load, pictures
from benchmarks.calm import Patience
from benchmarks.servers import Running, Server, pinned, start

CHECKED_PICTURES = 32
# answers are rounded to float32, and a batch adds up in another order than a picture alone
TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run takes.

    Attributes:
        rounds: How often each server is started and measured.
        clients: Numbers of clients, one load after the other.
        seconds: Measured for each load.
        warm_up_s: Before each.
        server_core: Where the servers run.
        load_core: Where the load is made.
    """

    rounds: int
    clients: tuple[int, ...]
    seconds: float
    warm_up_s: float
    server_core: int
    load_core: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One load on one server.

    Attributes:
        requests_per_s: Answered with 200.
        p50_ms: Latency that half of the answers did not exceed.
        p90_ms: Likewise, of nine in ten.
        p99_ms: Likewise, of 99 in 100.
        server_us: Microseconds that the server's process computed for a request; others on the machine hardly move it.
        generator_busy: Share of its core that the load generator took.
        failures: Answers other than 200, and lost connections.
    """

    requests_per_s: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    server_us: float
    generator_busy: float
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One server in one round, from start to end.

    Attributes:
        ready_s: Seconds from its start until it was ready.
        resident_ready_mb: Resident memory once ready, in 10^6 bytes.
        resident_loaded_mb: The most that it was after any of the loads.
        samples: By number of clients.
        other_cores: How many cores other work kept busy meanwhile, in the mean.
    """

    ready_s: float
    resident_ready_mb: float
    resident_loaded_mb: float
    samples: dict[int, Sample]
    other_cores: float = 0.0


def run(
    servers: Sequence[Server], plan: Plan, patience: Patience, tell: Callable[[str], None]
) -> dict[str, list[Visit]]:
    """Measure all servers, in turn, as often as the plan says.

    Args:
        servers: The first is the one that the others' answers are held against.
        plan: How.
        patience: With other work on the machine.
        tell: Told of every visit.

    Returns:
        The visits of each server, by its name.
    """
    bodies = pictures.bodies(64)
    visits: dict[str, list[Visit]] = {server.name: [] for server in servers}
    for number in range(1, plan.rounds + 1):
        for server in servers:
            requests = pictures.http_requests(server.path, bodies)
            visit, other_cores = patience.measure(partial(_visit, server, plan, requests))
            visits[server.name].append(replace(visit, other_cores=other_cores))
            figures = ", ".join(f"{count}: {sample.requests_per_s:,.0f}/s" for count, sample in visit.samples.items())
            tell(f"round {number} of {plan.rounds}, {server.name}: {figures}; others took {other_cores:.2f} of a core")
    return visits


def _visit(server: Server, plan: Plan, requests: Sequence[bytes]) -> Visit:
    with start(server, plan.server_core) as running, pinned(plan.load_core):
        return _measure(running, plan, requests)


def _measure(running: Running, plan: Plan, requests: Sequence[bytes]) -> Visit:
    resident = [running.resident_bytes() / 1e6]
    samples = {}
    for clients in plan.clients:
        shape = load.Load(clients=clients, warm_up_s=plan.warm_up_s, measured_s=plan.seconds)
        result = load.run(running.port, requests, shape, running.computed_s)
        resident.append(running.resident_bytes() / 1e6)
        samples[clients] = Sample(
            requests_per_s=result.requests_per_s,
            p50_ms=result.percentile_ms(50),
            p90_ms=result.percentile_ms(90),
            p99_ms=result.percentile_ms(99),
            server_us=result.metered / max(1, result.requests) * 1e6,
            generator_busy=result.busy,
            failures=result.failures.total(),
        )
    return Visit(
        ready_s=running.ready_s,
        resident_ready_mb=resident[0],
        resident_loaded_mb=max(resident[1:]),
        samples=samples,
    )


def expect_same_answers(servers: Iterable[Server], core: int) -> None:
    """Ask all servers for the same pictures: whoever answers otherwise is not measured for the same work.

    Raises:
        ValueError: A label differs, or a probability by more than the tolerance.
    """
    bodies = pictures.bodies(CHECKED_PICTURES)
    first: tuple[str, list[tuple[str, float]]] | None = None
    for server in servers:
        with start(server, core) as running:
            answers = [_answer(running, server, body) for body in bodies]
        if first is None:
            first = server.name, answers
            continue
        for index, (ours, theirs) in enumerate(zip(first[1], answers, strict=True)):
            if ours[0] != theirs[0] or abs(ours[1] - theirs[1]) > TOLERANCE:
                raise ValueError(f"picture {index}: {first[0]} answers {ours}, {server.name} {theirs}")


def _answer(running: Running, server: Server, body: bytes) -> tuple[str, float]:
    status, answer = running.ask("POST", server.path, body)
    if status != 200:
        raise ValueError(f"{server.name} answers {status}: {answer[:200]!r}")
    prediction = json.loads(answer)["predictions"][0]
    return prediction["label"], prediction["probability"]


def spread(visits: Sequence[Visit], read: Callable[[Visit], float]) -> tuple[float, float, float]:
    """Return the median of a figure over the rounds, its least and its greatest."""
    values = [read(visit) for visit in visits]
    return median(values), min(values), max(values)


def middle(visits: Sequence[Visit], clients: int, read: Callable[[Sample], float]) -> float:
    """Return the median of a figure under one load."""
    return median(read(visit.samples[clients]) for visit in visits)
