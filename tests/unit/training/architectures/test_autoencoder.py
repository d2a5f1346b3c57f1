import re

import numpy as np
import onnx
import pytest
import torch

from app.bundle.manifest import TensorSpec
from training import architectures
from training.export import onnx as onnx_export
from training.export.verify import alone, eager_runner, onnx_runner

SMALL = {"channels": [4, 8], "input_mean": 72.9, "input_std": 90.0}
INPUTS = (TensorSpec(name="image", dtype="float32", shape=("batch", 28, 28)),)
OUTPUTS = (
    TensorSpec(name="error", dtype="float32", shape=("batch",)),
    TensorSpec(name="code", dtype="float32", shape=("batch", 32)),
    TensorSpec(name="reconstruction", dtype="float32", shape=("batch", 28, 28)),
)


@pytest.fixture(scope="module")
def served():
    torch.manual_seed(0)
    return architectures.as_served(architectures.build("autoencoder", SMALL)).eval()


@pytest.fixture(scope="module")
def exported(served):
    return onnx_export.dump(served, INPUTS, OUTPUTS)


@pytest.fixture
def inputs(pictures):
    return {"image": pictures.images[:9].astype(np.float32)}


def test_a_picture_becomes_a_code_and_the_code_a_picture(served, inputs):
    network, pixels_BHW = served.network, torch.tensor(inputs["image"])
    code_BD = network.encode(pixels_BHW)
    assert code_BD.shape == (9, 32)
    reconstruction_BHW = network.decode(code_BD)
    assert reconstruction_BHW.shape == (9, 28, 28)
    assert reconstruction_BHW.dtype == torch.float32
    assert 0 <= reconstruction_BHW.min() < reconstruction_BHW.max() <= 255
    assert torch.equal(network(pixels_BHW), reconstruction_BHW)


def test_what_is_served_is_the_error_the_code_and_the_reconstruction(served, inputs):
    outputs = eager_runner(served, ("error", "code", "reconstruction"))(inputs)
    difference_BHW = outputs["reconstruction"].astype(np.float64) - inputs["image"]
    np.testing.assert_allclose(outputs["error"], ((difference_BHW / 255) ** 2).mean((1, 2)), rtol=1e-5)
    assert outputs["code"].shape == (9, 32)


def test_the_graph_answers_as_the_network_does_alone_and_in_a_batch(served, exported, inputs):
    expected = eager_runner(served, ("error", "code", "reconstruction"))(inputs)
    run = onnx_runner(exported)
    for actual in (run(inputs), alone(run, inputs)):
        assert list(actual) == ["error", "code", "reconstruction"]
        np.testing.assert_allclose(actual["error"], expected["error"], atol=1e-6)
        np.testing.assert_allclose(actual["code"], expected["code"], atol=1e-5)
        np.testing.assert_allclose(actual["reconstruction"], expected["reconstruction"], atol=1e-3)


def test_the_graph_is_the_same_again_names_its_axes_and_bears_no_trace(served, exported):
    assert onnx_export.dump(served, INPUTS, OUTPUTS) == exported
    graph = onnx.load_from_string(exported).graph
    shapes = {
        value.name: tuple(axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.output)
    }
    assert shapes == {spec.name: spec.shape for spec in (*INPUTS, *OUTPUTS)}
    assert not re.search(rb"\.py\b|site-packages|stack_trace|/home/|/root/|/tmp/|/usr/", exported)


def test_noise_is_for_training_only(inputs):
    pixels_BHW = torch.tensor(inputs["image"])
    quiet = architectures.build("autoencoder", SMALL)
    noisy = architectures.build("autoencoder", {**SMALL, "noise": 0.3})
    noisy.load_state_dict(quiet.state_dict())
    assert torch.equal(quiet.train()(pixels_BHW), quiet(pixels_BHW))
    assert not torch.equal(noisy.train()(pixels_BHW), noisy(pixels_BHW))
    assert torch.equal(noisy.eval()(pixels_BHW), quiet.eval()(pixels_BHW))
    assert torch.equal(pixels_BHW, torch.tensor(inputs["image"]))


def test_noise_is_as_strong_as_the_config_says():
    network = architectures.build("autoencoder", {**SMALL, "noise": 0.1})
    seen = []
    network.conv1.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    network.train()(torch.full((50, 28, 28), 127.0))
    pixels = seen[0] * 90.0 + 72.9
    assert pixels.std().item() == pytest.approx(25.5, rel=0.02)
    assert pixels.mean().item() == pytest.approx(127.0, abs=0.5)


def test_gradients_reach_every_parameter(inputs):
    network = architectures.build("autoencoder", SMALL)
    pixels_BHW = torch.tensor(inputs["image"])
    (network(pixels_BHW) - pixels_BHW).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_sixteen_pictures_are_learned_better_than_their_mean(pictures):
    torch.manual_seed(0)
    network = architectures.build("autoencoder", {**SMALL, "channels": [8, 16]}).train()
    pixels_BHW = torch.tensor(pictures.images[:16].astype(np.float32))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(80):
        loss = ((network(pixels_BHW) - pixels_BHW) / 255).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    spread = ((pixels_BHW - pixels_BHW.mean(0)) / 255).square().mean()
    assert loss < 0.25 * spread


def test_other_sizes_of_picture_and_code(inputs):
    network = architectures.build("autoencoder", {**SMALL, "height": 8, "width": 12, "code_size": 3})
    pixels_BHW = torch.rand(5, 8, 12) * 255
    assert network.encode(pixels_BHW).shape == (5, 3)
    assert network(pixels_BHW).shape == (5, 8, 12)


def test_the_default_fits_its_share_of_the_repository():
    assert architectures.num_parameters(architectures.build("autoencoder", {})) * 4 <= 1e6
