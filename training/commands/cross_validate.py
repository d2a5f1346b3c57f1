"""Train a recipe on all folds but one, score it on that one, and so for each.

A torch recipe sees the rows of training and validation; the test split is left alone. A recipe of a table is measured
over all rows, beside its simple model, as its bundle tells it.
"""

import argparse
import dataclasses
from typing import Any

import numpy as np
import torch

from app.tensors import Array
from training import data, pipeline
from training.commands._shared import (
    add_folders,
    add_recipe,
    add_threads,
    models_to_train,
    recipe_of,
    say,
    say_json,
    whole,
)
from training.config import Config, NumpyConfig, TrainConfig
from training.cross_validation import FoldScores, cross_validate
from training.data import DataSet, Table
from training.device import choose_device
from training.errors import Interrupted, TrainingError
from training.export import verify
from training.export.candidates import MAX_ROWS
from training.tabular_scores import compare_on_folds, score_name

NUM_FOLDS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("model", choices=models_to_train(), help="what to train", metavar="MODEL")
    parser.add_argument(
        "--folds", type=whole(least=2), help=f"how many (default: {NUM_FOLDS}, or those of the recipe of a table)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for machines")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: %(default)s")
    add_recipe(parser)
    add_threads(parser)
    add_folders(parser, "--data-dir")


def run(args: argparse.Namespace) -> None:
    """Run the command.

    Raises:
        TrainingError: A value is impossible, or there are fewer rows than folds.
    """
    config = recipe_of(args.model, args)
    torch.set_num_threads(args.threads)
    device = choose_device(args.device)
    try:
        name, scores = _on_folds(config, data.load(config.data_set, args.data_dir), args, device)
    except ValueError as exc:
        raise TrainingError(f"{args.model}: {exc}") from exc
    if args.json:
        told = {contender: {**dataclasses.asdict(each), "mean": each.mean, "std": each.std}
                for contender, each in scores.items()}  # fmt: skip
        say_json({"model": args.model, "score": name, "contenders": told})
        return
    for contender, each in scores.items():
        say(f"{contender}: {name} {each.mean:.4f} +- {each.std:.4f} over {len(each.scores)} folds")


def _on_folds(
    config: Config, rows: DataSet[Any], args: argparse.Namespace, device: torch.device
) -> tuple[str, dict[str, FoldScores]]:
    if isinstance(config, NumpyConfig):
        if not isinstance(rows, Table):
            raise ValueError(f"a NumPy network takes a table, {rows.name} is none")
        config = dataclasses.replace(config, folds=args.folds or config.folds)
        return score_name(rows), compare_on_folds(config, rows)
    problem = pipeline.problem_of(config, rows)
    told = (lambda text: None) if args.json else say
    contest = _Contest(config, rows, device, told)
    every = joined(rows.train, rows.validation)
    labels_N = problem.targets(every)
    strata_N = labels_N if labels_N is not None and labels_N.dtype.kind == "i" else None
    scores = cross_validate(every, contest, num_folds=args.folds or NUM_FOLDS, seed=config.seed, strata_N=strata_N)
    return problem.score_name, scores


@dataclasses.dataclass(frozen=True, slots=True)
class _Contest:
    """Trains the recipe as for a bundle, on a problem of each fold's own: a tokenizer sees its training rows alone."""

    config: TrainConfig
    data: DataSet[Any]
    device: torch.device
    say: Any

    def __call__(self, train: Any, validation: Any, held_out: Any, fold: int) -> dict[str, float]:
        rows = dataclasses.replace(self.data, train=train, validation=validation, test=held_out)
        problem = pipeline.problem_of(self.config, rows)
        trained = pipeline.train(self.config, problem, device=self.device)
        if trained.stopped == "interrupted":
            raise Interrupted(f"interrupted in fold {fold}, so there is no score of all")
        outputs = verify.run_in_batches(
            trained.run(trained.served(), problem.outputs), problem.tensors(held_out), MAX_ROWS
        )  # fmt: skip
        score = problem.score(outputs, held_out)
        epochs = len(trained.history)
        self.say(f"fold {fold}: {problem.score_name} {score:.4f} on {len(held_out)} rows, after {epochs} epochs")
        return {self.config.name: score}


def joined(first: Any, second: Any) -> Any:
    """Return rows of any kind, and others of that kind behind them."""
    pairs = (
        (field.name, getattr(first, field.name), getattr(second, field.name)) for field in dataclasses.fields(first)
    )
    return type(first)(**{name: _behind(one, other) for name, one, other in pairs})


def _behind(first: Array | tuple[Any, ...], second: Array | tuple[Any, ...]) -> Array | tuple[Any, ...]:
    if isinstance(first, tuple) and isinstance(second, tuple):
        return (*first, *second)
    return np.concatenate([first, second])
