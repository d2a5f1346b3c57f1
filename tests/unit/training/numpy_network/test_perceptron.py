import numpy as np
import pytest

from training.numpy_network.losses import LOSSES
from training.numpy_network.network import Network
from training.numpy_network.optimizers import Adam
from training.numpy_network.perceptron import Perceptron

INPUTS = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
AND, OR, XOR = np.array([0, 0, 0, 1]), np.array([0, 1, 1, 1]), np.array([0, 1, 1, 0])


@pytest.mark.parametrize("targets", [AND, OR], ids=["and", "or"])
def test_the_rule_learns_what_a_line_separates(targets):
    perceptron = Perceptron(2)
    assert perceptron.fit(INPUTS, targets)
    assert perceptron.predict(INPUTS).tolist() == targets.tolist()


def test_the_rule_never_learns_xor():
    perceptron = Perceptron(2)
    assert not perceptron.fit(INPUTS, XOR, max_epochs=10_000)
    assert perceptron.predict(INPUTS).tolist() != XOR.tolist()


def test_no_line_at_all_separates_xor():
    """Not for want of rounds: of all lines, none gets more than three of the four right."""
    angles, offsets = np.meshgrid(np.linspace(0, 2 * np.pi, 361), np.linspace(-2, 2, 401))
    sides = INPUTS[:, 0, None] * np.cos(angles.ravel()) + INPUTS[:, 1, None] * np.sin(angles.ravel()) + offsets.ravel()
    right = ((sides >= 0) == XOR[:, None]).sum(axis=0)
    assert right.max() == 3


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "relu", "leaky_relu"])
def test_a_network_with_a_hidden_layer_learns_xor(activation):
    network = Network.fresh((2, 8, 1), activation=activation, rng=np.random.default_rng(0))
    loss, optimizer = LOSSES["binary_cross_entropy"], Adam(0.05)
    targets = XOR[:, None].astype(np.float64)
    for _ in range(500):
        optimizer.step(network.parameters, network.backward(loss.gradient(network.forward(INPUTS), targets)))
    logits = network.forward(INPUTS)
    assert ((logits[:, 0] > 0) == XOR).all()
    assert loss.value(logits, targets) < 0.05


def test_a_network_without_a_hidden_layer_does_not_learn_xor_either():
    network = Network.fresh((2, 1), activation="tanh", rng=np.random.default_rng(0))
    loss, optimizer = LOSSES["binary_cross_entropy"], Adam(0.05)
    targets = XOR[:, None].astype(np.float64)
    for _ in range(2000):
        optimizer.step(network.parameters, network.backward(loss.gradient(network.forward(INPUTS), targets)))
    # the best it can do is not to know
    assert loss.value(network.forward(INPUTS), targets) == pytest.approx(np.log(2), abs=1e-6)


def test_a_step_learns_nothing_behind_it_by_gradients():
    network = Network.fresh((2, 4, 1), activation="step", rng=np.random.default_rng(0))
    outputs = network.forward(INPUTS)
    gradients = network.backward(LOSSES["mean_squared_error"].gradient(outputs, XOR[:, None].astype(np.float64)))
    assert not gradients["layers.0.weight"].any()
    assert gradients["layers.1.weight"].any()
