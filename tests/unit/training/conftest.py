from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from app.bundle.loader import find_bundles, open_bundle
from tests.support import small_training
from tests.support.prediction import predict
from training import cli, pipeline
from training.augment import Augmentation, augment
from training.batches import Batch
from training.config import TrainConfig
from training.data import DataSet, Rows
from training.evaluate import score
from training.loop import Validation
from training.problems import Problem
from training.trained import Trained

REPOSITORY = Path(__file__).resolve().parents[3]
FIXTURE = REPOSITORY / "tests" / "fixtures" / "fashion_mnist_test_512.npz"


class PictureExamples:
    """Pictures for tests of the loop: float32 pixels and classes."""

    lengths_N = None

    def __init__(self, rows, augmentation=None):
        self.rows, self.augmentation = rows, augmentation or Augmentation()

    def __len__(self):
        return len(self.rows)

    def batch(self, indices_B):
        taken = self.rows.take(indices_B.numpy())
        return Batch((torch.tensor(taken.images).float(),), torch.tensor(taken.labels))

    def augment(self, batch, randomness):
        return Batch((augment(batch.inputs[0], self.augmentation, randomness),), batch.targets)


class PictureObjective:
    """Cross-entropy, judged by accuracy."""

    score_name = "accuracy"

    def __init__(self, validation, label_smoothing=0.0):
        self.validation, self.label_smoothing = validation, label_smoothing

    def loss(self, outputs, targets):
        return functional.cross_entropy(outputs, targets, label_smoothing=self.label_smoothing)

    def validate(self, network):
        (logits,) = predict(network, self.validation.images)
        scores = score(logits, self.validation.labels)
        return Validation(scores.loss, scores.accuracy)


@pytest.fixture(scope="session")
def picture_examples() -> type[PictureExamples]:
    return PictureExamples


@pytest.fixture(scope="session")
def picture_objective() -> type[PictureObjective]:
    return PictureObjective


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def pictures() -> Rows:
    """The 512 real pictures of the fixture."""
    with np.load(FIXTURE) as archive:
        return Rows(images=archive["images"], labels=archive["labels"].astype(np.int64))


@pytest.fixture(scope="session")
def small_data() -> DataSet:
    """A data set of real pictures: 320 to train on, 64 for validation, 128 for the test."""
    return small_training.pictures()


@pytest.fixture(scope="session")
def small_config() -> Callable[..., TrainConfig]:
    """Build configs of an MLP that trains in a moment."""

    def build(**changes: object) -> TrainConfig:
        settings = {"architecture": "mlp", "network": {"hidden": (32,), "dropout": 0.0}, "epochs": 3, "batch_size": 32}
        return TrainConfig(**{**settings, **changes})

    return build


@pytest.fixture(scope="session")
def problem(small_data: DataSet, small_config: Callable[..., TrainConfig]) -> Problem:
    """The classification of these pictures."""
    return pipeline.problem_of(small_config(), small_data)


@pytest.fixture(scope="session")
def trained(problem: Problem, small_config: Callable[..., TrainConfig]) -> Trained:
    """A small network after three epochs."""
    return pipeline.train(small_config(), problem)


@pytest.fixture(scope="module")
def exported(trained, problem, tmp_path_factory):
    """The bundle of a small network, and what the export said."""
    models_dir, said = tmp_path_factory.mktemp("models"), []
    small_training.export(trained, problem, models_dir, say=said.append)
    (ref,) = find_bundles(models_dir)
    return open_bundle(ref), said


@pytest.fixture
def command(capsys):
    """Run a command; returns its exit code, standard output and standard error."""

    def run(*arguments):
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as exc:
            code = exc.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
