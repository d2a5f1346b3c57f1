import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from app.bundle.loader import open_bundle
from app.bundle.manifest import TensorSpec
from app.tensors import take
from tests.support.committed import LATEST
from tests.support.exported import SCORES, series_bundle
from training import architectures
from training.export import onnx as float32
from training.export import quantize, verify

FIXTURE = Path(__file__).parents[3] / "fixtures" / "fashion_mnist_test_512.npz"
TOKENS = (
    TensorSpec(name="tokens", dtype="int64", shape=("batch", "time")),
    TensorSpec(name="lengths", dtype="int64", shape=("batch",)),
)


class Texts(nn.Module):
    """Embeddings, an LSTM and two dense layers, all large enough to be packed."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(200, 32)
        self.steps = nn.LSTM(32, 32, batch_first=True)
        self.dense = nn.Linear(32, 64)
        self.head = nn.Linear(64, 3)

    def forward(self, tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
        states_BTD, _ = self.steps(self.words(tokens_BT))
        hidden_BTD = torch.relu(self.dense(states_BTD))
        last_B1D = (lengths_B - 1)[:, None, None].expand(-1, 1, hidden_BTD.shape[2])
        logits_BC: Tensor = self.head(torch.gather(hidden_BTD, 1, last_B1D).squeeze(1))
        return logits_BC


@pytest.fixture(scope="module")
def pictures():
    return {"image": np.load(FIXTURE)["images"].astype(np.float32)}


@pytest.fixture(scope="module")
def texts():
    generator = np.random.default_rng(0)
    lengths_B = generator.integers(1, 13, 20)
    tokens_BT = generator.integers(0, 200, (20, 12))
    tokens_BT[np.arange(12) >= lengths_B[:, None]] = 0
    return {"tokens": tokens_BT, "lengths": lengths_B}


@pytest.fixture(scope="module")
def text_graph():
    torch.manual_seed(0)
    module = architectures.as_served(Texts()).eval()
    with warnings.catch_warnings():
        # torch says several things of its own way with recurrent layers
        warnings.simplefilter("ignore")
        return float32.dump(module, TOKENS, SCORES)


def graph_of(name):
    bundle = open_bundle(LATEST[name])
    return bundle.read(bundle.artifact("onnx"))


def types(data):
    return [node.op_type for node in onnx.load_from_string(data).graph.node]


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_static_int8_is_small_and_agrees_with_the_network(name, pictures):
    graph = graph_of(name)
    data = quantize.dump_static(graph, take(pictures, 0, 256))
    assert len(graph) / len(data) > 3
    unseen = take(pictures, 256, 512)
    actual, expected = (verify.run_in_batches(verify.onnx_runner(each), unseen, 32) for each in (data, graph))
    agreement = (actual["logits"].argmax(1) == expected["logits"].argmax(1)).mean()
    assert agreement > 0.97


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_batch_mates_leave_the_answers_of_static_int8_alone(name, pictures):
    run = quantize.runner(quantize.dump_static(graph_of(name), take(pictures, 0, 64)))
    rows = take(pictures, 0, 64)
    # one row that is far out of range would move the scale of a dynamic quantization
    rows = {"image": np.concatenate([rows["image"], rows["image"][:1] * 50])}
    together, alone = run(rows), verify.alone(run, rows)
    assert max(verify.max_differences(together, alone).values()) <= 1e-6


def test_no_scale_is_taken_from_the_batch(pictures, text_graph):
    for data in (quantize.dump_static(graph_of("cnn"), take(pictures, 0, 8)), quantize.dump_weight_only(text_graph)):
        assert not {"DynamicQuantizeLinear", "DynamicQuantizeLSTM", "MatMulInteger"} & set(types(data))


def test_weights_take_seven_bits_so_that_no_processor_overflows(pictures):
    model = onnx.load_from_string(quantize.dump_static(graph_of("mlp"), take(pictures, 0, 8)))
    packed = [onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    weights = [array for array in packed if array.dtype == np.int8 and array.ndim == 2]
    assert len(weights) == 3
    assert all(np.abs(array.astype(int)).max() <= 64 for array in weights)


def test_nodes_can_be_left_in_float32(pictures):
    rows = take(pictures, 0, 8)
    whole, part = (quantize.dump_static(graph_of("cnn"), rows, exclude=names) for names in ((), ("node_conv2d",)))
    assert types(part).count("DequantizeLinear") < types(whole).count("DequantizeLinear")


def test_static_int8_gives_the_same_bytes_without_traces_of_the_machine(pictures, capfd):
    first, second = (quantize.dump_static(graph_of("mlp"), take(pictures, 0, 40)) for _ in range(2))
    assert first == second
    assert str(Path.cwd()).encode() not in first
    assert capfd.readouterr() == ("", "")


def test_calibration_wants_rows(pictures):
    with pytest.raises(ValueError, match="calibration needs at least one row"):
        quantize.dump_static(graph_of("mlp"), take(pictures, 0, 0))


def test_weights_only_is_small_and_near(text_graph, texts):
    data = quantize.dump_weight_only(text_graph)
    assert quantize.weights_share(text_graph) > 0.7
    assert len(text_graph) / len(data) > 2
    actual, expected = verify.onnx_runner(data)(texts), verify.onnx_runner(text_graph)(texts)
    assert 0 < verify.max_differences(actual, expected)["probabilities"] < 0.01
    assert data == quantize.dump_weight_only(text_graph)


def test_batch_mates_leave_the_answers_of_weights_only_alone(text_graph, texts):
    run = quantize.runner(quantize.dump_weight_only(text_graph))
    assert max(verify.max_differences(run(texts), verify.alone(run, texts)).values()) <= 1e-6


def test_embeddings_are_looked_up_in_integers(text_graph):
    model = onnx.load_from_string(quantize.dump_weight_only(text_graph))
    table = next(tensor for tensor in model.graph.initializer if list(tensor.dims) == [200, 32])
    assert table.data_type == onnx.TensorProto.INT8
    readers = [node.op_type for node in model.graph.node if table.name in node.input]
    assert readers == ["Gather"]


def test_every_large_weight_is_packed(text_graph):
    model = onnx.load_from_string(quantize.dump_weight_only(text_graph))
    left = [
        tensor.name
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and np.prod(tensor.dims) >= quantize.MIN_WEIGHTS
    ]
    assert left == []


def test_a_graph_of_small_weights_only_is_refused():
    with pytest.raises(ValueError, match="holds no weight of 1024 numbers or more"):
        quantize.dump_weight_only(graph_of("numpy_regression"))


def test_the_share_of_weights_is_that_of_the_file():
    assert quantize.weights_share(graph_of("mlp")) > 0.99
    assert quantize.weights_share(graph_of("numpy_regression")) == 0


def test_an_lstm_that_was_exported_as_a_program_before_is_still_one_node_with_open_steps(tmp_path):
    """PyTorch remembers the loop over its steps that it made of the layer then."""
    series_bundle(tmp_path)
    torch.manual_seed(0)
    module = architectures.as_served(Texts()).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = onnx.load_model_from_string(float32.dump(module, TOKENS, SCORES))
    assert [node.op_type for node in graph.graph.node].count("LSTM") == 1
