"""Write the first test pictures for the tests."""

import argparse
from pathlib import Path

from training import data
from training.commands._shared import add_folders, say
from training.fixture import NUM_ROWS, write_fixture


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("tests/fixtures/fashion_mnist_test_512.npz"),
        help=f"a file of {NUM_ROWS} pictures (default: %(default)s)",
    )
    add_folders(parser, "--data-dir")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    write_fixture(data.load("fashion_mnist", args.data_dir), args.output)
    say(f"wrote {args.output}")
