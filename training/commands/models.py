"""Build every format of every bundle, measure each, and write bundles with those that are worth it.

Git holds only some formats; the others are built from the weights of the committed bundles and the data sets. A format
that loses accuracy, or is there to be small or fast and is not, is not shipped: the table says why.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from training.checkpoint import replace_file
from training.commands._bundles import expect_outside, find, label
from training.commands._shared import add_folders, add_threads, positive, say, say_json
from training.commands._variants import Pruning, as_table, build
from training.errors import TrainingError
from training.export.verdicts import KEYS

TABLE_FILE = "variants.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("bundles", nargs="*", metavar="NAME[/VERSION]", help="of bundles (default: all)")
    parser.add_argument(
        "--output", type=Path, default=Path("build", "models"), help="folder of the new bundles (default: %(default)s)"
    )
    parser.add_argument("--formats", nargs="+", choices=KEYS, default=KEYS, help="that are wanted (default: all)")
    parser.add_argument(
        "--prune-share", type=float, default=0.3, help="of the units of each hidden layer (default: %(default)s)"
    )
    parser.add_argument(
        "--fine-tune-epochs", type=positive, default=3, help="of a pruned network (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print the table as JSON, for machines")
    add_threads(parser)
    add_folders(parser, "--data-dir", "--models-dir")


def run(args: argparse.Namespace) -> None:
    """Run the command.

    Raises:
        TrainingError: There is no such bundle; or some are damaged or lack their data, and the others are built.
    """
    if not 0 < args.prune_share < 1:
        raise TrainingError(f"--prune-share must be above 0 and below 1, got {args.prune_share}")
    expect_outside(args.output, args.models_dir)
    refs = sorted({ref for text in args.bundles or [None] for ref in find(args.models_dir, text)})
    torch.set_num_threads(args.threads)
    rows: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    for ref in refs:
        try:
            rows += build(
                ref,
                args.output,
                keys=args.formats,
                pruning=Pruning(share=args.prune_share, epochs=args.fine_tune_epochs),
                data_dir=args.data_dir,
                say=(lambda text: None) if args.json else say,
            )
        except TrainingError as exc:  # one that is damaged, or whose data are missing, hides no other
            failed.append({"model": label(ref), "fault": str(exc)})
    args.output.mkdir(parents=True, exist_ok=True)
    told = {"variants": rows, "failed": failed}
    replace_file(args.output / TABLE_FILE, (json.dumps(told, indent=1) + "\n").encode())
    if args.json:
        say_json(told)
    else:
        say(as_table(rows))
        say(f"wrote {args.output / TABLE_FILE}")
    if failed:
        raise TrainingError("not built: " + "; ".join(f"{each['model']} ({each['fault']})" for each in failed))
