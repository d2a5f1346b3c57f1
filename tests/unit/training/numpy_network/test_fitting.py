import numpy as np
import pytest

from training.errors import Interrupted, NonFiniteLoss
from training.numpy_network.fitting import fit
from training.numpy_network.losses import LOSSES
from training.numpy_network.network import Network
from training.numpy_network.optimizers import SGD, Adam

RNG = np.random.default_rng(5)
INPUTS = RNG.normal(size=(60, 3))
TARGETS = np.sin(INPUTS.sum(axis=1, keepdims=True)) + RNG.normal(0, 0.3, (60, 1))
TRAIN, VALIDATION = (INPUTS[:40], TARGETS[:40]), (INPUTS[40:], TARGETS[40:])
LOSS = LOSSES["mean_squared_error"]


def run(network=None, *, train=TRAIN, optimizer=None, epochs=200, patience=20, seed=0, on_epoch=lambda epoch: None):
    network = network or Network.fresh((3, 16, 1), activation="tanh", rng=np.random.default_rng(1))
    outcome = fit(
        network,
        train,
        VALIDATION,
        loss=LOSS,
        optimizer=optimizer or Adam(0.01),
        epochs=epochs,
        batch_size=8,
        patience=patience,
        rng=np.random.default_rng(seed),
        on_epoch=on_epoch,
    )
    return network, outcome


def test_the_weights_of_the_lowest_validation_loss_are_kept():
    network, outcome = run()
    assert LOSS.value(network.forward(VALIDATION[0]), VALIDATION[1]) == outcome.best.validation_loss
    assert outcome.best.validation_loss == min(epoch.validation_loss for epoch in outcome.history)
    assert outcome.stopped == "early"
    assert len(outcome.history) == outcome.best.number + 20
    assert outcome.history[0].train_loss > outcome.best.train_loss


def test_the_same_seed_gives_the_same_weights_to_the_bit():
    (first, _), (second, _), (other, _) = run(seed=3), run(seed=3), run(seed=4)
    assert all(np.array_equal(first.parameters[name], second.parameters[name]) for name in first.parameters)
    assert not np.array_equal(first.parameters["layers.0.weight"], other.parameters["layers.0.weight"])


def test_epochs_are_told_and_end_where_they_should():
    told = []
    _, outcome = run(epochs=5, on_epoch=told.append)
    assert outcome.stopped == "finished"
    assert tuple(told) == outcome.history
    assert [epoch.number for epoch in told] == [1, 2, 3, 4, 5]


def test_ctrl_c_keeps_the_best_so_far():
    def interrupt(epoch):
        if epoch.number == 3:
            raise KeyboardInterrupt

    network, outcome = run(on_epoch=interrupt)
    assert outcome.stopped == "interrupted"
    assert LOSS.value(network.forward(VALIDATION[0]), VALIDATION[1]) == outcome.best.validation_loss


def test_ctrl_c_before_the_first_epoch_is_done_keeps_nothing():
    class Interrupting(SGD):
        def step(self, parameters, gradients):
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="before the first epoch"):
        run(optimizer=Interrupting(0.1))


def test_a_loss_that_is_no_number_ends_training_and_says_where():
    poisoned = INPUTS[:40].copy()
    poisoned[0, 0] = np.nan
    with pytest.raises(NonFiniteLoss, match=r"the loss became nan in epoch 1, step [1-5], at a learning rate of 0\.01"):
        run(train=(poisoned, TARGETS[:40]))
