"""What lets each scenario be run by itself: ``python -m benchmarks.scenarios.NAME [--quick]``."""

import argparse
import json
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import servers
from benchmarks.calm import Patience
from benchmarks.findings import Bar, Finding, Setting


def run(measure: Callable[[Setting], Finding], argv: Sequence[str] | None = None) -> int:
    """Measure one scenario and print what it found; return 0 where every bar is met, and always with ``--quick``."""
    parser = argparse.ArgumentParser(description=sys.modules[measure.__module__].__doc__)
    parser.add_argument("--quick", action="store_true", help="only to see that it works; the figures do not matter")
    parser.add_argument("--rounds", type=int, help="starts of the servers (5; 1 with --quick)")
    parser.add_argument("--seconds", type=float, help="measured for each load (2; 0.5 with --quick)")
    parser.add_argument("--patience", type=float, default=0.0, help="seconds that may be lost to other work (0)")
    parser.add_argument("--json", type=Path, help="write all figures there too")
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by the way of an exception, which ends the servers too
    server_core, load_core = servers.two_cores()
    seconds = options.seconds or (0.5 if options.quick else 2.0)
    finding = measure(
        Setting(
            rounds=options.rounds or (1 if options.quick else 5),
            seconds=seconds,
            warm_up_s=min(1.0, seconds / 2),
            server_core=server_core,
            load_core=load_core,
            patience=Patience(options.patience),
            tell=lambda line: print(line, file=sys.stderr, flush=True),
            is_quick=options.quick,
        )
    )
    print(text(finding))
    if options.json:
        options.json.write_text(json.dumps(finding.raw, indent=2) + "\n")
    return 0 if options.quick or all(bar.is_met for bar in finding.bars) else 1


def text(finding: Finding) -> str:
    """Return a finding as Markdown."""
    parts = [f"## {finding.title}", bars_table(finding.bars), finding.table_markdown, finding.notes]
    return "\n\n".join(part for part in parts if part)


def bars_table(bars: Sequence[Bar]) -> str:
    """Return the bars as Markdown; nothing where there are none."""
    rows = [
        [bar.what, bar.bar, bar.aim or "-", bar.measured, "yes" if bar.is_met else "**no**", _aim_met(bar)]
        for bar in bars
    ]
    return table(("what", "bar", "aim", "measured", "bar met", "aim met"), rows) if rows else ""


def _aim_met(bar: Bar) -> str:
    if not bar.aim:
        return "-"
    return "yes" if bar.is_aim_met else "no"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rows))
