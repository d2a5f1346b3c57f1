"""NVIDIA's ``perf_analyzer`` against this service and against Triton, over HTTP and gRPC: tensors in, tensors out."""

import contextlib
import dataclasses
import json
import math
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import analyzer, calm, comparison, recipes, workloads
from benchmarks.analyzer import Protocol
from benchmarks.environments import NotInstalled
from benchmarks.findings import Bar, Finding, Setting
from benchmarks.load import HOST
from benchmarks.markdown import number
from benchmarks.scenarios import _command
from benchmarks.servers import SERVICE_NAME, Running, Server, pinned, service, start
from benchmarks.workloads import Workload

TITLE = "The Open Inference Protocol under perf_analyzer"
PEER = "Triton"
PROTOCOLS: tuple[Protocol, ...] = ("http", "grpc")
MODEL = "cnn"
CLIENTS = (1, 2, 4, 8, 16, 32)  # requests in flight
# both servers give these, and nothing made of them
OUTPUTS = ("logits", "probabilities")
# a load takes the tool three windows and more, so these are half of what the loads take together
MAX_ROUNDS = 2
_PEER_MODEL = "bench"
_COLUMNS = (
    "protocol", "in flight", "requests/s", "p50 ms", "p99 ms", "CPU us",
    "Triton: requests/s", "p50 ms", "p99 ms", "CPU us", "ours is",
)  # fmt: skip
_NAN = float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A server, and what its model is called there."""

    server: Server
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One run of the tool.

    Attributes:
        requests_per_s: As the tool says.
        p50_ms: Likewise.
        p99_ms: Likewise.
        server_us: Microseconds that the server computed for a request, by the kernel's account and its own count of
            requests; NaN where it keeps none.
        tool_busy: Share of its core that the tool took.
        failure: What the tool complained of when it did not come to its end; the figures are NaN then.
    """

    requests_per_s: float = _NAN
    p50_ms: float = _NAN
    p99_ms: float = _NAN
    server_us: float = _NAN
    tool_busy: float = _NAN
    failure: str = ""


Load = tuple[Protocol, int]  # with so many requests in flight
Key = tuple[Protocol, int, str]  # of a load and a server's name


def measure(setting: Setting) -> Finding:
    """Run the tool against both servers, over both protocols, with 1 to 32 requests in flight."""
    try:
        analyzer.make()
    except NotInstalled as exc:
        return Finding(title=TITLE, bars=(), table_markdown=f"Not measured: perf_analyzer {exc}.", notes=_notes({}, ""))
    peers, absent = comparison.prepare([PEER])
    samples: dict[Key, list[Sample]] = {}
    others: list[float] = []
    rounds = min(setting.rounds, MAX_ROUNDS)
    for count in range(1, rounds + 1):
        others += _round(workloads.load(MODEL), list(peers.values()), setting, samples)
        setting.tell(f"perf_analyzer, round {count} of {rounds}: {_told(samples)}")
    return report(samples, absent.get(PEER, ""), others)


def _round(
    workload: Workload, peers: Sequence[recipes.Peer], setting: Setting, samples: dict[Key, list[Sample]]
) -> list[float]:
    """Start all servers, and ask them in turn, load by load; return how many cores others kept busy meanwhile."""
    others = []
    with contextlib.ExitStack() as stack:
        data = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "data.json"
        analyzer.write_data(data, rows(workload))
        running = [
            (contender, stack.enter_context(start(contender.server, setting.server_core)))
            for contender in contenders(workload, peers)
        ]
        stack.enter_context(pinned(setting.load_core))
        for load in _loads(is_quick=setting.is_quick):
            worth = [pair for pair in running if _is_worth(samples, load, pair[0].server.name)]

            def turn(worth: Sequence[tuple[Contender, Running]] = worth, load: Load = load) -> dict[str, Sample]:
                return {
                    contender.server.name: ask(contender, server, load, data, setting.seconds)
                    for contender, server in worth
                }

            found, other_cores = setting.patience.measure(turn)
            others.append(other_cores)
            for name, sample in found.items():
                samples.setdefault((*load, name), []).append(sample)
    return others


