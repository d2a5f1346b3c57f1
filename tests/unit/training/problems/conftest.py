from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from app.bundle.golden import GoldenRows
from app.bundle.manifest import TaskSettings
from tests.support import slices
from training import architectures, pipeline
from training.config import Config, NumpyConfig, TrainConfig
from training.export import verify
from training.problems import Problem
from training.seeding import seeded

# a small network for each kind of problem, on the slice of a data set that the kind is of
CONFIGS: dict[str, Config] = {
    "image_classification": TrainConfig(architecture="mlp", network={"hidden": (16,)}),
    "image_reconstruction": TrainConfig(
        architecture="autoencoder", problem="image_reconstruction", network={"channels": (4, 8)}
    ),
    "sequence_classification": TrainConfig(
        architecture="rnn", problem="sequence_classification", data_set="japanese_vowels", network={"hidden": 8}
    ),
    "text_classification": TrainConfig(
        architecture="lstm", problem="text_classification", data_set="spam_assassin", network={"hidden": 8}
    ),
    "tabular_classification": NumpyConfig(name="table", data_set="breast_cancer"),
    "tabular_regression": NumpyConfig(name="table", data_set="diabetes"),
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A problem, and a network for it that has learned nothing."""

    kind: str
    config: Config
    problem: Problem[Any]
    network: nn.Module
    served: nn.Module
    run: verify.Run
    settings: TaskSettings
    golden: GoldenRows


@pytest.fixture(scope="session")
def cases() -> dict[str, Case]:
    """One of every kind."""
    torch.set_num_threads(1)
    return {kind: _case(kind, config) for kind, config in CONFIGS.items()}


def _case(kind: str, config: Config) -> Case:
    problem = pipeline.problem_of(config, slices.load(config.data_set))
    measured = architectures.known(config.architecture, problem.measured())
    with seeded(0):
        network = architectures.build(config.architecture, {**measured, **config.network})
    served = architectures.as_served(network).eval()
    run = verify.eager_runner(served, tuple(spec.name for spec in problem.outputs))
    settings = problem.settings(run)
    return Case(
        kind=kind,
        config=config,
        problem=problem,
        network=network,
        served=served,
        run=run,
        settings=settings,
        golden=problem.golden(run, settings),
    )
