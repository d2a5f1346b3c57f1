"""The servers in turn, over several rounds: whatever else the machine does meets all of them alike."""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from http.client import HTTPException

from benchmarks import load, processes
from benchmarks.doors import DOORS, Answer
from benchmarks.findings import Setting
from benchmarks.load import Load
from benchmarks.pictures import http_requests
from benchmarks.samples import Sample, Visit, merit
from benchmarks.servers import Running, Server, pinned, start
from benchmarks.workloads import Workload

CHECKED_INSTANCES = 32
# a server that is ready and still refuses its first requests is given this long
FIRST_ANSWER_TIMEOUT_S = 20.0
# variants of a peer that came this near to its best one in the first round are measured on
NEAR = 0.9
_POLL_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What all rounds found.

    Attributes:
        visits: Of each server, by its name.
        absent: Why a server could not be measured, or not in all rounds, by its name.
    """

    visits: dict[str, list[Visit]]
    absent: dict[str, str]


def run(servers: Sequence[Server], workload: Workload, setting: Setting) -> Found:
    """Measure all servers, in turn.

    After the first round, variants of a peer that were clearly not its best under a load are not put under it again.

    Args:
        servers: The first is the one that the others' answers are held against.
        workload: What they are asked.
        setting: How often and how long.

    Raises:
        RuntimeError: The first could not be started.
        ValueError: The first did not answer.
    """
    found = Found(visits={server.name: [] for server in servers}, absent={})
    loads = {server.name: workload.clients for server in servers}
    reference: list[Answer] = []
    for number in range(1, setting.rounds + 1):
        for server in servers:
            if server.name in found.absent or not loads[server.name]:
                continue
            try:
                work = partial(_visit, server, workload, loads[server.name], setting, reference)
                visit, other_cores = setting.patience.measure(work)
            except (OSError, RuntimeError, ValueError, HTTPException) as exc:
                if server is servers[0]:
                    raise
                found.absent[server.name] = _in_one_line(exc)
                setting.tell(f"{workload.name}, round {number}, {server.name}: {found.absent[server.name]}")
                continue
            found.visits[server.name].append(replace(visit, other_cores=other_cores))
            figures = ", ".join(f"{count}: {sample.requests_per_s:,.0f}/s" for count, sample in visit.samples.items())
            setting.tell(
                f"{workload.name}, round {number} of {setting.rounds}, {server.name}: {figures}; "
                f"others took {other_cores:.2f} of a core"
            )
        if number == 1:
            loads = worth_more_rounds(servers, found.visits, workload.clients)
    return found


def worth_more_rounds(
    servers: Sequence[Server], visits: Mapping[str, Sequence[Visit]], clients: Sequence[int]
) -> dict[str, tuple[int, ...]]:
    """Return the loads to go on with, by server: where it came near to the best variant of its peer."""
    loads: dict[str, tuple[int, ...]] = {}
    for server in servers:
        family = [visits[other.name] for other in servers if (other.peer or other.name) == (server.peer or server.name)]
        own = visits[server.name]
        loads[server.name] = tuple(
            count
            for count in clients
            if own and merit(own, count) >= NEAR * max(merit(one, count) for one in family if one)
        )
    return loads


def _visit(
    server: Server, workload: Workload, clients: Sequence[int], setting: Setting, reference: list[Answer]
) -> Visit:
    """Start a server, hold its answers against the reference, which the first one fills, and put it under loads."""
    door = DOORS[server.door]
    bodies = [door.body(workload, value) for value in workload.values]
    with start(server, setting.server_core) as running:
        ready_s = _first_answer(running, server, bodies[0]) - running.started_at
        if processes.cores(running.pids()) != {setting.server_core}:
            processes.pin(running.pids(), setting.server_core)
        if server.door != "none":
            _expect_same(running, server, workload, bodies[:CHECKED_INSTANCES], reference)
        resident = [running.resident_bytes() / 1e6]
        requests = http_requests(server.path, bodies, door.content_type)
        samples = {}
        with pinned(setting.load_core):
            for count in clients:
                shape = Load(clients=count, warm_up_s=setting.warm_up_s, measured_s=setting.seconds)
                samples[count] = _sample(running, requests, shape)
                resident.append(running.resident_bytes() / 1e6)
        return Visit(
            ready_s=ready_s,
            resident_ready_mb=resident[0],
            resident_loaded_mb=max(resident[1:]),
            num_processes=len(running.pids()),
            samples=samples,
        )


def _sample(running: Running, requests: Sequence[bytes], shape: Load) -> Sample:
    try:
        result = load.run(running.port, requests, shape, running.computed_s)
    except (OSError, TimeoutError) as exc:  # it does not even take the connections
        nan = float("nan")
        return Sample(
            requests=0, requests_per_s=0, p50_ms=nan, p90_ms=nan, p99_ms=nan, server_us=nan, generator_busy=0,
            failures=shape.clients, faults=f"{shape.clients} connections could not be opened ({type(exc).__name__})",
        )  # fmt: skip
    return Sample(
        requests=result.requests,
        requests_per_s=result.requests_per_s,
        p50_ms=result.percentile_ms(50),
        p90_ms=result.percentile_ms(90),
        p99_ms=result.percentile_ms(99),
        server_us=result.metered / result.requests * 1e6 if result.requests else float("nan"),
        generator_busy=result.busy,
        failures=result.failures.total(),
        faults=", ".join(f"{count} x {what}" for what, count in result.failures.most_common()),
    )


def _first_answer(running: Running, server: Server, body: bytes) -> float:
    """Ask until the answer is good; return when that was."""
    until = time.perf_counter() + FIRST_ANSWER_TIMEOUT_S
    while True:
        status, answer = running.ask("POST", server.path, body, DOORS[server.door].content_type)
        if status == 200:
            return time.perf_counter()
        if (status < 500 and status != 404) or time.perf_counter() > until:
            raise ValueError(f"{server.name} answers {status}: {answer[:200]!r}")
        time.sleep(_POLL_S)


def _expect_same(
    running: Running, server: Server, workload: Workload, bodies: Sequence[bytes], reference: list[Answer]
) -> None:
    """Ask for the same instances as the first server: whoever answers otherwise is not measured for the same work.

    Raises:
        ValueError: A decision differs, or a number by more than the tolerance.
    """
    door = DOORS[server.door]
    answers = []
    for body in bodies:
        status, answer = running.ask("POST", server.path, body, door.content_type)
        if status != 200:
            raise ValueError(f"{server.name} answers {status}: {answer[:200]!r}")
        try:
            answers.append(door.read(workload, answer))
        except (KeyError, IndexError, TypeError, AttributeError) as exc:
            raise ValueError(f"{server.name} answers in another form: {answer[:200]!r}") from exc
    if not reference:
        reference += answers
    for index, (expected, given) in enumerate(zip(reference, answers, strict=True)):
        if not given.says_the_same_as(expected):
            raise ValueError(f"instance {index}: the service answers {expected}, {server.name} {given}")


def _in_one_line(exc: Exception) -> str:
    """Return the last words of an error, without what names this machine."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()] or [type(exc).__name__]
    return re.sub(r"/\S+/", ".../", lines[-1])[:300]
