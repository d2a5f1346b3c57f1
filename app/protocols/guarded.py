"""What keys and rates add to the OpenAPI document, where there are any."""

from typing import Any

from app.access.roles import Paths, Role
from app.protocols import openapi
from app.protocols.open_inference import errors as open_inference
from app.protocols.problem import MEDIA_TYPE, Problem

_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key, as `Authorization: Bearer KEY`."},
    "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key."},
}
_TOLD = {
    401: "There is no key, or none that is good.",
    403: "The key lacks the role for this.",
    429: "The key or the address has asked more often than it may; `Retry-After` says when to come back.",
}


def complete(document: dict[str, Any], paths: Paths, *, has_keys: bool, has_rates: bool) -> None:
    """Add how keys are sent, what each path needs, and how requests are refused for want of it.

    Args:
        document: Of FastAPI; changed in place.
        paths: Know the role of each.
        has_keys: Whether predicting and reading need a key.
        has_rates: Whether callers have limits.
    """
    if has_keys:
        document["components"].setdefault("securitySchemes", {}).update(_SCHEMES)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            role = paths.role(method.upper(), path)
            if role is None:
                continue
            if has_keys:
                operation["security"] = [{name: []} for name in _SCHEMES]
                _refuse(operation, path, 401, 403)
                operation["description"] = _needing(role, operation.get("description", ""))
            if has_rates:
                _refuse(operation, path, 429)


def _needing(role: Role, description: str) -> str:
    return f"{description}\n\nNeeds a key of the role `{role}`.".strip()


def _refuse(operation: dict[str, Any], path: str, *statuses: int) -> None:
    is_open_inference = open_inference.is_form_of(path)
    schema = (open_inference.ErrorAnswer if is_open_inference else Problem).__name__
    media_type = open_inference.MEDIA_TYPE if is_open_inference else MEDIA_TYPE
    content = {media_type: {"schema": {"$ref": openapi.REF.format(model=schema)}}}
    for status in statuses:
        told = {"description": _TOLD[status], "content": content, "headers": openapi.headers_of(status)}
        operation["responses"].setdefault(str(status), told)
