import json
from dataclasses import dataclass

import numpy as np
import pytest

from app.bundle.loader import open_bundle
from tests.support.committed import LATEST
from training.report import Course


@dataclass(frozen=True)
class Point:
    number: int
    train_loss: float
    validation_loss: float


@pytest.fixture
def course():
    """Return a course of ten epochs, the last of which was kept."""
    losses = 0.3 + np.exp(-np.arange(10.0))
    return Course(
        history=[Point(number, loss + 0.1, loss) for number, loss in enumerate(losses, start=1)],
        best_epoch=10,
        validation_scores=list(1 - losses / 2),
    )


@pytest.fixture
def committed_course():
    """Return how training went of a committed bundle, by its name."""

    def read(name):
        bundle = open_bundle(LATEST[name])
        rows = json.loads((bundle.folder / "report" / "history.json").read_text())
        record = bundle.manifest.training
        return Course(
            history=[Point(row["number"], row["train_loss"], row["validation_loss"]) for row in rows],
            best_epoch=record.best_epoch,
            stopped_early=record.optimizer["stopped"] == "early",
        )

    return read


@pytest.fixture
def classified():
    """Return logits and labels of 400 validation rows and 300 test rows of three classes, far too sure."""
    rng = np.random.default_rng(0)

    def draw(num_rows):
        labels = rng.integers(0, 3, num_rows)
        return 4 * (rng.normal(size=(num_rows, 3)) + 1.5 * np.eye(3)[labels]), labels

    return *draw(400), *draw(300)
