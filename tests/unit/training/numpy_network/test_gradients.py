"""Backward, held against central differences and against torch's own differentiation."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from training.numpy_network.activations import ACTIVATIONS, LEAK
from training.numpy_network.gradient_check import numeric_gradients, relative_errors
from training.numpy_network.losses import LOSSES, one_hot
from training.numpy_network.network import Network

HIDDEN = sorted(ACTIVATIONS)
# behind the last layer: what the losses are made for, and softmax, whose Jacobian is no diagonal
HEADS = [("identity", loss) for loss in sorted(LOSSES)] + [
    (activation, "mean_squared_error") for activation in HIDDEN if activation != "identity"
]
SIZES = (5, 7, 6, 3)

TORCH_ACTIVATIONS = {
    "identity": lambda z: z,
    "step": lambda z: torch.heaviside(z.detach(), torch.ones((), dtype=z.dtype)),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "leaky_relu": lambda z: functional.leaky_relu(z, LEAK),
    "softmax": lambda z: torch.softmax(z, 1),
}
TORCH_LOSSES = {
    "mean_squared_error": functional.mse_loss,
    "binary_cross_entropy": functional.binary_cross_entropy_with_logits,
    "categorical_cross_entropy": functional.cross_entropy,
}


def problem(hidden, head, loss_name):
    """Return a network of random weights and biases, its loss, and ten rows; no sum lies near a kink."""
    for seed in range(100):
        rng = np.random.default_rng(seed)
        network = Network.fresh(SIZES, activation=hidden, output_activation=head, rng=rng)
        for parameter in network.parameters.values():
            parameter += rng.normal(0, 0.1, parameter.shape)
        inputs = rng.normal(size=(10, SIZES[0]))
        if loss_name == "categorical_cross_entropy":
            targets = one_hot(rng.integers(0, SIZES[-1], 10), SIZES[-1])
        else:
            targets = rng.random((10, SIZES[-1]))
        if distance_to_a_kink(network, inputs) > 0.01:
            return network, LOSSES[loss_name], inputs, targets
    raise AssertionError("every seed comes too near to a kink")


def distance_to_a_kink(network, rows):
    nearest = np.inf
    for layer in network.layers:
        sums = rows @ layer.weight.T + layer.bias
        if layer.activation in ("step", "relu", "leaky_relu"):
            nearest = min(nearest, np.abs(sums).min())
        rows = ACTIVATIONS[layer.activation].forward(sums)
    return nearest


def gradients_of(network, loss, inputs, targets):
    return network.backward(loss.gradient(network.forward(inputs), targets))


@pytest.mark.parametrize(("head", "loss_name"), HEADS)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_every_derivative_is_that_of_central_differences(hidden, head, loss_name):
    network, loss, inputs, targets = problem(hidden, head, loss_name)
    gradients = gradients_of(network, loss, inputs, targets)
    numeric = numeric_gradients(network, loss, inputs, targets)
    assert gradients.keys() == numeric.keys() == network.parameters.keys()
    for name, gradient in gradients.items():
        assert gradient.shape == network.parameters[name].shape
        assert gradient.dtype == np.float64
        assert relative_errors(gradient, numeric[name]).max() < 1e-6, name


@pytest.mark.parametrize(("head", "loss_name"), HEADS)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_loss_and_every_derivative_are_those_of_torch(hidden, head, loss_name):
    network, loss, inputs, targets = problem(hidden, head, loss_name)
    parameters = {name: torch.tensor(array, requires_grad=True) for name, array in network.parameters.items()}
    rows = torch.tensor(inputs)
    for index, layer in enumerate(network.layers):
        rows = functional.linear(rows, parameters[f"layers.{index}.weight"], parameters[f"layers.{index}.bias"])
        rows = TORCH_ACTIVATIONS[layer.activation](rows)
    expected = TORCH_LOSSES[loss_name](rows, torch.tensor(targets))
    assert loss.value(network.forward(inputs), targets) == pytest.approx(expected.item(), rel=1e-12)
    if rows.requires_grad:  # not behind a step
        expected.backward()
    for name, gradient in gradients_of(network, loss, inputs, targets).items():
        reference = parameters[name].grad
        np.testing.assert_allclose(
            gradient, np.zeros_like(gradient) if reference is None else reference.numpy(), rtol=1e-9, atol=1e-15
        )


def test_a_wrong_derivative_is_found():
    network, loss, inputs, targets = problem("tanh", "identity", "mean_squared_error")
    wrong = gradients_of(network, loss, inputs, targets)
    wrong["layers.0.weight"][0, 0] *= 1 + 1e-5
    numeric = numeric_gradients(network, loss, inputs, targets)
    assert relative_errors(wrong["layers.0.weight"], numeric["layers.0.weight"]).max() > 1e-6


def test_the_check_leaves_the_network_as_it_was():
    network, loss, inputs, targets = problem("relu", "identity", "mean_squared_error")
    before = network.copy_of_parameters()
    numeric_gradients(network, loss, inputs, targets)
    for name, parameter in network.parameters.items():
        np.testing.assert_array_equal(parameter, before[name])


def test_relative_errors_of_zeros_and_of_rounding_are_zero():
    assert relative_errors(np.array([0.0, 1.0, 0.0, 0.0]), np.array([0.0, 2.0, 1e-9, 1e-13])).tolist() == [0, 0.5, 1, 0]
