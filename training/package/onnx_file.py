"""Reads an ONNX file: what goes in, what comes out, and whether the service could run it."""

import hashlib
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime
from onnx.external_data_helper import _get_all_tensors, uses_external_data

from app.bundle.manifest import TensorSpec
from app.tensors import Tensors
from training.errors import PackageRefused
from training.export import onnx as export
from training.export.verify import Run
from training.package.config import DTYPES
from training.package.onnx_edit import edit, sanitize
from training.package.source import Built, Output, Steps, Told

_DYNAMIC = (
    "export it with a dynamic first axis: torch.onnx.export(..., dynamic_shapes=...) or dynamic_axes={'input': "
    "{0: 'batch'}}; skl2onnx: initial_types=[('X', FloatTensorType([None, features]))]; tf2onnx: a signature of None"
)
_INLINE = "write it in one file: onnx.save_model(onnx.load('model.onnx'), 'one.onnx', save_as_external_data=False)"
_ZIPMAP = "; skl2onnx answers with plain tensors if told options={'zipmap': False}"


class OnnxSource:
    """A graph; see :class:`training.package.source.Source`."""

    missing: tuple[tuple[str, str, str], ...] = ()

    def __init__(self, model: onnx.ModelProto, name: str, told: Told) -> None:
        self.told = told
        self._model = model
        self._name = name
        self._sha256 = hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Return all that is no weight."""
        weights = {tensor.name for tensor in self._model.graph.initializer}
        return tuple(_spec(value) for value in self._model.graph.input if value.name not in weights)

    @property
    def outputs(self) -> tuple[Output, ...]:
        """Return all, those that cannot be served without a dtype."""
        return tuple(Output(name=value.name, dtype=_dtype(value)) for value in self._model.graph.output)

    def build(self, steps: Steps, inputs: tuple[TensorSpec, ...]) -> tuple[Run, tuple[Built, ...]]:
        """Put the steps into the graph; see :class:`training.package.source.Source`."""
        del inputs
        content = edit(self._model, steps)
        names = [head.public for head in steps.heads]
        run = runner(content, names, self._name)
        return run, (Built(format=export.FORMAT, path=export.FILE_NAME, content=content, run=run),)

    def architecture(self) -> tuple[str, dict[str, Any]]:
        """Tell the producer and the digest of the file's content; see :class:`training.package.source.Source`."""
        producer = f"{self._model.producer_name} {self._model.producer_version}".strip()
        return "imported", {"format": "onnx", "producer": producer, "sha256": self._sha256}


def read(path: Path, told: Told | None = None) -> OnnxSource:
    """Read a file and hold it against what the service can run.

    Raises:
        PackageRefused: It is no ONNX, keeps weights elsewhere, has operators that ONNX Runtime does not know, or inputs
            that no task can feed; the message names all of them.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except OSError:
        raise
    except Exception as exc:  # protobuf has its own
        raise PackageRefused(f"{path} is no ONNX file: {exc}") from exc
    if not model.graph.node and not model.graph.output:
        raise PackageRefused(f"{path} is no ONNX file, or an empty one")
    outside = [tensor.name for tensor in _get_all_tensors(model) if uses_external_data(tensor)]
    if outside:
        raise PackageRefused(
            f"{path} keeps {len(outside)} weights in files beside it ({', '.join(outside[:3])}), for which no digest "
            f"would speak; {_INLINE}"
        )
    runner(model.SerializeToString(), [value.name for value in model.graph.output], path.name, model=model)
    _expect_feedable(model, path)
    return OnnxSource(sanitize(model), path.name, told or Told())


def runner(content: bytes, names: list[str], what: str, *, model: onnx.ModelProto | None = None) -> Run:
    """Return a function that runs a graph on one thread, as the service will.

    Raises:
        PackageRefused: ONNX Runtime refuses it; operators that it does not know are named.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is wrong is told here
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # onnxruntime raises a dozen types of its own
        unknown = "" if model is None else _unknown_operators(model)
        raise PackageRefused(f"ONNX Runtime refuses {what}: {unknown}{exc}") from exc

    def run(inputs: Tensors) -> Tensors:
        return dict(zip(names, cast(list[Any], session.run(names, inputs)), strict=True))

    return run


def _unknown_operators(model: onnx.ModelProto) -> str:
    own = {(function.domain, function.name) for function in model.functions}
    used = {(node.domain, node.op_type) for node in model.graph.node} - own
    unknown = sorted(f"{domain or 'ai.onnx'}::{name}" for domain, name in used if not onnx.defs.has(name, domain))
    if not unknown:
        return ""
    return f"its operators {', '.join(unknown)} are not known here; export it with those of standard ONNX. "


def _dtype(value: onnx.ValueInfoProto) -> str | None:
    if value.type.WhichOneof("value") != "tensor_type":
        return None
    try:
        name = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)).name
    except (KeyError, TypeError):
        return None
    return name if name in DTYPES else None


def _expect_feedable(model: onnx.ModelProto, path: Path) -> None:
    weights = {tensor.name for tensor in model.graph.initializer}
    values = [value for value in model.graph.input if value.name not in weights]
    if not values:
        raise PackageRefused(f"{path} has no input: it answers everything with the same")
    strange = [f"{value.name} ({_kind(value)})" for value in values if _dtype(value) is None]
    if strange:
        raise PackageRefused(
            f"no task can feed these inputs of {path}: {', '.join(strange)}; they would have to be tensors of "
            f"{', '.join(DTYPES)}"
        )
    without = [repr(value.name) for value in values if not _has_batch_axis(value)]
    if without:
        raise PackageRefused(
            f"{path} takes one fixed batch only, the first axis of {', '.join(without)} is fixed or missing; {_DYNAMIC}"
        )
    if all(_dtype(value) is None for value in model.graph.output):
        told = ", ".join(f"{value.name} ({_kind(value)})" for value in model.graph.output)
        raise PackageRefused(f"no output of {path} can be served: {told}{_ZIPMAP}")


def _kind(value: onnx.ValueInfoProto) -> str:
    kind = value.type.WhichOneof("value") or "nothing"
    if kind != "tensor_type":
        return kind.removesuffix("_type")
    return str(onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type)).lower()


def _has_batch_axis(value: onnx.ValueInfoProto) -> bool:
    shape = value.type.tensor_type
    return shape.HasField("shape") and bool(shape.shape.dim) and not shape.shape.dim[0].HasField("dim_value")


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    dims = value.type.tensor_type.shape.dim[1:]
    axes = [
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or f"{value.name}_{index}"
        for index, dim in enumerate(dims, start=1)
    ]
    dtype = _dtype(value)
    assert dtype is not None
    return TensorSpec.model_validate({"name": value.name, "dtype": dtype, "shape": ("batch", *axes)})