def _loads(*, is_quick: bool) -> list[Load]:
    clients = (CLIENTS[0], CLIENTS[-1]) if is_quick else CLIENTS
    return [(protocol, count) for protocol in PROTOCOLS for count in clients]


def _is_worth(samples: Mapping[Key, Sequence[Sample]], load: Load, server: str) -> bool:
    """Return whether a server is put under a load: after the first round, of the peer's settings the better one is."""
    better = _better(samples, load)
    return server == SERVICE_NAME or not better or samples.get((*load, server)) is better


def contenders(workload: Workload, peers: Sequence[recipes.Peer]) -> list[Contender]:
    """Return this service, and the peer in its settings, both with gRPC on; those with batches only."""
    ours = service(workload.name, workloads.MODELS_DIR)
    found = [
        Contender(
            server=dataclasses.replace(ours, environ={**ours.environ, "ZTO_GRPC_PORT": "{port_1}"}), model=workload.name
        )
    ]
    environ = {"BENCH_GRPC_PORT": "{port_1}", "BENCH_OUTPUTS": ",".join(OUTPUTS)}
    for peer in peers:
        found += [
            Contender(server=dataclasses.replace(server, environ={**server.environ, **environ}), model=_PEER_MODEL)
            for server in recipes.servers_of(peer, workload)[1:]
        ]
    return found


def rows(workload: Workload) -> list[dict[str, tuple[list[int], list[Any]]]]:
    """Return what is sent: pictures as float32."""
    return [
        {workload.field: ([len(picture), len(picture[0])], [float(value) for row in picture for value in row])}
        for picture in workload.values
    ]


def ask(contender: Contender, running: Running, load: Load, data: Path, seconds: float) -> Sample:
    """Run the tool once.

    Args:
        contender: Whom.
        running: The same, which is ready.
        load: How.
        data: What is sent.
        seconds: Counted, in three windows.
    """
    protocol, clients = load
    port = running.port if protocol == "http" else running.ports[1]
    before = _requests(running, contender.model), running.computed_s(), calm.waited_for_s(), time.perf_counter()
    try:
        level = analyzer.run(
            f"{HOST}:{port}", protocol, contender.model, clients=clients, data=data, window_ms=round(seconds / 3 * 1e3)
        )
    except analyzer.Failed as exc:
        return Sample(failure=str(exc))
    after = _requests(running, contender.model), running.computed_s(), calm.waited_for_s(), time.perf_counter()
    requests, server_s, tool_s, seconds = (late - early for early, late in zip(before, after, strict=True))
    return Sample(
        requests_per_s=level.requests_per_s,
        p50_ms=level.p50_ms,
        p99_ms=level.p99_ms,
        server_us=server_s / requests * 1e6 if requests else _NAN,
        tool_busy=tool_s / seconds,
    )


def _requests(running: Running, model: str) -> int:
    """Return how many requests a server says that it has answered: the protocol's extension of statistics."""
    status, body = running.ask("GET", f"/v2/models/{model}/stats")
    if status != 200:
        return 0
    return sum(int(stats["inference_stats"]["success"]["count"]) for stats in json.loads(body)["model_stats"])


def report(samples: Mapping[Key, Sequence[Sample]], absent: str, others: Sequence[float] = ()) -> Finding:
    """Return what was found, as a section of the page.

    Args:
        samples: Round by round, by protocol, requests in flight and server.
        absent: Why the peer could not be measured; empty where it was.
        others: How many cores other work kept busy, load by load.
    """
    lines = []
    for load in dict.fromkeys(key[:2] for key in samples):
        ours, theirs = samples[*load, SERVICE_NAME], _better(samples, load)
        ratio = _middle(ours, "requests_per_s") / _middle(theirs, "requests_per_s")
        told = "-" if math.isnan(ratio) else f"{ratio:.2f} times"
        lines.append([*map(str, load), *_figures(ours), *_figures(theirs), told])
    return Finding(
        title=TITLE,
        bars=bars(samples),
        table_markdown=_command.table(_COLUMNS, lines),
        notes=_notes(samples, absent) + calm.told(others),
        raw={
            "samples": [{"key": list(key), "rounds": [asdict(one) for one in found]} for key, found in samples.items()]
        },
    )


