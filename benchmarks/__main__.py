"""``python -m benchmarks``: measure, print the tables, write docs/benchmarks.md."""

import argparse
import dataclasses
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import floors, machine, page, pictures, report, rounds, servers
from benchmarks.calm import Patience

PAGE = pictures.REPOSITORY / "docs" / "benchmarks.md"
MODELS_DIR = pictures.REPOSITORY / "models"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmarks; return 0 where every bar is met, else 1."""
    options = _parse(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by the way of an exception, which ends the servers too
    bundles = sorted(MODELS_DIR.glob(f"{options.model}/*/manifest.json"), key=lambda path: int(path.parent.name))
    if not bundles:
        sys.stderr.write(f"error: no model {options.model!r} in {MODELS_DIR.name}/\n")
        return 2
    bundle = bundles[-1].parent  # the service answers with the highest version, so all do
    server_core, load_core = servers.two_cores()
    plan = rounds.Plan(
        rounds=options.rounds,
        clients=(1, 32, 128),
        seconds=options.seconds,
        warm_up_s=min(1.0, options.seconds / 2),
        server_core=server_core,
        load_core=load_core,
    )
    peers = [servers.plain_fastapi("async", bundle), servers.plain_fastapi("def", bundle)]
    ours = servers.service(options.model, MODELS_DIR)
    rounds.expect_same_answers([ours, *peers], server_core)
    patience = Patience(options.patience)
    with servers.pinned(server_core):
        floors_us, _ = patience.measure(
            lambda: floors.measure(bundle, pictures.bodies(64), seconds=min(1.0, options.seconds))
        )
    visits = rounds.run([ours, *peers, servers.floor_read()], plan, patience, _tell)
    run = report.Run(
        model=options.model,
        models=tuple(sorted({path.parent.parent.name for path in MODELS_DIR.glob("*/*/manifest.json")})),
        plan=plan,
        visits=visits,
        floors_us=floors_us,
        machine=machine.describe(),
    )
    sys.stdout.write(report.tables(run) + "\n")
    if options.json:
        options.json.write_text(json.dumps(dataclasses.asdict(run), indent=2) + "\n")
    if not options.no_write:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page.render(run))
        _tell(f"written: {PAGE.relative_to(pictures.REPOSITORY)}")
    return 0 if all(bar.is_met for bar in report.bars(run)) else 1


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--model", default="cnn", help="one of models/ (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each server is started (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=4.0, help="counted for each load (default: %(default)s)")
    parser.add_argument(
        "--patience",
        type=float,
        default=300.0,
        help="most seconds lost to other work on the machine, waiting and measuring again (default: %(default)s)",
    )
    parser.add_argument("--quick", action="store_true", help="one round of half seconds at once, and nothing written")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures of all rounds")
    parser.add_argument("--no-write", action="store_true", help="leave docs/benchmarks.md as it is")
    options = parser.parse_args(argv)
    if options.quick:
        options.rounds, options.seconds, options.patience, options.no_write = 1, 0.5, 0.0, True
    if options.rounds < 1 or not 0 < options.seconds <= 600:
        parser.error("at least one round, and more than 0 and at most 600 seconds")
    return options


def _tell(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
