"""Explain the network of a bundle on validation rows, and write pictures and figures into a folder.

Bundles are immutable, so that nothing is written into them.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from training.commands._bundles import (
    Origin,
    add_bundle,
    expect_outside,
    label,
    open_newest,
    origin_of,
    told_as_training_errors,
)
from training.commands._shared import add_folders, add_threads, say, say_json, whole
from training.explain.reports import explain_bundle

NUM_ROWS = 256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_bundle(parser)
    parser.add_argument(
        "--output",
        type=Path,
        help="folder of the files (default: build/explain/NAME/VERSION); made where it is missing",
    )
    parser.add_argument(
        "--rows", type=whole(least=2), default=NUM_ROWS, help="of the validation split, at most (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON, for machines")
    add_threads(parser)
    add_folders(parser, "--data-dir", "--models-dir")


def run(args: argparse.Namespace) -> None:
    """Run the command.

    Raises:
        TrainingError: There is no such bundle, it is damaged, or its data are missing.
    """
    torch.set_num_threads(args.threads)
    bundle = open_newest(args.models_dir, args.bundle)
    output = args.output or Path("build", "explain", bundle.manifest.name, str(bundle.manifest.version))
    expect_outside(output, args.models_dir)
    origin: Origin = origin_of(bundle, args.data_dir)
    split = origin.problem.data.validation
    rows = split.take(np.arange(min(args.rows, len(split))))
    with told_as_training_errors(label(bundle.manifest)):
        found = explain_bundle(bundle, origin.tensors(rows), origin.problem.targets(rows))
    for path, content in found.files.items():
        target = output / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    if args.json:
        say_json({"bundle": label(bundle.manifest), "output": str(output), "figures": found.figures})
        return
    for name, value in found.figures.items():
        say(f"{name} {value:.4f}")
    say(f"wrote {len(found.files)} files to {output}")
