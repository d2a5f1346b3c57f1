"""Activations, losses, initialization, optimizers and batches, each by itself."""

import numpy as np
import pytest
import torch

from training.numpy_network.activations import ACTIVATIONS, sigmoid, softmax
from training.numpy_network.batches import mini_batches
from training.numpy_network.initialization import he, initialization_for, xavier
from training.numpy_network.losses import LOSSES, one_hot
from training.numpy_network.network import Network
from training.numpy_network.optimizers import OPTIMIZERS

FAR = np.array([[-1e4, -800.0, 0.0, 800.0, 1e4]])


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_activation_overflows_or_leaves_its_dtype(name, dtype):
    with np.errstate(all="raise", under="ignore"):
        outputs = ACTIVATIONS[name].forward(FAR.astype(dtype))
    assert outputs.dtype == dtype
    assert np.isfinite(outputs).all()


def test_sigmoid_and_softmax_reach_their_ends():
    assert sigmoid(FAR).tolist() == [[0.0, 0.0, 0.5, 1.0, 1.0]]
    assert softmax(FAR).tolist() == [[0.0, 0.0, 0.0, 0.0, 1.0]]


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_no_loss_overflows_where_the_network_is_sure_and_wrong(name):
    targets = one_hot(np.array([0]), 5)
    with np.errstate(all="raise", under="ignore"):
        assert np.isfinite(LOSSES[name].value(FAR, targets))
        assert np.isfinite(LOSSES[name].gradient(FAR, targets)).all()


def test_losses_of_what_is_right_are_nothing():
    assert LOSSES["mean_squared_error"].value(FAR, FAR) == 0
    assert LOSSES["binary_cross_entropy"].value(np.array([[-50.0, 50.0]]), np.array([[0.0, 1.0]])) < 1e-20
    assert LOSSES["categorical_cross_entropy"].value(FAR, one_hot(np.array([4]), 5)) == 0


def test_fresh_weights_have_the_variance_of_their_source():
    rng = np.random.default_rng(0)
    assert xavier(rng, 300, 200).var() == pytest.approx(2 / 500, rel=0.02)
    assert he(rng, 300, 200).var() == pytest.approx(2 / 300, rel=0.02)
    assert initialization_for("relu") is initialization_for("leaky_relu") is he
    assert initialization_for("tanh") is initialization_for("identity") is xavier


def test_fresh_weights_are_decided_by_the_generator():
    first, second, other = (
        Network.fresh((4, 3, 2), activation="tanh", rng=np.random.default_rng(seed)).parameters for seed in (1, 1, 2)
    )
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert not np.array_equal(first["layers.0.weight"], other["layers.0.weight"])
    assert not first["layers.0.bias"].any()


TORCH_OPTIMIZERS = {
    "sgd": lambda groups, lr: torch.optim.SGD(groups, lr=lr),
    "momentum": lambda groups, lr: torch.optim.SGD(groups, lr=lr, momentum=0.9),
    "adam": lambda groups, lr: torch.optim.AdamW(groups, lr=lr),
}


# torch couples the decay of SGD to the gradient
@pytest.mark.parametrize(("name", "decay"), [("sgd", 0.0), ("momentum", 0.0), ("adam", 0.0), ("adam", 0.3)])
def test_an_optimizer_goes_the_way_of_torch(name, decay):
    rng = np.random.default_rng(0)
    ours = {"layers.0.weight": rng.normal(size=(3, 4)), "layers.0.bias": rng.normal(size=3)}
    theirs = {key: torch.tensor(array) for key, array in ours.items()}
    groups = [
        {"params": [theirs["layers.0.weight"]], "weight_decay": decay},
        {"params": [theirs["layers.0.bias"]], "weight_decay": 0.0},
    ]
    reference, optimizer = TORCH_OPTIMIZERS[name](groups, 0.01), OPTIMIZERS[name](0.01, weight_decay=decay)
    for _ in range(20):
        gradients = {key: rng.normal(size=array.shape) for key, array in ours.items()}
        for key, tensor in theirs.items():
            tensor.grad = torch.tensor(gradients[key])
        reference.step()
        optimizer.step(ours, gradients)
    for key, tensor in theirs.items():
        np.testing.assert_allclose(ours[key], tensor.numpy(), rtol=1e-9)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_decay_shrinks_weights_and_leaves_biases(name):
    parameters = {"layers.0.weight": np.ones((2, 2)), "layers.0.bias": np.ones(2)}
    OPTIMIZERS[name](0.1, weight_decay=0.5).step(parameters, {key: np.zeros_like(a) for key, a in parameters.items()})
    np.testing.assert_allclose(parameters["layers.0.weight"], 0.95)
    np.testing.assert_array_equal(parameters["layers.0.bias"], 1)


def test_batches_hold_every_row_once_with_its_target():
    inputs = np.arange(20.0).reshape(10, 2)
    batches = list(mini_batches(inputs, inputs[:, :1], batch_size=4, rng=np.random.default_rng(0)))
    assert [len(rows) for rows, _ in batches] == [4, 4, 2]
    rows = np.concatenate([rows for rows, _ in batches])
    assert sorted(rows[:, 0]) == inputs[:, 0].tolist()
    assert rows[:, 0].tolist() != inputs[:, 0].tolist()
    np.testing.assert_array_equal(rows[:, :1], np.concatenate([targets for _, targets in batches]))


def test_batches_are_drawn_one_at_a_time():
    rng = np.random.default_rng(0)
    endless = mini_batches(np.zeros((10**6, 1)), np.zeros((10**6, 1)), batch_size=1, rng=rng)
    assert len(next(endless)[0]) == 1


@pytest.mark.parametrize(("num_targets", "size", "message"), [(3, 2, "4 inputs and 3 targets"), (4, 0, "batch_size")])
def test_impossible_batches_are_refused(num_targets, size, message):
    with pytest.raises(ValueError, match=message):
        next(mini_batches(np.zeros((4, 1)), np.zeros((num_targets, 1)), batch_size=size, rng=np.random.default_rng(0)))
