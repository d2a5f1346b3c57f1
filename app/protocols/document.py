"""What is true of every route, added to the OpenAPI document once all routes are known."""

from collections.abc import Mapping
from typing import Any

from app.protocols import openapi
from app.protocols.open_inference import errors as open_inference
from app.protocols.problem import MEDIA_TYPE, Problem
from app.serving.versions import Model

# where a model that is not there yet may come from
_REPOSITORY = ("/v2/repository/", "/admin/")


def complete(document: dict[str, Any], models: Mapping[str, Model]) -> None:
    """Add receipts, what admission may refuse, and the names of the models.

    Args:
        document: Of FastAPI; changed in place.
        models: By name, as they are now.
    """
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _add_refusals(operation, of_open_inference=open_inference.is_form_of(path))
            for response in operation["responses"].values():
                response["headers"] = openapi.RECEIPTS | response.get("headers", {})
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "path":
                    _name(parameter, models, is_open=path.startswith(_REPOSITORY))
    for unused in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(unused, None)


def _add_refusals(operation: dict[str, Any], *, of_open_inference: bool) -> None:
    """Document what may be wrong with any request: with its head, and that its body does not come."""
    responses = operation["responses"]
    if "HTTPValidationError" in str(responses.get("422")):
        del responses["422"]
    if of_open_inference:
        told, schema, media_type = open_inference.TOLD, open_inference.ErrorAnswer.__name__, open_inference.MEDIA_TYPE
    else:
        told, schema, media_type = openapi.TOLD, Problem.__name__, MEDIA_TYPE
    late = (504,) if "requestBody" in operation else ()
    for status in (*late, 413, 415, 400 if of_open_inference else 422):
        content = {media_type: {"schema": {"$ref": openapi.REF.format(model=schema)}}}
        responses.setdefault(str(status), {"description": told[status], "content": content})


def _name(parameter: dict[str, Any], models: Mapping[str, Model], *, is_open: bool) -> None:
    if parameter["name"] == "model":
        parameter["schema"] |= {"examples" if is_open else "enum": list(models)}
    elif parameter["name"] == "version":
        numbers = {version.ref.version for model in models.values() for version in model.versions}
        parameter["schema"] |= openapi.ASKED_VERSION | {"examples": [str(number) for number in sorted(numbers)]}
