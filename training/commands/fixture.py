"""Write a few test rows of a data set for the tests."""

import argparse
from pathlib import Path

from training import data
from training.commands._shared import add_folders, say
from training.fixture import FIXTURES, write_fixture

FOLDER = Path("tests/fixtures")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "--data-set", choices=sorted(FIXTURES), default="fashion_mnist", help="whose rows (default: %(default)s)"
    )
    names = ", ".join(fixture.file_name for fixture in FIXTURES.values())
    parser.add_argument("--output", type=Path, help=f"the file (default, in {FOLDER}: {names})")
    add_folders(parser, "--data-dir")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    path: Path = args.output or FOLDER / FIXTURES[args.data_set].file_name
    write_fixture(args.data_set, data.load(args.data_set, args.data_dir), path)
    say(f"wrote {path}")
