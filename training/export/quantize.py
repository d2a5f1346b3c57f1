"""The ``onnx-int8`` artifact: weights of eight bits, and, where calibration rows say how far they reach, activations.

Two ways, neither of which lets the rows of a batch see each other. Dynamic quantization does: it takes the scale of an
activation from the whole batch, so that a row is answered otherwise beside other rows. It is not offered.

- :func:`dump_static`: convolutions and dense layers in integers, with scales measured on training rows (Jacob et al.,
  arXiv:1712.05877). For the MLP, the CNN and the autoencoder.
- :func:`dump_weight_only`: the weights in integers, one scale to an output unit or to a row of an embedding, and all
  arithmetic in float32. For recurrent networks and transformers.
"""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process

from app.tensors import Array, Tensors, num_rows, take
from training.export import onnx as float32
from training.export.verify import onnx_runner

FORMAT = float32.FORMAT
VARIANT = "int8"
FILE_NAME = "model.int8.onnx"

runner = onnx_runner

CALIBRATION_BATCH = 32
# operators that gain from integers; scaling, temperature and softmax stay in float32, where they cost next to nothing
STATIC_OPERATORS = ("Conv", "Gemm", "MatMul")
# a weight below this many numbers costs more to unpack than it saves
MIN_WEIGHTS = 1024
_INT8_MAX = 127
# of onnxruntime's logger; the second is its default
_ERROR, _WARNING = 3, 2
# weights of these nodes: the input that holds them, and the axis of the units that each have a scale of their own
_WEIGHTS = {"Conv": ((1, 0),), "MatMul": ((1, 1),), "LSTM": ((1, 1), (2, 1)), "RNN": ((1, 1), (2, 1))}
_WEIGHTS["GRU"] = _WEIGHTS["LSTM"]


class _Rows(quantization.CalibrationDataReader):  # type: ignore[misc]
    """Hands calibration rows to onnxruntime, a batch at a time."""

    def __init__(self, rows: Tensors) -> None:
        starts = range(0, num_rows(rows), CALIBRATION_BATCH)
        self._batches = iter([take(rows, start, start + CALIBRATION_BATCH) for start in starts])

    def get_next(self) -> Tensors | None:
        return next(self._batches, None)


def dump_static(
    graph: bytes, calibration: Tensors, *, operators: Sequence[str] = STATIC_OPERATORS, exclude: Sequence[str] = ()
) -> bytes:
    """Quantize the weights and activations of an ONNX model.

    The integers are those that every processor computes alike: weights take seven of the eight bits, as without VNNI
    two products of full range overflow the sixteen bits that they are summed in.

    Args:
        graph: The float32 model.
        calibration: Its inputs for rows of the training split; a few hundred.
        operators: The types of nodes that are quantized.
        exclude: Names of nodes that stay in float32 all the same.

    Returns:
        A checked ONNX model; the same rows give the same bytes.

    Raises:
        ValueError: There are no calibration rows.
        onnx.checker.ValidationError: onnxruntime wrote something that is no valid model.
    """
    if num_rows(calibration) == 0:
        raise ValueError("calibration needs at least one row")
    with tempfile.TemporaryDirectory() as folder, _quiet():
        prepared, target = Path(folder) / "prepared.onnx", Path(folder) / "target.onnx"
        _prepare(graph, prepared)
        quantization.quantize_static(
            str(prepared),
            str(target),
            _Rows(calibration),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            op_types_to_quantize=list(operators),
            nodes_to_exclude=list(exclude),
            per_channel=True,
            reduce_range=True,
        )
        model = onnx.load(target)
    return _finished(model)


