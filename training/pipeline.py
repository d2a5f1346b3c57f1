"""The whole way of a network: data and config in, a proven bundle out."""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from training import architectures, checkpoint, problems
from training.batches import Batches, LoaderBatches, MemoryBatches
from training.config import Config, NumpyConfig, TrainConfig
from training.data import DataSet, Table
from training.distributed import this_process
from training.errors import ConfigError, Interrupted
from training.export import manifest as parts
from training.export import state_dict, verify
from training.export.candidates import MAX_ROWS, Say
from training.loop import Epoch, fit
from training.problems import Problem
from training.provenance import code_revision, libraries
from training.seeding import seed_everything
from training.trained import Trained

# beside the checkpoint
REVISION_FILE = "code_revision.txt"


def problem_of(config: Config, data: DataSet[Any]) -> Problem[Any]:
    """Return the data, seen as what the config trains for.

    Raises:
        ConfigError: There is no such problem, or the data set or an option does not fit it.
    """
    if isinstance(config, NumpyConfig):
        if not isinstance(data, Table):
            raise ConfigError(f"a NumPy network takes a table, {data.name} is none")
        return problems.create("tabular_classification" if data.target is None else "tabular_regression", config, data)
    return problems.create(config.problem, config, data)


def train(
    config: TrainConfig,
    problem: Problem[Any],
    *,
    loader: bool = False,
    num_workers: int = 0,
    run_dir: Path | None = None,
    device: torch.device | None = None,
    show_progress: bool = False,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> Trained:
    """Train one network.

    Args:
        config: Everything that decides the weights.
        problem: From :func:`problem_of`.
        loader: Take the batches from a ``DataLoader``; they are the same.
        num_workers: Processes of that loader.
        run_dir: Where checkpoints are written, and found again; without it, there are none.
        device: Where it is trained; without it, on the CPU. Of several processes, each has its own.
        show_progress: Draw bars on stderr.
        on_epoch: Called with each finished epoch.

    Raises:
        ConfigError: The architecture or its config is impossible, or does not fit the data.
        CheckpointError: A checkpoint is damaged, of another run, or cannot be written.
        NonFiniteLoss: The loss became NaN or infinite.
        Interrupted: KeyboardInterrupt came before the first epoch was done.
    """
    process = this_process()
    # of several processes one writes the note: another would empty it while it is read
    revision = process.of_first(functools.partial(_first_revision, run_dir))
    seed_everything(config.seed)
    with _impossible_is_config_error():
        network_config = architectures.make_config(config.architecture, _network_fields(config, problem))
        network = architectures.build(config.architecture, dataclasses.asdict(network_config))
    examples = problem.examples(problem.data.train, augmented=True)
    order: dict[str, Any] = {
        "batch_size": config.batch_size,
        "seed": config.seed,
        "by_length": config.by_length,
        "rank": process.rank,
        "world_size": process.world_size,
    }
    with _impossible_is_config_error():
        batches: Batches = (
            LoaderBatches(examples, num_workers=num_workers, **order) if loader else MemoryBatches(examples, **order)
        )
    network.to(device or torch.device("cpu"))
    outcome = fit(
        network,
        batches,
        problem,
        config,
        run_dir=run_dir,
        show_progress=show_progress,
        on_epoch=on_epoch,
    )
    network.cpu()
    return Trained(
        name=config.name,
        architecture=config.architecture,
        network_config=json.loads(json.dumps(dataclasses.asdict(network_config))),
        network=network,
        history=outcome.history,
        best_epoch=outcome.best.number,
        stopped=outcome.stopped,
        validation={
            "validation_loss": outcome.best.validation_loss,
            f"validation_{problem.score_name}": outcome.best.validation_score,
        },
        seed=config.seed,
        batch_size=config.batch_size,
        optimizer=parts.optimizer_settings(config, outcome.stopped),
        duration_s=sum(epoch.duration_s for epoch in outcome.history),
        code_revision=revision,
        libraries=libraries(),
        weights=state_dict.dump(network),
    )


def with_other_seeds(
    trained: Trained,
    config: TrainConfig,
    problem: Problem[Any],
    *,
    run_dir: Callable[[int], Path | None] = lambda seed: None,
    device: torch.device | None = None,
    say: Say = lambda text: None,
) -> Trained:
    """Train the same recipe with the seeds that follow, and tell how far its score on the test split depends on them.

    Args:
        trained: With the first seed.
        config: Of the first seed; ``num_seeds`` says how many there are in all.
        problem: From :func:`problem_of`.
        run_dir: Where the checkpoints of a seed are kept.
        device: Where they are trained.
        say: Called with lines for people.

    Returns:
        The training with the first seed, which has these figures now.

    Raises:
        Interrupted: KeyboardInterrupt came; a seed that was not trained to its end would make the figures worse.
    """
    scores: list[float] = []
    for seed in range(config.seed, config.seed + config.num_seeds):
        twin = trained
        if seed != config.seed:
            settings = dataclasses.replace(config, seed=seed)
            twin = train(settings, problem, run_dir=run_dir(seed), device=device)
            if twin.stopped == "interrupted":
                raise Interrupted(f"interrupted in seed {seed}; the same command goes on from the last checkpoint")
        run = twin.run(twin.served(), problem.outputs)
        outputs = verify.run_in_batches(run, problem.tensors(problem.data.test), MAX_ROWS)
        scores.append(problem.score(outputs, problem.data.test))
        if this_process().is_first:
            say(f"seed {seed}: {problem.score_name} {scores[-1]:.4f}")
    mean, std = float(np.mean(scores)), float(np.std(scores))
    told = {f"seeds/{problem.score_name}_mean": mean, f"seeds/{problem.score_name}_std": std}
    return dataclasses.replace(
        trained,
        further_metrics=trained.further_metrics | told,
        further_reports=trained.further_reports | {"seeds": {"first": config.seed, problem.score_name: scores}},
    )


def _network_fields(config: TrainConfig, problem: Problem[Any]) -> dict[str, Any]:
    """Return the fields of the network's config: what the data decide, and what the recipe does.

    Raises:
        ConfigError: The recipe says otherwise than the data; weights would be trained that fit no bundle.
    """
    measured = architectures.known(config.architecture, problem.measured())
    for name, value in config.network.items():
        if name in measured and measured[name] != value:
            raise ConfigError(
                f"{name} of the network follows from the data and the data options: it is {measured[name]!r}, and not "
                f"{value!r}"
            )
    return {**measured, **config.network}


@contextmanager
def _impossible_is_config_error() -> Iterator[None]:
    """Tell the caller's mistake from ours: architectures and batches know no errors of training."""
    try:
        yield
    except ConfigError:
        raise
    except ValueError as exc:
        raise ConfigError(str(exc)) from exc


def _first_revision(run_dir: Path | None) -> str:
    """Return the revision of the code that began a training, which a later revision may go on with."""
    if run_dir is None:
        return code_revision()
    note = run_dir / REVISION_FILE
    if not (run_dir / checkpoint.FILE_NAME).exists():
        run_dir.mkdir(parents=True, exist_ok=True)
        checkpoint.replace_file(note, code_revision().encode())
    # a checkpoint without a note has come from somewhere else
    return note.read_text() if note.exists() else "unknown"
