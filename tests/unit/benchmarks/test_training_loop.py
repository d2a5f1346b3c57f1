from pathlib import Path

import numpy as np
import pytest

from benchmarks.training_loop import compare
from training.batches import LoaderBatches, MemoryBatches
from training.config import TrainConfig
from training.data import Rows

FIXTURE = Path(__file__).resolve().parents[2] / "fixtures" / "fashion_mnist_test_512.npz"


@pytest.mark.parametrize("path", [MemoryBatches, LoaderBatches])
def test_every_epoch_but_the_first_is_measured_beside_its_computation(path):
    with np.load(FIXTURE) as archive:
        rows = Rows(images=archive["images"], labels=archive["labels"].astype(np.int64))
    settings = TrainConfig(architecture="mlp", network={"hidden": (32,)}, epochs=3)
    pairs = compare(settings, rows, path)
    assert len(pairs) == 2
    assert all(seconds > 0 for pair in pairs for seconds in pair)
