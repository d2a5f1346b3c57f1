"""The OpenAPI types of the platforms' doors: those of the predict door, with ``"parameters"`` in the body."""

from collections.abc import Mapping
from typing import Any

from app.bundle.manifest import Manifest
from app.protocols import openapi
from app.protocols.parameters import MEMBER, TENSOR
from app.tasks import Task

_REF = "#/components/schemas/{name}"
_VERSION = {"anyOf": [{"type": "string"}, {"type": "integer"}], "description": "The version to ask."}


def components(manifests: Mapping[str, Manifest], tasks: Mapping[str, Task]) -> dict[str, Any]:
    """Return the schemas that routes refer to, by name, beside those of :func:`app.protocols.openapi.components`."""
    return {_name(task): _request(manifests[name], task) for name, task in tasks.items()}


def of_model(door: str, platform: str, manifest: Manifest, task: Task) -> dict[str, Any]:
    """Return the arguments that document a route whose path names the model.

    Args:
        door: Its label.
        platform: Who asks it.
        manifest: Of the model.
        task: Of the model.
    """
    documented = _without_query(openapi.predict_route(manifest, task))
    documented["openapi_extra"]["requestBody"]["content"]["application/json"]["schema"] = _ref(task)
    return documented | {
        "summary": f"Ask {manifest.name} ({platform})",
        "operation_id": f"{door}_{manifest.name}",
        "tags": [door],
    }


def of_any(door: str, platform: str, tasks: Mapping[str, Task], default: str | None) -> dict[str, Any]:
    """Return the arguments that document a route whose request names the model.

    Args:
        door: Its label.
        platform: Who asks it.
        tasks: By name of the model.
        default: Who answers a request that names none.
    """
    documented = _without_query(openapi.named_predict_route(tasks, default))
    content = documented["openapi_extra"]["requestBody"]["content"]["application/json"]
    content["schema"] = {
        "anyOf": [_ref(task) if name == default else {"allOf": [_ref(task), _NAMED]} for name, task in tasks.items()]
    }
    without = f"Of a request that names no model, `{default}` is asked." if default else "The request names the model."
    return documented | {
        "summary": f"Ask a model ({platform})",
        "description": f'`"model"` in the body or in its `"{MEMBER}"` says who answers. {without}',
        "operation_id": door,
        "tags": [door],
    }


# beside the reference to a request, whose model need not be named
_NAMED = {
    "anyOf": [
        {"required": ["model"]},
        {"required": [MEMBER], "properties": {MEMBER: {"type": "object", "required": ["model"]}}},
    ]
}


def _without_query(documented: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments without what a query may hold: platforms hand none on."""
    extra = documented["openapi_extra"]
    headers = [parameter for parameter in extra["parameters"] if parameter["in"] == "header"]
    return documented | {"openapi_extra": extra | {"parameters": headers}}


def _name(task: Task) -> str:
    return f"Platform{task.request_model.__name__}"


def _ref(task: Task) -> dict[str, str]:
    return {"$ref": _REF.format(name=_name(task))}


def _request(manifest: Manifest, task: Task) -> dict[str, Any]:
    """Return the schema of a body: that of the predict door, with the parameters beside."""
    schema = task.request_model.model_json_schema(ref_template=_REF.replace("{name}", "{model}"))
    schema.pop("$defs", None)  # they are among the components already
    outputs = [spec.name for spec in manifest.outputs]
    parameters: dict[str, Any] = {
        "type": ["object", "null"],
        "description": "What a query says elsewhere; platforms hand no query on.",
        "additionalProperties": False,
        "properties": {
            "model": {"type": "string", "const": manifest.name},
            "version": _VERSION,
            TENSOR: {"type": "string", "enum": outputs, "description": "The output that an answer in bytes holds."},
            **{name: _option(each) for name, each in task.options_model.model_json_schema()["properties"].items()},
        },
    }
    return schema | {"title": _name(task), "properties": schema["properties"] | {MEMBER: parameters}}


def _option(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of an option: never null, and names with commas between may be a list as well."""
    plain = next((each for each in schema.get("anyOf", ()) if each.get("type") != "null"), schema)
    kept = {key: plain[key] for key in ("type", "pattern", "minimum", "maximum", "enum") if key in plain}
    about = {key: schema[key] for key in ("description",) if key in schema}
    if kept.get("type") != "string":
        return kept | about
    return {"anyOf": [kept, {"type": "array", "minItems": 1, "items": kept}]} | about
