import re

import numpy as np
import onnx
import pytest

from training import architectures
from training.export import onnx as onnx_export
from training.export.verify import eager_runner, onnx_runner, parity

SMALL = {"cnn": {"channels": [4, 8], "dense": 16}, "mlp": {"hidden": [16, 8]}}


@pytest.fixture(params=sorted(SMALL), scope="module")
def exported(request, problem):
    """A small network as it is served, and its ONNX form."""
    config = {**SMALL[request.param], "input_mean": 72.9, "input_std": 90.0}
    served = architectures.as_served(architectures.build(request.param, config)).eval()
    return served, onnx_export.dump(served, problem.inputs, problem.outputs)


@pytest.mark.parametrize("num_rows", [1, 2, 7, 32])
def test_the_graph_answers_as_the_network_does_for_any_number_of_rows(exported, pictures, num_rows):
    served, data = exported
    inputs = {"image": pictures.images[:num_rows].astype(np.float32)}
    expected = eager_runner(served, ("logits", "probabilities"))(inputs)
    actual = onnx_runner(data)(inputs)
    assert list(actual) == ["logits", "probabilities"]
    for name in actual:
        assert actual[name].dtype == np.float32
        np.testing.assert_allclose(actual[name], expected[name], atol=1e-5)
    assert parity(actual, expected).label_agreement == 1.0


def test_names_shapes_and_axes_are_those_of_the_manifest(exported):
    graph = onnx.load_from_string(exported[1]).graph

    def described(values):
        return {
            value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
            for value in values
        }

    assert described(graph.input) == {"image": ["batch", 28, 28]}
    assert described(graph.output) == {"logits": ["batch", 10], "probabilities": ["batch", 10]}


def test_scaling_and_softmax_are_inside_the_graph(exported):
    kinds = [node.op_type for node in onnx.load_from_string(exported[1]).graph.node]
    assert kinds[:2] == ["Sub", "Div"]
    assert kinds[-1] == "Softmax"


def test_weights_are_inside_the_file_and_no_trace_of_this_machine_is(exported, repository):
    model = onnx.load_from_string(exported[1])
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert not model.functions
    assert str(repository).encode() not in exported[1]
    assert not re.search(rb"\.py\b|site-packages|stack_trace|/home/|/root/|/tmp/|/usr/", exported[1])


def test_the_same_network_gives_the_same_file(exported, problem):
    served, data = exported
    assert onnx_export.dump(served, problem.inputs, problem.outputs) == data
