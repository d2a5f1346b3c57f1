"""``python -m tests.drills``: bad days on purpose, one line each, and docs/reliability.md of what came of them."""

import argparse
import contextlib
import datetime
import importlib
import signal
import sys
from collections.abc import Sequence
from typing import TextIO, cast

from benchmarks import machine, servers
from benchmarks.calm import Others
from tests.drills import page, records
from tests.drills.drill import REPOSITORY, Drill, Found, OutOfTime, Setting, bounded

RESULTS = REPOSITORY / "tests" / "drills" / "results"
PAGE = REPOSITORY / "docs" / "reliability.md"
# figures of short drills say nothing, so they stay out of the repository
SHORT_RESULTS = REPOSITORY / "build" / "drills" / "short"


def load(name: str) -> Drill:
    """Return a drill by its name."""
    return cast(Drill, importlib.import_module(f"tests.drills.{name}"))


def hold(name: str, setting: Setting) -> Found:
    """Do a drill within its time; whatever goes wrong is a bar missed."""
    wanted = load(name)
    try:
        with bounded(wanted.LIMIT_S + 60 * (setting.minutes or 0)):
            return wanted.run(setting)
    except (OutOfTime, TimeoutError) as exc:  # the rest of it is the log of the service
        return Found(line="not ended", misses=(str(exc).splitlines()[0],))


def main(argv: Sequence[str] | None = None) -> int:
    """Do what is asked; return 0 where every bar that was drilled is met, else 1."""
    options = _parse(argv)
    if options.render:
        PAGE.write_text(page.filled(PAGE.read_text(), records.load(RESULTS)))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by the way of an exception, which ends the services too
    server_core, load_core = servers.two_cores()
    setting = Setting(
        is_short=options.short,
        server_core=server_core,
        load_core=load_core,
        tell=lambda line: _write(sys.stderr, f"  {line}"),
        minutes=options.minutes,
    )
    are_met = True
    with contextlib.nullcontext() if options.short else servers.pinned(load_core):
        for name in options.drills:
            others, wanted = Others(), load(name)
            found = hold(name, setting)
            record = records.Record(
                drill=name,
                title=wanted.TITLE,
                bar=wanted.BAR,
                line=found.line,
                misses=found.misses,
                date=datetime.datetime.now(datetime.UTC).date().isoformat(),
                machine=machine.describe(),
                other_cores=others.cores(),
                figures=dict(found.figures),
            )
            records.store(SHORT_RESULTS if options.short else RESULTS, record)
            _write(sys.stdout, records.told(record))
            are_met = are_met and found.is_met
    if not options.short:
        PAGE.write_text(page.filled(PAGE.read_text(), records.load(RESULTS)))
    return 0 if are_met else 1


def _write(to: TextIO, line: str) -> None:
    to.write(line + "\n")
    to.flush()


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.drills", description=__doc__)
    parser.add_argument(
        "drills", nargs="*", metavar="DRILL", help=f"out of {', '.join(page.ORDER)} (default: all of them)"
    )
    parser.add_argument("--short", action="store_true", help="a few of everything; figures go to build/drills/short")
    parser.add_argument("--minutes", type=float, help="how long the soak takes (default: 30)")
    parser.add_argument("--render", action="store_true", help="only write the page of the figures that are kept")
    options = parser.parse_args(argv)
    for name in options.drills:
        if name not in page.ORDER:
            parser.error(f"no drill {name!r}: they are {', '.join(page.ORDER)}")
    if options.minutes is not None and not 0 < options.minutes <= 720:
        parser.error("more than 0 and at most 720 minutes")
    options.drills = options.drills or list(page.ORDER)
    return options


if __name__ == "__main__":
    sys.exit(main())
