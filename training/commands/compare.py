"""Print all bundles side by side: scores, baselines, sizes and latencies, from their manifests."""

import argparse

from training import report
from training.commands._bundles import find, label, opened
from training.commands._shared import add_folders, say, say_json
from training.errors import TrainingError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--json", action="store_true", help="print JSON, for machines")
    add_folders(parser, "--models-dir")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    manifests, damaged = [], []
    for ref in find(args.models_dir):
        try:
            manifests.append(opened(ref).manifest)
        except TrainingError as exc:  # a damaged bundle hides no other
            damaged.append({"model": label(ref), "fault": str(exc)})
    rows = report.compare(manifests)
    if args.json:
        say_json({"artifacts": report.as_json(rows), "damaged": damaged})
        return
    say(report.as_table(rows) if rows else f"no bundles in {args.models_dir}")
    for each in damaged:
        say(f"damaged: {each['fault']}")
