"""What the Open Inference Protocol tells of the service and its models: metadata, and Triton's model configuration.

Plain dictionaries, whose keys are those of the protocol's JSON and the fields of its messages. Sources: the protocol's
REST specification; Triton's extension of the model configuration, and ``model_config.proto``.

**Shapes.** Metadata tell whole shapes, ``-1`` where an axis is open; the first axis is the batch. The configuration's
``dims`` leave the batch out, as always where ``max_batch_size`` is above 0. So an input or output of a single number
for each row has the shape ``[-1]``, and empty ``dims``.

**Natural inputs.** Some models take a text or a picture's file as BYTES *instead of* all of their tensors. Metadata
list the tensors alone: a tool that knows nothing else sends all that metadata list, and both at once would be refused.
Nor is it an ``input`` of the configuration, since tools (perf_analyzer) stop at one that metadata do not have. The
configuration's ``parameters`` that begin with ``natural_input`` tell it.

**Labels.** Triton names files; here the ``parameters`` tell the labels themselves, as a JSON array.
"""

import json
from typing import Any

from app import __version__
from app.bundle.manifest import Manifest, TensorSpec
from app.protocols.open_inference.datatypes import BYTES, datatype_of
from app.serving.versions import Model, State, Version
from app.settings import Settings
from app.tasks import Task

NAME = "zero-to-one"
EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "parameters",
    "statistics",
)
# project and format, by the format of the artifact
_PLATFORMS = {
    "onnx": "onnxruntime_onnx",
    "torchscript": "pytorch_libtorch",
    "torch_export": "pytorch_export",
    "state_dict": "pytorch_state_dict",
}
_BACKENDS = {"onnx": "onnxruntime", "torchscript": "pytorch", "torch_export": "pytorch", "state_dict": "pytorch"}


def server_metadata() -> dict[str, Any]:
    """Return the service's name and version, and the extensions that it has."""
    return {"name": NAME, "version": __version__, "extensions": list(EXTENSIONS)}


def model_metadata(model: Model, version: Version) -> dict[str, Any]:
    """Return what is told of a model.

    Args:
        model: All its versions, of which those that are ready are told.
        version: Of these; it is or was ready.
    """
    manifest = _manifest(version)
    return {
        "name": model.name,
        "versions": [str(other.ref.version) for other in model.versions if other.state is State.READY],
        "platform": _platform(version),
        "inputs": [_metadata(spec) for spec in manifest.inputs],
        "outputs": [_metadata(spec) for spec in manifest.outputs],
    }


def model_config(version: Version, task: Task, settings: Settings) -> dict[str, Any]:
    """Return the configuration of a version that is or was ready, in the shape of Triton's ``ModelConfig``."""
    manifest = _manifest(version)
    batching = manifest.batching
    on_gpu = version.device == "cuda"
    return {
        "name": manifest.name,
        "platform": _platform(version),
        "backend": _BACKENDS.get(_format(version), _format(version)),
        "version_policy": {"all": {}},
        "max_batch_size": batching.max_rows,
        "input": [_configured(spec) | _INPUT_FLAGS for spec in manifest.inputs],
        "output": [_configured(spec) for spec in manifest.outputs],
        "instance_group": [
            {
                "name": manifest.name,
                "kind": "KIND_GPU" if on_gpu else "KIND_CPU",
                "count": settings.workers,
                "gpus": [0] if on_gpu else [],
            }
        ],
        "default_model_filename": _file(version, manifest),
        "dynamic_batching": {
            "preferred_batch_size": [batching.max_rows],
            "max_queue_delay_microseconds": round(batching.max_wait_ms * 1e3),
        },
        "parameters": {name: {"string_value": value} for name, value in _parameters(manifest, task, settings).items()},
    }


_INPUT_FLAGS: dict[str, Any] = {"format": "FORMAT_NONE", "optional": False}


def _parameters(manifest: Manifest, task: Task, settings: Settings) -> dict[str, str]:
    """Return what Triton's fields have no place for."""
    told = {
        "task": manifest.task.kind,
        "description": manifest.description,
        "max_rows_per_request": str(settings.max_instances),
    }
    if manifest.batching.max_elements is not None:
        told["max_elements_per_batch"] = str(manifest.batching.max_elements)
    if labels := getattr(manifest.task, "labels", ()):
        told["labels"] = json.dumps(labels, ensure_ascii=False)
    if task.natural is not None:
        told["natural_input"] = task.natural.name
        told["natural_input_datatype"] = BYTES
        told["natural_input_shape"] = "[-1] or [-1,1], instead of all other inputs"
        told["natural_input_description"] = task.natural.description
    return told


def _metadata(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": datatype_of(spec.dtype), "shape": _lengths(spec)}


def _configured(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "data_type": f"TYPE_{datatype_of(spec.dtype)}", "dims": _lengths(spec)[1:]}


def _lengths(spec: TensorSpec) -> list[int]:
    return [-1 if isinstance(axis, str) else axis for axis in spec.shape]


def _manifest(version: Version) -> Manifest:
    assert version.bundle is not None  # what is ready has a valid manifest
    return version.bundle.manifest


def _format(version: Version) -> str:
    return (version.backend_name or _manifest(version).artifacts[0].format).partition("-")[0]


def _platform(version: Version) -> str:
    return _PLATFORMS.get(_format(version), _format(version))


def _file(version: Version, manifest: Manifest) -> str:
    artifact = manifest.artifact(version.backend_name or manifest.artifacts[0].key)
    return "" if artifact is None else artifact.path
