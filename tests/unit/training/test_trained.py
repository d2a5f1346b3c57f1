import dataclasses

import numpy as np
import pytest
import torch

from training.export import verify


@pytest.fixture
def inputs(small_data):
    return {"image": small_data.test.images[:8].astype(np.float32)}


def test_it_is_served_from_the_weights_as_they_are_shipped(trained, problem, inputs):
    run = trained.run(trained.served(), problem.outputs)
    with torch.inference_mode():
        logits_BC = trained.network.eval()(torch.tensor(inputs["image"]))
    np.testing.assert_allclose(run(inputs)["logits"], logits_BC, rtol=1e-6, atol=1e-6)
    assert not trained.served().training


def test_logits_are_divided_by_the_temperature_in_the_network_and_in_the_graph(trained, problem, inputs):
    plain = trained.run(trained.served(), problem.outputs)(inputs)["logits"]
    served = trained.served(temperature=2.5)
    graph = verify.onnx_runner(trained.onnx(served, problem.inputs, problem.outputs))
    for run in (trained.run(served, problem.outputs), graph):
        outputs = run(inputs)
        np.testing.assert_allclose(outputs["logits"], plain / 2.5, rtol=1e-4, atol=1e-4)
        scaled_BC = np.exp(plain / 2.5 - (plain / 2.5).max(axis=1, keepdims=True))
        expected_BC = scaled_BC / scaled_BC.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(outputs["probabilities"], expected_BC, atol=1e-5)


def test_a_trainer_with_a_reference_and_a_graph_of_its_own_is_asked_for_them(trained, problem, inputs):
    other = dataclasses.replace(
        trained, reference=lambda tensors: {"logits": tensors["image"]}, graph=lambda inputs, outputs: b"graph"
    )
    assert other.run(other.served(), problem.outputs)(inputs)["logits"] is inputs["image"]
    assert other.onnx(other.served(), problem.inputs, problem.outputs) == b"graph"