def dump_weight_only(graph: bytes) -> bytes:
    """Store the weights of an ONNX model in eight bits, and unpack them.

    Every large float32 weight of a convolution, dense or recurrent layer is stored in integers with one scale to an
    output unit, and is cast and multiplied back. onnxruntime folds that once, as it loads; a ``DequantizeLinear`` it
    would compute in every call, and could not lay the weights out for its kernels. A table of embeddings is looked up
    in integers, and only the rows found are unpacked. The arithmetic is that of the float32 model, so a row of a batch
    is as independent of the others as there.

    Args:
        graph: The float32 model.

    Returns:
        A checked ONNX model.

    Raises:
        ValueError: It holds no weight that is large enough.
        onnx.checker.ValidationError: The result is no valid model.
    """
    with tempfile.TemporaryDirectory() as folder, _quiet():
        # folded first: exporters cut the weights of recurrent layers out of larger ones, in the graph
        prepared = Path(folder) / "prepared.onnx"
        _prepare(graph, prepared)
        model = onnx.load(prepared)
    weights = {tensor.name: tensor for tensor in model.graph.initializer if _is_large(tensor)}
    used: dict[str, int] = {}
    for node in model.graph.node:
        for name in node.input:
            used[name] = used.get(name, 0) + 1
    nodes: list[onnx.NodeProto] = []
    packed: dict[str, list[onnx.TensorProto]] = {}
    for node in model.graph.node:
        if node.op_type == "Gather" and node.input[0] in weights and used[node.input[0]] == 1 and _axis(node) == 0:
            nodes += _unpacked_rows(node, weights[node.input[0]], packed)
            continue
        for index, axis in _places(node):
            if index < len(node.input) and node.input[index] in weights:
                nodes += _unpacked(node, index, axis, weights[node.input[index]], packed)
        nodes.append(node)
    if not packed:
        raise ValueError(f"the graph holds no weight of {MIN_WEIGHTS} numbers or more that can be stored in eight bits")
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in packed]
    del model.graph.node[:], model.graph.initializer[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend([*kept, *(tensor for tensors in packed.values() for tensor in tensors)])
    return _finished(model)


def _prepare(graph: bytes, target: Path) -> None:
    """Write a graph whose shapes are inferred and whose constants are folded."""
    source = target.with_name("source.onnx")
    source.write_bytes(graph)
    quant_pre_process(str(source), str(target), skip_symbolic_shape=True)


def weights_share(graph: bytes) -> float:
    """Return the share of a float32 model's bytes that are weights large enough to be stored in eight bits."""
    model = onnx.load_from_string(graph)
    numbers = sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer if _is_large(tensor))
    return 4 * numbers / len(graph)


def _is_large(tensor: onnx.TensorProto) -> bool:
    return bool(
        tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) >= 2 and np.prod(tensor.dims) >= MIN_WEIGHTS
    )


def _places(node: onnx.NodeProto) -> tuple[tuple[int, int], ...]:
    """Return where a node takes weights, and along which axis of them its units lie."""
    if node.op_type == "Gemm":
        is_transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        return ((1, 0 if is_transposed else 1),)
    return _WEIGHTS.get(node.op_type, ())


def _axis(node: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)


def _pack(tensor: onnx.TensorProto, axis: int) -> tuple[Array, Array]:
    """Return a weight as int8, and the scale of each of its slices along an axis, in a shape that broadcasts."""
    values = numpy_helper.to_array(tensor)
    others = tuple(i for i in range(values.ndim) if i != axis)
    scales = np.abs(values).max(axis=others) / _INT8_MAX
    shape = [-1 if i == axis else 1 for i in range(values.ndim)]
    scales = np.where(scales == 0, 1, scales).astype(np.float32).reshape(shape)
    return np.rint(values / scales).astype(np.int8), scales


def _unpacked(
    node: onnx.NodeProto, index: int, axis: int, weight: onnx.TensorProto, packed: dict[str, list[onnx.TensorProto]]
) -> Iterator[onnx.NodeProto]:
    """Yield the nodes that unpack a weight, if they are not there already, and let ``node`` read from them."""
    name = weight.name
    if name not in packed:
        integers, scales = _pack(weight, axis)
        packed[name] = [
            numpy_helper.from_array(integers, f"{name}.int8"),
            numpy_helper.from_array(scales, f"{name}.scale"),
        ]
        yield helper.make_node("Cast", [f"{name}.int8"], [f"{name}.float"], to=onnx.TensorProto.FLOAT)
        yield helper.make_node("Mul", [f"{name}.float", f"{name}.scale"], [f"{name}.unpacked"], name=f"unpack_{name}")
    node.input[index] = f"{name}.unpacked"


def _unpacked_rows(
    node: onnx.NodeProto, table: onnx.TensorProto, packed: dict[str, list[onnx.TensorProto]]
) -> Iterator[onnx.NodeProto]:
    """Yield the nodes that look rows up in integers, and unpack those found."""
    name, ids, output = table.name, node.input[1], node.output[0]
    integers, scales = _pack(table, 0)
    packed[name] = [
        numpy_helper.from_array(integers, f"{name}.int8"),
        numpy_helper.from_array(scales, f"{name}.scale"),
    ]
    yield helper.make_node("Gather", [f"{name}.int8", ids], [f"{output}.int8"], name=f"look_up_{name}")
    yield helper.make_node("Gather", [f"{name}.scale", ids], [f"{output}.scale"], name=f"look_up_scale_{name}")
    yield helper.make_node("Cast", [f"{output}.int8"], [f"{output}.float"], to=onnx.TensorProto.FLOAT)
    yield helper.make_node("Mul", [f"{output}.float", f"{output}.scale"], [output], name=f"unpack_{name}")


def _finished(model: onnx.ModelProto) -> bytes:
    float32.strip_traces(model)
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the advice to prepare a model that has been prepared, and what its preparation says of leftovers."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    onnxruntime.set_default_logger_severity(_ERROR)
    try:
        yield
    finally:
        onnxruntime.set_default_logger_severity(_WARNING)
        root.setLevel(level)
