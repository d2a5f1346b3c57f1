"""Errors in the form of the Open Inference Protocol: ``{"error": "..."}``, and the status of each.

The same errors as on every other door, with the same statuses but where the protocol knows better: it has one status,
400, for whatever is wrong with the tensors of a request.
"""

import json
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field

from app import errors
from app.errors import ServingError
from app.protocols import openapi, problem

MEDIA_TYPE = "application/json"

# what the protocol calls otherwise than the other doors do
_STATUS: dict[type[ServingError], int] = {
    errors.InvalidInput: HTTPStatus.BAD_REQUEST,
    errors.ModelRejectedInput: HTTPStatus.BAD_REQUEST,
}
TOLD: dict[int, str] = {
    400: "The request is malformed, or its values are not what is taken; the message names them.",
    401: "The key is missing or wrong.",
    403: "The key lacks the role for this, or this service has no key that has it.",
    404: "No such model or version.",
    413: "The body, or what it holds, is too large.",
    415: "The body has an encoding that is not read.",
    503: "Not ready, or overloaded; `Retry-After` says when to come back.",
    504: "The deadline passed.",
}
_OF_ADMISSION = (400, 413, 415)


class ErrorAnswer(BaseModel):
    """Any error, as the protocol writes it."""

    error: str = Field(description="What is wrong, and how to mend it; for people.")


def is_form_of(path: str) -> bool:
    """Tell whether a path is one of the Open Inference Protocol or of KServe's first, which share a form for errors."""
    return path in ("/v1/models", "/v2") or path.startswith(("/v1/models/", "/v2/"))


def status_of(error: Exception) -> int:
    """Return the HTTP status of an error. What is not a :class:`ServingError` is a defect of ours, a 500."""
    if not isinstance(error, ServingError):
        return HTTPStatus.INTERNAL_SERVER_ERROR
    return _STATUS.get(type(error), problem.STATUS[type(error)])


def message_of(error: Exception, request_id: bytes) -> str:
    """Return what is told of an error; of a defect of ours, only where its story is."""
    if isinstance(error, ServingError):
        return error.told
    return f"the service failed; its log tells of request {request_id.decode('ascii')}"


def render(error: Exception, request_id: bytes) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Return status, headers and body of an error, as :func:`app.protocols.problem.render` does."""
    status = status_of(error)
    body = render_message(message_of(error, request_id))
    return status, [*problem.advice(error, status), *_describe(body)], body


def render_message(message: str) -> bytes:
    """Return a message as the body of an error."""
    # the standard library's encoder: an error may quote a lone surrogate of the caller's, which others refuse
    return json.dumps({"error": message}).encode("ascii")


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the ``responses`` of a route for the given error statuses.

    They refer to the one schema of :func:`components`: given the type, FastAPI would build a validator for each status
    of each route, and the service would start later by that.
    """
    content = {MEDIA_TYPE: {"schema": {"$ref": openapi.REF.format(model=ErrorAnswer.__name__)}}}
    return {
        status: {"description": TOLD[status], "content": content, "headers": openapi.headers_of(status)}
        for status in statuses
    }


def components() -> dict[str, Any]:
    """Return the schemas that routes refer to, by name."""
    return {ErrorAnswer.__name__: ErrorAnswer.model_json_schema()}


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the ``responses`` of a route that answers in JSON: admission may refuse the head of any request."""
    ok: dict[int | str, dict[str, Any]] = {200: {"headers": openapi.RECEIPTS}}
    return ok | responses(*sorted({*statuses, *_OF_ADMISSION}))


def _describe(body: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", b"%d" % len(body))]
