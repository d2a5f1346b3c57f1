import numpy as np
import pytest
import torch

from tests.support.learning import MeanNetwork, Series, SeriesObjective, digest, series_config, train_series
from training.batches import MemoryBatches
from training.errors import TrainingError
from training.learning_rate import find_learning_rate


def find(network=None, **options):
    torch.manual_seed(0)
    network = network or MeanNetwork(dropout=0.2)
    config = series_config(optimizer="sgd", weight_decay=0.0)
    batches = MemoryBatches(Series(noise=0.1), batch_size=16, seed=1)
    return find_learning_rate(network, batches, SeriesObjective(Series(10)), config, **options)


def test_the_loss_falls_and_then_diverges_and_the_suggestion_lies_before_that():
    curve = find(highest=1e4)
    assert len(curve.rates) == len(curve.losses) < 100
    assert curve.rates[0] == 1e-6
    assert np.diff(np.log(curve.rates)) == pytest.approx(np.log(1e10) / 99)
    best = int(np.argmin(curve.losses))
    assert curve.losses[best] < 0.8 * curve.losses[0]
    assert curve.losses[-1] > 1.5 * curve.losses[best]
    assert curve.suggestion == curve.rates[best] / 10


def test_a_network_learns_at_the_suggested_rate():
    suggestion = find(highest=1e4).suggestion
    settings = {"optimizer": "sgd", "weight_decay": 0.0, "schedule": "constant", "epochs": 8}
    _, at_it = train_series(series_config(learning_rate=suggestion, **settings))
    _, far_below = train_series(series_config(learning_rate=suggestion / 100, **settings))
    assert at_it.best.validation_loss < far_below.best.validation_loss - 0.1


@pytest.mark.parametrize("is_training", [False, True])
def test_the_network_and_the_random_numbers_are_left_as_they_were(is_training):
    network = MeanNetwork(dropout=0.2).train(is_training)
    before = digest(network)
    torch.manual_seed(0)
    expected = torch.rand(3)
    find(network)
    assert digest(network) == before
    assert network.training is is_training
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.equal(torch.rand(3), expected)


def test_the_weights_come_back_after_an_error_too():
    network = MeanNetwork()
    before = digest(network)

    class Failing(SeriesObjective):
        def loss(self, outputs, targets):
            if digest(network) != before:
                raise RuntimeError("later")
            return super().loss(outputs, targets)

    batches = MemoryBatches(Series(), batch_size=16, seed=1)
    with pytest.raises(RuntimeError, match="later"):
        find_learning_rate(network, batches, Failing(Series(10)), series_config(), lowest=0.1)
    assert digest(network) == before


def test_a_loss_that_falls_nowhere_is_an_error():
    class Flat(SeriesObjective):
        def loss(self, outputs, targets):
            return 0 * outputs.sum() + 1

    batches = MemoryBatches(Series(), batch_size=16, seed=1)
    with pytest.raises(TrainingError, match="no learning rate from 1e-06 to 10"):
        find_learning_rate(MeanNetwork(), batches, Flat(Series(10)), series_config())


@pytest.mark.parametrize(
    ("options", "named"), [({"lowest": 0}, "lowest"), ({"highest": 1e-7}, "lowest"), ({"num_steps": 1}, "num_steps")]
)
def test_an_impossible_ramp_is_refused(options, named):
    with pytest.raises(ValueError, match=named):
        find(**options)
