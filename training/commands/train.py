"""Train a network, prove its exports and write a bundle."""

import argparse
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from training import bundling, checkpoint, data, logs, pipeline, tabular
from training.commands import _all
from training.commands._shared import (
    add_folders,
    add_recipe,
    add_threads,
    models_to_train,
    positive,
    recipe_of,
    say,
    say_json,
)
from training.config import Config, NumpyConfig, TrainConfig, recipe_names
from training.data import DataSet
from training.distributed import processes, this_process
from training.epochs import Epoch, epoch_json
from training.errors import TrainingError
from training.export.bundle import expect_free
from training.numpy_network import fitting
from training.problems import Problem
from training.trained import Trained

ALL = "all"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("model", choices=[*models_to_train(), ALL], help="what to train", metavar="MODEL")
    add_recipe(parser)
    parser.add_argument("--version", type=positive, help="of the bundle; never one that exists (default: the next)")
    parser.add_argument("--fresh", action="store_true", help="forget the checkpoint of the same training, if any")
    parser.add_argument("--no-explanations", action="store_true", help="leave them out of the report; saves a minute")
    parser.add_argument("--loader", action="store_true", help="take the same batches from a torch DataLoader, slower")
    parser.add_argument("--workers", type=positive, help="processes of that loader")
    parser.add_argument("--jobs", type=positive, help="trainings at a time, where all are asked for (default: cores)")
    parser.add_argument(
        "--tensorboard", action="store_true", help="write every epoch to RUNS_DIR/MODEL/seed-N/tensorboard, too"
    )
    parser.add_argument("--json", action="store_true", help="tell epochs and the bundle as lines of JSON on stdout")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: %(default)s")
    add_threads(parser)
    add_folders(parser, "--data-dir", "--models-dir", "--runs-dir")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    if args.model == ALL:
        if args.version is not None:
            raise TrainingError("--version is of one bundle; leave it out where all are trained")
        _all.train_all(args, recipe_names())
        return
    if args.jobs is not None:
        raise TrainingError(f"--jobs is for the command 'train {ALL}'; leave it out where one model is trained")
    config = recipe_of(args.model, args)
    if args.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise TrainingError("tensorboard is not installed; --tensorboard needs: pip install 'zero-to-one[train]'")
    if args.version is not None:
        expect_free(args.models_dir, config.name, args.version)  # now, rather than after an hour of training
    torch.set_num_threads(args.threads)
    with processes(args.device) as device:
        _train_and_export(args, config, device)


def _train_and_export(args: argparse.Namespace, config: Config, device: torch.device) -> None:
    tell = (lambda text: None) if args.json else say
    try:
        rows: DataSet[Any] = data.load(config.data_set, args.data_dir)
        problem = pipeline.problem_of(config, rows)
        trained = _train(args, config, problem, device)
    except ValueError as exc:  # what the config says of data, network or batches is unknown or impossible
        raise TrainingError(f"{args.model}: {exc}") from exc
    if not this_process().is_first:
        return
    tell(
        f"{trained.stopped} after {len(trained.history)} epochs and {trained.duration_s:.1f} s; kept epoch "
        f"{trained.best_epoch}: " + ", ".join(f"{name} {value:.4f}" for name, value in trained.validation.items())
    )
    folder = bundling.export(
        trained, problem, args.models_dir, version=args.version, explained=not args.no_explanations, say=tell
    )
    tell(f"wrote {folder}")
    if args.json:
        say_json({"bundle": str(folder), "stopped": trained.stopped, "best_epoch": trained.best_epoch})


def _train(args: argparse.Namespace, config: Config, problem: Problem[Any], device: torch.device) -> Trained:
    first = _run_dir(args, config.name, config.seed)
    if isinstance(config, NumpyConfig):
        if args.loader or args.workers is not None:
            raise TrainingError("--loader is for torch networks, a NumPy network draws its own batches")
        assert isinstance(problem.data, data.Table)
        with _logged(args, first) as log:
            return tabular.train(config, problem.data, on_epoch=log)  # so short that no epoch needs to be told
    with ExitStack() as held:

        def run_dir(seed: int) -> Path:
            folder = _run_dir(args, config.name, seed)
            if this_process().is_first:
                held.enter_context(checkpoint.exclusive(folder))
                if args.fresh:
                    (folder / checkpoint.FILE_NAME).unlink(missing_ok=True)
            return folder

        return _train_torch(args, config, problem, device, run_dir)


def _run_dir(args: argparse.Namespace, name: str, seed: int) -> Path:
    folder: Path = args.runs_dir / name / f"seed-{seed}"
    return folder


def _train_torch(
    args: argparse.Namespace,
    config: TrainConfig,
    problem: Problem[Any],
    device: torch.device,
    run_dir: Callable[[int], Path],
) -> Trained:
    first = run_dir(config.seed)
    with _logged(args, first) as log:

        def on_epoch(epoch: Epoch) -> None:
            log(epoch)
            if args.json:
                say(epoch_json(epoch))
            else:
                _tell_epoch(epoch)

        trained = pipeline.train(
            config,
            problem,
            loader=args.loader or args.workers is not None,
            num_workers=args.workers or 0,
            run_dir=first,
            device=device,
            show_progress=not args.json,
            on_epoch=on_epoch,
        )
    if config.num_seeds > 1 and trained.stopped != "interrupted":  # who interrupts wants what there is, and no more
        is_silent = args.json or not this_process().is_first
        tell = (lambda text: None) if is_silent else say
        trained = pipeline.with_other_seeds(trained, config, problem, run_dir=run_dir, device=device, say=tell)
    return trained


@contextmanager
def _logged(args: argparse.Namespace, run_dir: Path) -> Iterator[Callable[[Epoch | fitting.Epoch], None]]:
    """Yield what each epoch is to be told to, besides people; of several processes, the first alone is told any."""
    if args.tensorboard and this_process().is_first:
        with logs.tensorboard(run_dir) as log:
            yield log
    else:
        yield lambda epoch: None


def _tell_epoch(epoch: Epoch) -> None:
    tqdm.write(
        f"epoch {epoch.number:>3}  train loss {epoch.train_loss:.4f}  validation loss {epoch.validation_loss:.4f}  "
        f"score {epoch.validation_score:.4f}  {epoch.duration_s:.1f} s",
        file=sys.stderr,
    )
