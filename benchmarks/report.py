"""The figures of a comparison as Markdown: tables, and in words where a peer wins."""

from collections.abc import Sequence

from benchmarks import recipes, servers
from benchmarks.comparison import FLOOR_CLIENTS, Comparison
from benchmarks.findings import Bar
from benchmarks.markdown import listed, number, table
from benchmarks.samples import middle, spread
from benchmarks.servers import SERVICE_NAME

LOAD_COLUMNS = (
    "server", "setting", "requests/s (least-most)", "ours is", "p50 ms", "p90 ms", "p99 ms", "CPU us", "failed",
)  # fmt: skip


def bars_table(found: Sequence[Bar]) -> str:
    """Return the table of promises."""
    rows = [[bar.what, bar.bar, bar.aim or "-", bar.measured, _met(bar)] for bar in found]
    return table(["what", "bar", "aim", "measured", "met"], rows)


def _met(bar: Bar) -> str:
    return "**no**" if not bar.is_met else "yes, and the aim" if bar.is_aim_met else "yes"


def section(found: Comparison) -> str:
    """Return what a workload found, below its heading."""
    parts = [wins(found)]
    for clients in found.clients:
        parts.append(f"### {found.model}, {clients} client{'s' if clients > 1 else ''}\n\n{load_table(found, clients)}")
    parts.append(f"### {found.model}, start and memory\n\n{start_table(found)}")
    parts.append(f"### {found.model}, floors\n\n{floor_table(found)}")
    parts += [f"Not measured, or not to the end: {_absent(found)}"] if found.absent else []
    return "\n\n".join(parts)


def wins(found: Comparison) -> str:
    """Say who wins what."""
    won: dict[str, list[str]] = {}
    for clients in found.clients:
        by = f"with {clients} client{'s' if clients > 1 else ''}"
        for key, what, form in (("requests_per_s", "requests/s", ",.0f"), ("p50_ms", "ms at p50", ".2f"),
                                ("p99_ms", "ms at p99", ".2f")):  # fmt: skip
            ours = found.figure(SERVICE_NAME, clients, key)
            theirs = found.of_peers(clients, key, list(found.variants))
            ahead = {
                peer: value
                for peer, value in theirs.items()
                if (value > ours if key == "requests_per_s" else value < ours)
            }
            for peer, value in ahead.items():
                won.setdefault(peer, []).append(f"{by} {value:{form}} {what} (this service {ours:{form}})")
    if won:
        return "\n".join(f"- **{peer} wins** {'; '.join(loads)}." for peer, loads in won.items())
    return "No peer wins any of these loads, neither by requests/s nor by latency at p50 or p99."


def load_table(found: Comparison, clients: int) -> str:
    """Return one load: this service, every peer with its better variant, and the floor."""
    ours = found.figure(SERVICE_NAME, clients, "requests_per_s")
    rows = []
    for name, label, setting in _lines(found, clients):
        samples = found.samples(name, clients)
        if not samples:
            rows.append([label, setting, "not measured", *["-"] * (len(LOAD_COLUMNS) - 3)])
            continue
        rates = [sample.requests_per_s for sample in samples]
        rate = found.figure(name, clients, "requests_per_s")
        rows.append(
            [
                label,
                setting,
                f"{rate:,.0f} ({min(rates):,.0f}-{max(rates):,.0f})",
                f"{ours / rate:.2f} times" if rate else "-",
                *(number(found.figure(name, clients, key)) for key in ("p50_ms", "p90_ms", "p99_ms")),
                number(found.figure(name, clients, "server_us"), ".0f"),
                _failures(found, name, clients),
            ]
        )
    return table(LOAD_COLUMNS, rows)


def _lines(found: Comparison, clients: int) -> list[tuple[str, str, str]]:
    """Return the server, its name in the table, and its setting, line by line."""
    lines = [(SERVICE_NAME, SERVICE_NAME, "its defaults")]
    if servers.RAW_NAME in found.visits:
        lines.append((servers.RAW_NAME, servers.RAW_NAME, "its defaults"))
    for peer in found.variants:
        best = found.best(peer, clients)
        lines.append((best or "", peer, best.removeprefix(f"{peer}, ") if best else "-"))
    return [*lines, (servers.FLOOR_NAME, servers.FLOOR_NAME, "-")]


def _failures(found: Comparison, name: str, clients: int) -> str:
    samples = found.samples(name, clients)
    faults = sorted({sample.faults for sample in samples if sample.faults})
    return f"{sum(sample.failures for sample in samples)}" + (f" ({'; '.join(faults)})" if faults else "")


def start_table(found: Comparison) -> str:
    """Return how long each took to its first answer, and what it held."""
    rows = []
    for name, label, _ in _lines(found, FLOOR_CLIENTS):
        visits = found.visits.get(name)
        if not visits:
            continue
        ready, least, most = spread(visits, lambda visit: visit.ready_s)
        rows.append(
            [
                label,
                f"{ready:.2f} ({least:.2f}-{most:.2f})",
                f"{spread(visits, lambda visit: visit.resident_ready_mb)[0]:.1f}",
                f"{spread(visits, lambda visit: visit.resident_loaded_mb)[0]:.1f}",
                f"{spread(visits, lambda visit: visit.num_processes)[0]:.0f}",
            ]
        )
    head = ["server", "first answer after s (least-most)", "MB then", "MB after the loads", "processes"]
    return table(head, rows)


def floor_table(found: Comparison) -> str:
    """Return what each step costs by itself, and where this service stands to their sum."""
    server_us = middle(found.visits[servers.FLOOR_NAME], FLOOR_CLIENTS, lambda sample: sample.server_us)
    rows = [["uvicorn that only reads, on its own core", f"{server_us:.1f}", "yes"]]
    rows += [[step.name, f"{step.us:.1f}", "yes" if step.counts else "no"] for step in found.floors]
    limit = 1e6 / found.floor_us()
    share = found.figure(SERVICE_NAME, FLOOR_CLIENTS, "requests_per_s") / limit
    return (
        table(["step", "us for a request", "in the sum"], rows)
        + f"\n\nThe sum is {found.floor_us():.0f} us: about {limit:,.0f} requests/s are the most that one core could "
        f"give with these parts. This service stands at {share:.2f} of it with {FLOOR_CLIENTS} clients."
    )


def _absent(found: Comparison) -> str:
    return "\n".join(f"- {name}: {reason}" for name, reason in found.absent.items())


def tuned(found: Comparison) -> str:
    """Say by how much the requests/s of this service are above those of peers that are tuned beyond their guides."""
    sentences = []
    for peer in recipes.TUNED_PEERS:
        ratios = [
            f"{found.figure(SERVICE_NAME, clients, 'requests_per_s') / rate:.2f} times with {clients}"
            for clients in found.clients
            if (rate := found.of_peers(clients, "requests_per_s", [peer]).get(peer))
        ]
        if ratios:
            sentences.append(f"- {found.model}, against {peer}: {listed(ratios)} clients.")
    return "\n".join(sentences)
