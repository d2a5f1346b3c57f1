"""``python -m benchmarks``: measure, keep the figures, write docs/benchmarks.md.

``prepare`` only makes the environments of the peers and of perf_analyzer, ``render`` only writes the page of the
figures that are kept.
"""

import argparse
import datetime
import os
import signal
import sys
from collections.abc import Sequence

from benchmarks import (
    analyzer,
    comparison,
    environments,
    machine,
    page,
    pictures,
    recipes,
    results,
    scenarios,
    servers,
    workloads,
)
from benchmarks.calm import Patience
from benchmarks.findings import Setting
from benchmarks.results import Record

PAGE = pictures.REPOSITORY / "docs" / "benchmarks.md"
RESULTS = pictures.REPOSITORY / "benchmarks" / "results"
# figures of a quick run say nothing, so they stay out of the repository
QUICK = pictures.REPOSITORY / "build" / "bench" / "quick"
SCENARIOS = "scenarios"


def main(argv: Sequence[str] | None = None) -> int:
    """Do what is asked; return 0 where every bar that was measured is met (quick: where all ran), else 1."""
    options = _parse(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by the way of an exception, which ends the servers too
    if options.action == "prepare":
        return _prepare(options.peers)
    if options.action == "measure":
        _measure(options)
    records = results.load(options.results)
    try:
        text = page.render(records)
    except ValueError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return 2
    options.page.parent.mkdir(parents=True, exist_ok=True)
    options.page.write_text(text)
    _tell(f"written: {os.path.relpath(options.page, pictures.REPOSITORY)}")
    return 0 if options.quick or all(bar.is_met for bar in page.all_bars(records)) else 1


def _prepare(names: Sequence[str]) -> int:
    ready, refused = comparison.prepare(names)
    for name in ready:
        _tell(f"{name}: ready")
    try:
        analyzer.make()
        _tell("perf_analyzer: ready")
    except environments.NotInstalled as exc:
        refused["perf_analyzer"] = f"could not be installed: {exc}"
    for name, reason in refused.items():
        _tell(f"{name}: {reason}")
    return 1 if refused else 0


def _measure(options: argparse.Namespace) -> None:
    server_core, load_core = servers.two_cores()
    setting = Setting(
        rounds=options.rounds,
        seconds=options.seconds,
        warm_up_s=min(0.5, options.seconds / 2),
        server_core=server_core,
        load_core=load_core,
        patience=Patience(options.patience),
        tell=_tell,
        is_quick=options.quick,
    )
    peers, refused = comparison.prepare(options.peers) if set(options.only) & set(workloads.names()) else ({}, {})
    for part in options.only:
        found = comparison.measure(workloads.load(part), peers, refused, setting) if part in workloads.names() else None
        record = Record(
            part=part,
            date=datetime.datetime.now(datetime.UTC).date().isoformat(),
            machine=machine.describe(),
            rounds=setting.rounds,
            seconds=setting.seconds,
            warm_up_s=setting.warm_up_s,
            is_one_core=server_core == load_core,
            comparison=found,
            finding=None if found else scenarios.measure(part, setting),
        )
        _tell(f"kept: {os.path.relpath(results.store(options.results, record), pictures.REPOSITORY)}")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "action", nargs="?", choices=("measure", "prepare", "render"), default="measure", help="(default: %(default)s)"
    )
    parser.add_argument("peers", nargs="*", metavar="PEER", help="names of peers (default: all)")
    parser.add_argument(
        "--only",
        type=_parts,
        default=page.parts(),
        metavar="PART,...",
        help=f"out of {', '.join(page.parts())}; {SCENARIOS} for all but the first {len(workloads.names())}",
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each server is started (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="counted for each load (default: %(default)s)")
    parser.add_argument(
        "--patience",
        type=float,
        default=300.0,
        help="most seconds lost to other work on the machine, waiting and measuring again (default: %(default)s)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one round of half seconds at once; what it finds goes to build/bench/quick",
    )
    options = parser.parse_args(argv)
    known = [peer.name for peer in recipes.PEERS]
    if unknown := set(options.peers) - set(known):
        parser.error(f"no peer {min(unknown)!r}: they are {', '.join(known)}")
    options.peers = options.peers or known
    if options.rounds < 1 or not 0 < options.seconds <= 600:
        parser.error("at least one round, and more than 0 and at most 600 seconds")
    options.results, options.page = RESULTS, PAGE
    if options.quick:
        options.rounds, options.seconds, options.patience = 1, 0.5, 0.0
        options.results, options.page = QUICK, QUICK / "benchmarks.md"
    return options


def _parts(text: str) -> tuple[str, ...]:
    names = [name for word in text.split(",") for name in (scenarios.names() if word == SCENARIOS else (word,))]
    for name in names:
        if name not in page.parts():
            raise argparse.ArgumentTypeError(f"no part {name!r}: they are {', '.join(page.parts())}, {SCENARIOS}")
    return tuple(dict.fromkeys(names))


def _tell(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
