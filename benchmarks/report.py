"""The figures as Markdown: tables, and each bar of the first slice beside what was measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks import servers
from benchmarks.rounds import Plan, Visit, middle, spread

# the bars: 2,500 requests/s where plain FastAPI gives 1,570 in the same run
BAR_MODEL = "cnn"
BAR_CLIENTS = 32
BAR_RATIO = 2500 / 1570
BAR_MEMORY_MB = 130.0
BAR_READY_S = 2.0

LOAD_COLUMNS = (
    "server", "requests/s (least-most)", "of FastAPI", "of the floor", "p50 ms", "p90 ms", "p99 ms", "CPU us", "failed",
)  # fmt: skip
# the same work in another way
NOT_IN_THE_SUM = ("JSON to float32, checked as the service does", "the model, one row")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """All that one run of the benchmarks found.

    Attributes:
        model: What was asked.
        models: What the service had loaded.
        plan: How it was measured.
        visits: By the server's name; this service, the two kinds of plain FastAPI, and the floor.
        floors_us: Microseconds by step, inside one process.
        machine: What it ran on.
    """

    model: str
    models: tuple[str, ...]
    plan: Plan
    visits: Mapping[str, Sequence[Visit]]
    floors_us: Mapping[str, float]
    machine: Mapping[str, str]

    @property
    def other_cores(self) -> float:
        """The most cores that other work kept busy during any visit."""
        return max(visit.other_cores for visits in self.visits.values() for visit in visits)

    def requests_per_s(self, name: str, clients: int) -> float:
        """Return the median of a server."""
        return middle(self.visits[name], clients, lambda sample: sample.requests_per_s)

    def better_fastapi(self, clients: int) -> float:
        """Return the median of the faster kind of plain FastAPI."""
        return max(self.requests_per_s(name, clients) for name in servers.FASTAPI_NAMES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One promise, and what came of it."""

    what: str
    bar: str
    measured: str
    is_met: bool


def bars(run: Run) -> list[Bar]:
    """Hold a run against the bars."""
    ours = run.visits[servers.SERVICE_NAME]
    memory_mb = max(visit.resident_loaded_mb for visit in ours)
    ready_s = spread(ours, lambda visit: visit.ready_s)[0]
    found = [
        Bar(
            what=f"resident memory with {_listed(run.models)}, the most of all loads and rounds",
            bar=f"under {BAR_MEMORY_MB:.0f} MB",
            measured=f"{memory_mb:.1f} MB",
            is_met=memory_mb < BAR_MEMORY_MB,
        ),
        Bar(
            what="from start to ready, all of these proven",
            bar=f"under {BAR_READY_S:.0f} s",
            measured=f"{ready_s:.2f} s",
            is_met=ready_s < BAR_READY_S,
        ),
    ]
    return [_rate_bar(run), *found] if run.model == BAR_MODEL else found


def _rate_bar(run: Run) -> Bar:
    rate, plain = run.requests_per_s(servers.SERVICE_NAME, BAR_CLIENTS), run.better_fastapi(BAR_CLIENTS)
    return Bar(
        what=f"{run.model}, one core, {BAR_CLIENTS} clients, JSON",
        bar=f"2,500 requests/s where plain FastAPI gives 1,570: {BAR_RATIO:.2f} times it",
        measured=f"{rate:,.0f} requests/s where it gives {plain:,.0f}: {rate / plain:.2f} times",
        is_met=rate / plain >= BAR_RATIO,
    )


def tables(run: Run) -> str:
    """Return the measured tables, as Markdown."""
    parts = [_bars_table(bars(run))]
    for clients in run.plan.clients:
        parts.append(f"### {clients} client{'s' if clients > 1 else ''}\n\n{_load_table(run, clients)}")
    parts.append(f"### Start and memory\n\n{_start_table(run)}")
    parts.append(f"### Floors\n\n{_floor_table(run)}")
    return "\n\n".join(parts)


def _bars_table(found: Sequence[Bar]) -> str:
    rows = [[bar.what, bar.bar, bar.measured, "yes" if bar.is_met else "**no**"] for bar in found]
    return _table(["what", "bar", "measured", "met"], rows)


def _load_table(run: Run, clients: int) -> str:
    plain = run.better_fastapi(clients)
    floor = run.requests_per_s(servers.FLOOR_NAME, clients)
    rows = []
    for name, visits in run.visits.items():
        rate, least, most = spread(visits, lambda visit: visit.samples[clients].requests_per_s)
        p50, p90, p99, computed_us = (
            middle(visits, clients, lambda sample, key=key: float(getattr(sample, key)))  # type: ignore[misc]
            for key in ("p50_ms", "p90_ms", "p99_ms", "server_us")
        )
        failures = sum(visit.samples[clients].failures for visit in visits)
        rows.append(
            [
                name,
                f"{rate:,.0f} ({least:,.0f}-{most:,.0f})",
                f"{rate / plain:.2f}",
                f"{rate / floor:.2f}",
                f"{p50:.2f}",
                f"{p90:.2f}",
                f"{p99:.2f}",
                f"{computed_us:.0f}",
                str(failures),
            ]
        )
    return _table(LOAD_COLUMNS, rows)


def _start_table(run: Run) -> str:
    rows = []
    for name, visits in run.visits.items():
        ready, least, most = spread(visits, lambda visit: visit.ready_s)
        resident_ready = spread(visits, lambda visit: visit.resident_ready_mb)[0]
        resident_loaded = spread(visits, lambda visit: visit.resident_loaded_mb)[0]
        rows.append([name, f"{ready:.2f} ({least:.2f}-{most:.2f})", f"{resident_ready:.1f}", f"{resident_loaded:.1f}"])
    return _table(["server", "ready after s (least-most)", "MB resident when ready", "MB after the loads"], rows)


def _floor_table(run: Run) -> str:
    rows = [["uvicorn that only reads, on its own core", f"{_floor_server_us(run):.1f}"]]
    rows += [[name, f"{microseconds:.1f}"] for name, microseconds in run.floors_us.items()]
    limit = 1e6 / one_core_us(run)
    share = run.requests_per_s(servers.SERVICE_NAME, BAR_CLIENTS) / limit
    return (
        _table(["step", "us for a request"], rows)
        + f"\n\nuvicorn, the unchecked reading, the model in full batches and the answer add up to "
        f"{one_core_us(run):.0f} us: about {limit:,.0f} requests/s are the most that one core could give. "
        f"This service stands at {share:.2f} of it with {BAR_CLIENTS} clients."
    )


def one_core_us(run: Run) -> float:
    """Return the least that a request can cost with these parts: uvicorn, reading, the model in batches, writing."""
    steps = run.floors_us
    return _floor_server_us(run) + sum(steps[name] for name in steps if name not in NOT_IN_THE_SUM)


def _floor_server_us(run: Run) -> float:
    return middle(run.visits[servers.FLOOR_NAME], BAR_CLIENTS, lambda sample: sample.server_us)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