def bars(samples: Mapping[Key, Sequence[Sample]]) -> tuple[Bar, ...]:
    """Return the one promise: the tool comes to its end, over both protocols, with 1 to 32 requests in flight."""
    ours = {key: found for key, found in samples.items() if key[2] == SERVICE_NAME}
    runs = [sample for found in ours.values() for sample in found]
    failures = [sample.failure for sample in runs if sample.failure]
    loads = {key[:2] for key in ours}
    measured = f"{len(runs) - len(failures)} of {len(runs)} runs"
    if failures:
        measured += f"; {failures[0]}"
    else:
        for protocol in PROTOCOLS:
            found = samples.get((protocol, 32, SERVICE_NAME), ())
            theirs = _better(samples, (protocol, 32))
            if found and theirs:
                ratio = _middle(found, "requests_per_s") / _middle(theirs, "requests_per_s")
                measured += f"; {protocol}, 32 in flight: {ratio:.2f} times the requests/s of {PEER}"
    return (
        Bar(
            what="perf_analyzer, HTTP and gRPC, 1 to 32 requests in flight",
            bar="to the end",
            measured=measured,
            is_met=not failures and loads == set(_loads(is_quick=False)),
        ),
    )


def _better(samples: Mapping[Key, Sequence[Sample]], load: Load) -> Sequence[Sample]:
    """Return the peer's samples under a load in the setting that gave more; none where there are none.

    One that was left out after the first round is not compared: its rounds met less, or more, of others' work.
    """
    theirs = [found for key, found in samples.items() if key[:2] == load and key[2] != SERVICE_NAME]
    rounds = max((len(found) for found in theirs), default=0)
    whole = [found for found in theirs if len(found) == rounds]
    return max(whole, key=lambda found: _or_zero(_middle(found, "requests_per_s")), default=())


def _or_zero(value: float) -> float:
    """Return a figure, and 0 for one that is none, which no comparison would put anywhere."""
    return 0.0 if math.isnan(value) else value


def _middle(found: Sequence[Sample], key: str) -> float:
    """Return the median of a figure over the rounds that came to their end; NaN where none did."""
    values = [getattr(sample, key) for sample in found if not sample.failure]
    return median(values) if values else _NAN


def _figures(found: Sequence[Sample]) -> list[str]:
    forms = {"requests_per_s": ",.0f", "p50_ms": ".2f", "p99_ms": ".2f", "server_us": ".0f"}
    return [number(_middle(found, key), form) for key, form in forms.items()]


def _told(samples: Mapping[Key, Sequence[Sample]]) -> str:
    """Return the heaviest loads of the last round in a few words, for who watches."""
    return ", ".join(
        f"{protocol} {server}: {found[-1].failure or f'{found[-1].requests_per_s:,.0f}/s'}"
        for (protocol, clients, server), found in samples.items()
        if clients == CLIENTS[-1]
    )


def _notes(samples: Mapping[Key, Sequence[Sample]], absent: str) -> str:
    busy = max((_or_zero(_middle(found, "tool_busy")) for found in samples.values()), default=0.0)
    theirs = (
        f"{PEER} was not measured: it {absent}."
        if absent
        else f"{PEER} stands in the better of its settings, load by load; those with batches were tried."
    )
    return (
        f"NVIDIA's perf_analyzer {analyzer.VERSION} as it comes, with asynchronous requests of one row: a picture as "
        "784 float32 behind the JSON of HTTP or in the message of gRPC; logits and probabilities come back likewise. "
        "Throughput and latencies are what it says; CPU us is what the server computed for each request that it counts "
        "itself. All servers are up on one core and asked in turn, the tool is on another, and busy "
        f"{busy:.0%} of the time at the most. A load takes three of its windows or more, and medians are of the "
        f"rounds, {MAX_ROUNDS} at the most. {theirs} The tool's wheel asks for newer system libraries than many "
        "servers have; there, it is run with those of a newer Debian release (`benchmarks/debian.py`)."
    )


if __name__ == "__main__":
    sys.exit(_command.run(measure))
