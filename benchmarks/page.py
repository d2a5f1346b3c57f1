"""``docs/benchmarks.md``: the tables, and what one has to know to read them."""

from collections.abc import Mapping, Sequence

from benchmarks import bars, environments, markdown, recipes, report, scenarios, servers, workloads
from benchmarks.calm import CALM_CORES
from benchmarks.comparison import Comparison
from benchmarks.findings import Bar
from benchmarks.recipes import Peer
from benchmarks.results import Record


def parts() -> tuple[str, ...]:
    """Return all parts in the order of the page."""
    return (*workloads.names(), *scenarios.names())


def all_bars(records: Mapping[str, Record]) -> list[Bar]:
    """Return the promises that these parts judge."""
    found: list[Bar] = []
    for name in parts():
        record = records.get(name)
        if record and record.comparison:
            found += bars.bars(record.comparison)
        if record and record.finding:
            found += record.finding.bars
    return found


def render(records: Mapping[str, Record]) -> str:
    """Return the whole page of the parts that were measured.

    Raises:
        ValueError: There is none.
    """
    ordered = [records[name] for name in parts() if name in records]
    if not ordered:
        raise ValueError("nothing was measured yet")
    compared = [record.comparison for record in ordered if record.comparison]
    sections = [_section(record) for record in ordered]
    return markdown.wrapped(f"""# Benchmarks

Written by `make bench`; do not edit. This service beside other servers of models, with the same ONNX files, the same
instances and one core, over HTTP/1.1 connections on the loopback that are kept open; and what the service does by
itself.

{_missing(records)}

{report.bars_table(all_bars(records)) if all_bars(records) else ""}

{_tuned(compared)}

{chr(10).join(sections)}

## How to read it

{_noise(compared)} "CPU us" is what all processes of a server computed for a request, by the kernel's account: other
work on the machine raises it too, but by far less than it lowers requests/s. Its inverse is what that server could give
at the most. "failed" counts, over all rounds, answers other than 200, lost connections, and
requests that were not answered in the whole measured time. "ours is" tells how many times the requests/s of that line
this service gives. Memory is that of all processes of a server, in 10^6 bytes: VmRSS where it is one process, the
sum of PSS, which counts shared pages once, where there are several.

- **{servers.SERVICE_NAME}**: `python -m app serve` with its defaults: every check, limit, deadline, count and receipt
  is on, and all models of the repository are loaded and proven. The peers load the one model that is asked.
- **{servers.RAW_NAME}**: the same, asked with 784 numbers as float32 instead of JSON; it answers JSON.
{_peers()}
- **{servers.FLOOR_NAME}**: the floor (`benchmarks/peers/floor_read.py`): reads the body, looks at nothing, answers a
  few fixed bytes.

Each peer has one process that computes, with one thread of ONNX Runtime (`benchmarks/peers/common.py`), and each is
measured in the settings named here; the better one stands in the table, load by load. Before its loads every server
but the floor is asked for the same instances and has to give the same answers as the service: labels and
probabilities within 1e-4. One that could not be installed or started, or that answers otherwise, is named with the
reason.

## How it was measured

{_how(ordered)} Each client sends its next request when it has its last answer. In each round every server is started
anew, one after the other, and put under a closed loop of clients; from the second round on, a peer's settings that
came not near to its best one under a load are left out there. Tables hold the median of the rounds. The load
generator (`benchmarks/load.py`) computed for {max((one.generator_busy for one in compared), default=0.0):.0%} of the
time at the most. Texts are made up of words of the tokenizer's vocabulary (`benchmarks/texts.py`), their lengths
log-uniform from 5 to 300 tokens, and every server tokenizes them.

{_machines(ordered)}

To measure on another machine: `make bench`; `python -m benchmarks --help` tells how to measure some parts only, and
`python -m benchmarks render` makes the page of what is in `benchmarks/results`.
""")


def _section(record: Record) -> str:
    if record.comparison:
        return f"\n## {record.comparison.title}\n\n{report.section(record.comparison)}\n"
    assert record.finding is not None
    finding = record.finding
    return f"\n## {finding.title}\n\n{finding.table_markdown}\n\n{finding.notes}\n"


def _tuned(compared: Sequence[Comparison]) -> str:
    sentences = [sentence for sentence in map(report.tuned, compared) if sentence]
    if not sentences:
        return ""
    return (
        "The bars of the cnn are held against peers as their guides write them. What is tuned beyond that stands in "
        "the tables, and requests/s of this service are so many times its own:\n\n" + "\n".join(sentences)
    )


def _missing(records: Mapping[str, Record]) -> str:
    missing = [name for name in parts() if name not in records]
    return f"**Not measured in this run**: {markdown.listed(missing)}." if missing else ""


def _peers() -> str:
    return "\n".join(
        f"- **{peer.name}** {_version(peer)}: {peer.settings}; {_settings(peer)}." for peer in recipes.PEERS
    )


def _version(peer: Peer) -> str:
    if peer.environment is None:
        return "(`benchmarks/peers/plain_fastapi/server.py`)"
    version = environments.requirements(peer.environment)[peer.package]
    package = "" if peer.package == peer.name.lower() else f"`{peer.package}` "
    return f"{package}{version} (`benchmarks/peers/{peer.environment}/server.py`)"


def _settings(peer: Peer) -> str:
    tried = [variant.name for variant in peer.variants]
    of_texts = [variant.name for variant in peer.text_variants]
    return f"tried {markdown.listed(tried)}" + (f"; for texts {markdown.listed(of_texts)}" if of_texts != tried else "")


def _noise(compared: Sequence[Comparison]) -> str:
    others = max((one.other_cores for one in compared), default=0.0)
    if others <= CALM_CORES:
        return (
            f"The machine was calm: other work never took more than {others:.2f} of a core; a server that was "
            "disturbed was started and measured again."
        )
    return (
        f"**The machine was not calm**: other work took up to {others:.2f} cores. Read the ratios, which meet all "
        "servers alike, and the CPU time; requests/s and latencies would be better without it."
    )


def _how(records: Sequence[Record]) -> str:
    shared = any(record.is_one_core for record in records)
    cores = (
        "The server and the load generator share the only core, so all servers look slower than they are."
        if shared
        else "The server, with all its processes, has one core to itself, the load generator another."
    )
    plans = {(record.rounds, record.warm_up_s, record.seconds) for record in records if record.comparison}
    return cores + "".join(
        f" Of {rounds} rounds, each load took {warm_up_s:g} s uncounted and then {seconds:g} s counted."
        for rounds, warm_up_s, seconds in sorted(plans)
    )


def _machines(records: Sequence[Record]) -> str:
    """Return what it was measured on; where parts were measured on several machines or days, all of them."""
    by_machine: dict[tuple[tuple[str, str], ...], list[Record]] = {}
    for record in records:
        by_machine.setdefault(tuple(record.machine.items()), []).append(record)
    told = []
    for machine, those in by_machine.items():
        dates = markdown.listed(sorted({record.date for record in those}))
        names = "everything" if len(by_machine) == 1 else markdown.listed([record.part for record in those])
        told += [f"- measured on {dates}: {names}", *(f"- {label}: {value}" for label, value in machine)]
    several = "**These parts were not measured under the same circumstances**, so compare within one only.\n\n"
    return (several if len(by_machine) > 1 else "") + "\n".join(told)
