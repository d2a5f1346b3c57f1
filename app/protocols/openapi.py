"""The OpenAPI types of the prediction doors: one route per model, with an example that works when it is sent."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Literal

from pydantic import BaseModel

from app.admission import MAX_TIMEOUT_MS
from app.bundle.manifest import Manifest
from app.protocols.problem import MEDIA_TYPE, Problem
from app.serving.policy import LABEL_PATTERN
from app.tasks import Task
from app.tasks.decoding import raw

# beside the file of an upload
MAX_FORM_FIELDS = 8

REF = "#/components/schemas/{model}"

VERSION: dict[str, Any] = {"type": "string", "pattern": "^[1-9][0-9]*$"}
# what a request asks for: a number, or a label
ASKED_VERSION: dict[str, Any] = VERSION | {"pattern": f"^([1-9][0-9]*|{LABEL_PATTERN})$"}
# what every answer carries, whatever it is
RECEIPTS: dict[str, Any] = {
    "X-Request-ID": {
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:/+=@-]{1,128}$"},
        "description": "The caller's own, or a new one.",
    },
}
_RETRY_AFTER: dict[str, Any] = {
    "Retry-After": {
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
        "description": "Seconds after which it is worth another try.",
    },
}
# what every answer of a model carries
ANSWER_RECEIPTS: dict[str, Any] = RECEIPTS | {
    "X-Model-Version": {
        "required": True,
        "schema": VERSION,
        "description": "The version that answered.",
    },
    "Server-Timing": {
        "required": True,
        "schema": {"type": "string"},
        "description": "Milliseconds for `parse`, `queue` and `compute`, and the rows of the `batch`.",
    },
}
_TENSOR: dict[str, Any] = {
    "X-Tensor": {
        "schema": {"type": "string", "pattern": "^[^;]+; dtype=[a-z0-9]+; shape=[0-9]+(,[0-9]+)*$"},
        "description": "Name, dtype and shape of an answer in bytes: `probabilities; dtype=float32; shape=1,10`.",
    },
}
# a parameter of whatever takes time
TIMEOUT: dict[str, Any] = {
    "name": "X-Request-Timeout-Ms",
    "in": "header",
    "schema": {"type": "integer", "minimum": 1, "maximum": MAX_TIMEOUT_MS, "examples": [30_000]},
    "description": "Milliseconds that the caller waits; 504 past it.",
}
BINARY = {"type": "string", "format": "binary"}
_TEXT = {"type": "string", "minLength": 1}
TOLD = {
    400: "The body is malformed.",
    401: "The key is missing or wrong.",
    403: "The key is not good for this, or this service has none that is.",
    404: "No such model or version.",
    409: "As things stand it cannot be done: there is nothing before this, or the shadow has not earned it.",
    413: "The body, or the number of instances, is too large.",
    415: "The model does not take this media type, or the body is encoded as neither gzip nor deflate.",
    422: "Values are invalid; `errors` names every fault.",
    503: "The model is not ready, its queue is full, or no answer is to be expected within the deadline; `Retry-After` "
    "says when to come back.",
    504: "The deadline passed.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the ``responses`` of a route for the given error statuses."""
    return {
        status: {
            "description": TOLD[status],
            "content": {MEDIA_TYPE: {"schema": {"$ref": REF.format(model=Problem.__name__)}}},
            "headers": headers_of(status),
        }
        for status in statuses
    }


def headers_of(status: int) -> dict[str, Any]:
    """Return what an error of a status carries, on whatever door."""
    return RECEIPTS | _RETRY_AFTER if status == HTTPStatus.SERVICE_UNAVAILABLE else RECEIPTS


def predict_route(manifest: Manifest, task: Task) -> dict[str, Any]:
    """Return the arguments that document one model's route."""
    content = {"application/json": {"schema": _ref(task.request_model), "example": task.example()}}
    return {
        "summary": f"Ask {manifest.name}",
        "description": manifest.description,
        "operation_id": f"predict_{manifest.name}",
        "tags": ["predict"],
        "responses": _answers(_ref(task.response_model)),
        "openapi_extra": {
            "parameters": [*_parameters(task.options_model, version=manifest.version), _tensor_parameter(manifest)],
            "requestBody": {"required": True, "content": content | _files(task)},
        },
    }


