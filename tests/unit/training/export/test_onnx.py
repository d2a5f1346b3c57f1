import re

import numpy as np
import onnx
import pytest
import torch

from app.bundle.manifest import TensorSpec
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


class Blend(torch.nn.Module):
    """Two inputs with an axis of their own each, beside the one that they share."""

    def __init__(self):
        super().__init__()
        # cut and joined when it is called, and too large for the exporter to do it beforehand
        self.table = torch.nn.Parameter(torch.randn(3, 20_000))

    def forward(self, steps_BTC, marks_BM):
        table_CW = torch.cat([self.table[:, 10_000:], self.table[:, :10_000]], dim=1)
        sums_BW = (steps_BTC @ table_CW).sum(1)
        return sums_BW[:, :4], (steps_BTC.sum((1, 2)) + marks_BM.sum(1)).unsqueeze(1) + marks_BM


class BlendOfAny(torch.nn.Module):
    def __init__(self, blend):
        super().__init__()
        self.blend = blend

    def forward(self, *inputs):
        return self.blend(*inputs)


BLEND_INPUTS = (
    TensorSpec(name="steps", dtype="float32", shape=("batch", "time", 3)),
    TensorSpec(name="marks", dtype="int64", shape=("batch", "places")),
)
BLEND_OUTPUTS = (
    TensorSpec(name="sums", dtype="float32", shape=("batch", 4)),
    TensorSpec(name="moved", dtype="float32", shape=("batch", "places")),
)


@pytest.fixture(scope="module", params=["named arguments", "any number of arguments"])
def blend(request):
    torch.manual_seed(0)
    module = Blend().eval()
    served = module if request.param == "named arguments" else BlendOfAny(module).eval()
    return served, onnx_export.dump(served, BLEND_INPUTS, BLEND_OUTPUTS)


@pytest.mark.parametrize(("rows", "steps", "places"), [(1, 1, 1), (2, 2, 2), (2, 3, 4), (5, 40, 1), (1, 3, 30)])
def test_every_named_axis_of_several_inputs_is_open_by_itself(blend, rows, steps, places):
    served, data = blend
    random = np.random.default_rng(0)
    inputs = {
        "steps": random.normal(size=(rows, steps, 3)).astype(np.float32),
        "marks": random.integers(0, 9, (rows, places)),
    }
    expected = eager_runner(served, ("sums", "moved"))(inputs)
    actual = onnx_runner(data)(inputs)
    assert list(actual) == ["sums", "moved"]
    for name in actual:
        np.testing.assert_allclose(actual[name], expected[name], atol=1e-4)


def test_weights_that_are_cut_and_joined_are_written_once_and_as_they_end_up(blend):
    model = onnx.load_from_string(blend[1])
    assert "Concat" not in [node.op_type for node in model.graph.node]
    assert len(blend[1]) < 1.05 * 4 * 3 * 20_000
    assert [[axis.dim_param for axis in value.type.tensor_type.shape.dim][:2] for value in model.graph.input] == [
        ["batch", "time"],
        ["batch", "places"],
    ]
