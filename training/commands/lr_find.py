"""Raise the learning rate from step to step, and suggest one to train with."""

import argparse
from pathlib import Path

import torch
from matplotlib.figure import Figure

from training import data, pipeline
from training.batches import MemoryBatches
from training.commands._shared import (
    add_folders,
    add_threads,
    fresh_network,
    models_to_train,
    natural,
    positive,
    recipe_of,
    say,
    say_json,
)
from training.config import NumpyConfig
from training.device import choose_device
from training.errors import TrainingError
from training.learning_rate import RateCurve, find_learning_rate
from training.report.figures import BLUE, VERMILION, one_panel, svg

NUM_LINES = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("model", choices=models_to_train(), help="what would be trained", metavar="MODEL")
    parser.add_argument("--lowest", type=float, default=1e-6, help="the first rate (default: %(default)s)")
    parser.add_argument("--highest", type=float, default=10.0, help="the last rate (default: %(default)s)")
    parser.add_argument("--steps", type=positive, default=100, help="between them (default: %(default)s)")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw the curve")
    parser.add_argument("--json", action="store_true", help="print every step as JSON, for machines")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: %(default)s")
    parser.add_argument("--seed", type=natural, help="decides every draw (default: the recipe's)")
    parser.add_argument("--batch-size", type=positive, help="rows of a step (default: the recipe's)")
    add_threads(parser)
    add_folders(parser, "--data-dir")


def run(args: argparse.Namespace) -> None:
    """Run the command.

    Raises:
        TrainingError: The rates or another value are impossible, or the loss fell at none.
    """
    if args.plot is not None and not args.plot.parent.is_dir():  # now, rather than after a minute
        raise TrainingError(f"there is no folder {args.plot.parent} to write {args.plot.name} into")
    curve = _curve(args)
    if args.plot is not None:
        args.plot.write_bytes(draw(curve, args.model))
    if args.json:
        say_json({"rates": curve.rates, "losses": curve.losses, "suggestion": curve.suggestion})
        return
    say("learning rate  training loss")
    for rate, loss in list(zip(curve.rates, curve.losses, strict=True))[:: max(1, len(curve.rates) // NUM_LINES)]:
        say(f"{rate:>13.2e}  {loss:>13.4f}")
    say(f"suggestion: --learning-rate {curve.suggestion:.2g}")


def _curve(args: argparse.Namespace) -> RateCurve:
    config = recipe_of(args.model, args)
    if isinstance(config, NumpyConfig):
        raise TrainingError(f"{args.model} is a NumPy network, and the learning rates of torch networks are found here")
    torch.set_num_threads(args.threads)
    device = choose_device(args.device)
    try:
        problem = pipeline.problem_of(config, data.load(config.data_set, args.data_dir))
        network = fresh_network(config, problem).to(device)
        examples = problem.examples(problem.data.train, augmented=True)
        batches = MemoryBatches(
            examples, batch_size=config.batch_size, seed=config.seed, by_length=config.by_length
        )  # fmt: skip
        return find_learning_rate(
            network, batches, problem, config, lowest=args.lowest, highest=args.highest, num_steps=args.steps
        )
    except ValueError as exc:
        raise TrainingError(f"{args.model}: {exc}") from exc


@svg
def draw(curve: RateCurve, name: str) -> Figure:
    """Draw the loss over the rate, and the rate that is suggested."""
    figure, axes = one_panel(f"Learning rate range test of {name}")
    axes.plot(curve.rates, curve.losses, color=BLUE, label="training loss, smoothed")
    axes.axvline(curve.suggestion, color=VERMILION, linestyle=":", label=f"suggestion: {curve.suggestion:.2g}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss")
    axes.legend()
    return figure
