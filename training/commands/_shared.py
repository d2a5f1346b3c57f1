"""What commands share: options, and how they speak."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from training import architectures, config
from training.errors import TrainingError
from training.problems import Problem
from training.seeding import seed_everything

OVERRIDES = ("seed", "epochs", "batch_size", "learning_rate", "patience", "precision")


def models_to_train() -> list[str]:
    """Return the names of all that can be trained: each recipe, and each architecture that has none."""
    return sorted({*architectures.names(), *config.recipe_names()})


def add_folders(parser: argparse.ArgumentParser, *options: str) -> None:
    """Add options of folders: ``--data-dir``, ``--models-dir``, ``--runs-dir``."""
    if "--data-dir" in options:
        parser.add_argument(
            "--data-dir", type=Path, help="of the data set (default: $DATA_DIR, or the usual places of each)"
        )
    if "--models-dir" in options:
        parser.add_argument("--models-dir", type=Path, default=Path("models"), help="of bundles (default: %(default)s)")
    if "--runs-dir" in options:
        parser.add_argument(
            "--runs-dir", type=Path, default=Path("runs"), help="of checkpoints and logs (default: %(default)s)"
        )


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Add the options that change a recipe."""
    parser.add_argument("--seed", type=natural, help="decides every draw (default: the recipe's)")
    parser.add_argument("--epochs", type=positive, help="at most (default: the recipe's)")
    parser.add_argument("--batch-size", type=positive, help="rows of a step (default: the recipe's)")
    parser.add_argument("--learning-rate", type=float, help="peak of the schedule (default: the recipe's)")
    parser.add_argument("--patience", type=positive, help="epochs without a gain until it stops early")
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), help="of forward and backward passes")


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Add the option of torch's threads."""
    parser.add_argument(
        "--threads", type=positive, default=1, help="of torch; other numbers round otherwise (default: %(default)s)"
    )


def recipe_of(name: str, args: argparse.Namespace) -> config.Config:
    """Return the config of a model, with what the line changes of it.

    Raises:
        TrainingError: A value is impossible.
    """
    given = {field: getattr(args, field, None) for field in OVERRIDES}
    changes = {field: value for field, value in given.items() if value is not None}
    try:
        return config.recipe(name, **changes)
    except (TypeError, ValueError) as exc:
        raise TrainingError(f"{name}: {exc}") from exc


def fresh_network(settings: config.TrainConfig, problem: Problem[Any]) -> nn.Module:
    """Return the network of a recipe with the weights that its training would begin with.

    Raises:
        ValueError: The architecture or its config is impossible.
    """
    seed_everything(settings.seed)
    measured = architectures.known(settings.architecture, problem.measured())
    return architectures.build(settings.architecture, measured | dict(settings.network))


def whole(*, least: int) -> Callable[[str], int]:
    """Return what reads a whole number of at least so much."""

    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}, got {text!r}")
        return int(text)

    return read


positive = whole(least=1)
natural = whole(least=0)


def say(text: str) -> None:
    """Write a line for people."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def say_json(value: Any) -> None:
    """Write a line for machines."""
    say(json.dumps(value, allow_nan=False))
