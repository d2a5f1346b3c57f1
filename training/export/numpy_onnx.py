"""The ``onnx`` artifact of a NumPy network: its graph written down node by node, without an exporter."""

from collections.abc import Iterator, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from app.bundle.manifest import TensorSpec
from training.export.onnx import OPSET
from training.numpy_network.activations import LEAK
from training.numpy_network.model import Model

_NODES = {"sigmoid": "Sigmoid", "tanh": "Tanh", "relu": "Relu", "leaky_relu": "LeakyRelu"}
_PRODUCER = "zero-to-one"


def dump(model: Model, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> bytes:
    """Write a model as a graph, with both scales and the softmax inside.

    Args:
        model: Of float32.
        inputs: The one input, float32 of shape (batch, F).
        outputs: ``logits`` and ``probabilities``; or ``value``.

    Returns:
        A checked ONNX model with its weights inside.

    Raises:
        onnx.checker.ValidationError: The tensors are not those of the model.
    """
    constants = [numpy_helper.from_array(array, name) for name, array in model.state().items()]
    if model.targets is not None:
        constants.append(numpy_helper.from_array(np.array([1], np.int64), "column"))
    graph = helper.make_graph(
        list(_nodes(model, inputs[0].name)),
        "numpy_mlp",
        [_value_info(spec) for spec in inputs],
        [_value_info(spec) for spec in outputs],
        constants,
    )
    opset = helper.make_opsetid("", OPSET)
    proto = helper.make_model(
        graph, opset_imports=[opset], ir_version=helper.find_min_ir_version_for([opset]), producer_name=_PRODUCER
    )
    onnx.checker.check_model(proto, full_check=True)
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def _nodes(model: Model, input_name: str) -> Iterator[onnx.NodeProto]:
    """Yield the nodes in the order in which :meth:`Model.run` computes."""
    yield helper.make_node("Sub", [input_name, "inputs.mean"], ["centered"])
    yield helper.make_node("Div", ["centered", "inputs.std"], ["standardized"])
    layers = model.network.layers
    outputs = "standardized"
    for index, layer in enumerate(layers):
        is_last = index == len(layers) - 1
        sums = "logits" if is_last and model.targets is None else f"sums.{index}"
        yield helper.make_node("Gemm", [outputs, f"layers.{index}.weight", f"layers.{index}.bias"], [sums], transB=1)
        outputs = sums
        if not is_last:
            outputs = f"outputs.{index}"
            node = helper.make_node(_NODES[layer.activation], [sums], [outputs])
            if layer.activation == "leaky_relu":
                node.attribute.append(helper.make_attribute("alpha", LEAK))
            yield node
    if model.targets is None:
        yield helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1)
        return
    yield helper.make_node("Mul", [outputs, "targets.std"], ["spread"])
    yield helper.make_node("Add", ["spread", "targets.mean"], ["restored"])
    yield helper.make_node("Squeeze", ["restored", "column"], ["value"])


def _value_info(spec: TensorSpec) -> onnx.ValueInfoProto:
    assert spec.dtype == "float32"
    return helper.make_tensor_value_info(spec.name, TensorProto.FLOAT, list(spec.shape))