def named_predict_route(tasks: Mapping[str, Task], default_model: str | None) -> dict[str, Any]:
    """Return the arguments that document the route whose body names the model."""
    requests = {name: _ref(task.request_model) for name, task in tasks.items()}
    schema = {
        "oneOf": list(requests.values()),
        "discriminator": {"propertyName": "model", "mapping": {name: ref["$ref"] for name, ref in requests.items()}},
    }
    examples = {name: {"value": {"model": name} | task.example()} for name, task in tasks.items()}
    files = _files(tasks[default_model]) if default_model is not None and default_model in tasks else {}
    without = f"answers with `{default_model}`" if default_model else "is an error"
    return {
        "summary": "Ask the model that the body names",
        "description": f'`"model"` in the body says who answers; a body without it {without}.',
        "operation_id": "predict",
        "tags": ["predict"],
        "responses": _answers({"oneOf": [_ref(task.response_model) for task in tasks.values()]}),
        "openapi_extra": {
            "parameters": [
                _model_parameter(tasks),
                *_parameters(*dict.fromkeys(task.options_model for task in tasks.values())),
                _tensor_parameter(None),
            ],
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": schema, "examples": examples}} | files,
            },
        },
    }


def components(tasks: Mapping[str, Task]) -> dict[str, Any]:
    """Return the schemas that the routes refer to, by name."""
    schemas: dict[str, Any] = {}

    def add(model: type[BaseModel], mode: Literal["validation", "serialization"]) -> None:
        schema = model.model_json_schema(ref_template=REF, mode=mode)
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema

    for task in tasks.values():
        add(task.request_model, "validation")
        add(task.response_model, "serialization")
    add(Problem, "serialization")
    return schemas


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": REF.format(model=model.__name__)}


def _answers(schema: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    ok = {"description": "Predictions, one per instance.", "headers": ANSWER_RECEIPTS | _TENSOR}
    content = {"application/json": {"schema": schema}, raw.MEDIA_TYPE: {"schema": BINARY}}
    return {200: ok | {"content": content}} | problems(*TOLD)


def _files(task: Task) -> dict[str, Any]:
    """Describe the bodies that are files or bytes: a raw one of each media type, and an upload."""
    bodies: dict[str, Any] = {
        media_type: {"schema": _TEXT if media_type.startswith("text/") else BINARY} for media_type in task.media_types
    }
    if task.media_types:
        bodies["multipart/form-data"] = {
            "schema": {
                "type": "object",
                "properties": {"file": BINARY},
                "required": ["file"],
                "maxProperties": 1 + MAX_FORM_FIELDS,
            },
            "encoding": {"file": {"contentType": ", ".join(task.media_types)}},
        }
    if task.raw is not None:
        bodies[raw.MEDIA_TYPE] = {"schema": BINARY | {"description": task.raw.describe()}}
    return bodies


def _model_parameter(tasks: Mapping[str, Task]) -> dict[str, Any]:
    return {
        "name": "model",
        "in": "query",
        "schema": {"type": "string", "enum": list(tasks)},
        "description": "Who answers a body that cannot name it, a picture or a plain text; a name in the body wins.",
    }


def _tensor_parameter(manifest: Manifest | None) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    if manifest is not None:
        schema["enum"] = [spec.name for spec in manifest.outputs]
    return {
        "name": "tensor",
        "in": "query",
        "schema": schema,
        "description": "The output that an answer in bytes holds (`Accept: application/octet-stream`); without it the "
        "last one of the model.",
    }


def _parameters(*options: type[BaseModel], version: int | None = None) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        {
            "name": "version",
            "in": "query",
            "schema": ASKED_VERSION if version is None else ASKED_VERSION | {"examples": [str(version)]},
            "description": "The version to ask, by number or label; without it the model's policy says which answers.",
        },
        TIMEOUT,
    ]
    told: dict[str, dict[str, Any]] = {}
    for model in options:
        for name, schema in model.model_json_schema()["properties"].items():
            # a parameter is left out rather than null
            plain = next((s for s in schema.get("anyOf", ()) if s.get("type") != "null"), schema)
            if name in told:  # a parameter has one entry, whatever it means to each model
                told[name]["schema"] = {"anyOf": [told[name]["schema"], plain]}
                continue
            told[name] = {"name": name, "in": "query", "schema": plain, "description": schema.get("description", "")}
    return [*parameters, *told.values()]
