"""Errors on the wire: RFC 9457 ``application/problem+json``, and the one table from error to status."""

import json
import math
from http import HTTPStatus
from typing import Annotated, Any

from pydantic import BaseModel, Field

from app import errors
from app.encodings import CODINGS
from app.errors import (
    Fault,
    InvalidInput,
    ModelRejectedInput,
    Overloaded,
    RateLimited,
    ServingError,
    UnsupportedEncoding,
)
from app.tasks.decoding.faults import pointer

MEDIA_TYPE = "application/problem+json"

# nginx's 499: nobody reads it, and the metrics tell it from an error of ours
CLIENT_CLOSED_REQUEST = 499

STATUS: dict[type[ServingError], int] = {
    errors.RequestError: HTTPStatus.BAD_REQUEST,
    errors.MalformedBody: HTTPStatus.BAD_REQUEST,
    errors.InvalidInput: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.BodyTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.TooManyInstances: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.TooManyValues: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.UnsupportedMedia: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.UnsupportedEncoding: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.WrongKey: HTTPStatus.UNAUTHORIZED,
    errors.NotAllowed: HTTPStatus.FORBIDDEN,
    errors.RateLimited: HTTPStatus.TOO_MANY_REQUESTS,
    errors.UnknownModel: HTTPStatus.NOT_FOUND,
    errors.UnknownVersion: HTTPStatus.NOT_FOUND,
    errors.NotLoaded: HTTPStatus.BAD_REQUEST,
    errors.NothingToRollBack: HTTPStatus.CONFLICT,
    errors.NotPromotable: HTTPStatus.CONFLICT,
    errors.ClientGone: CLIENT_CLOSED_REQUEST,
    errors.Unanswered: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.Overloaded: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.ModelNotReady: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.DeadlineExceeded: HTTPStatus.GATEWAY_TIMEOUT,
    errors.ModelRejectedInput: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.BackendFailed: HTTPStatus.SERVICE_UNAVAILABLE,
    # these end the start of the service or one version of a model, and reach no caller
    errors.ServingError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.BundleError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.BundleNotProven: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.BundleNotSigned: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.BackendUnavailable: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.SettingsError: HTTPStatus.INTERNAL_SERVER_ERROR,
}

_ADVICE: dict[int, tuple[tuple[bytes, bytes], ...]] = {
    HTTPStatus.SERVICE_UNAVAILABLE: ((b"retry-after", b"1"),),
    HTTPStatus.UNAUTHORIZED: ((b"www-authenticate", b"Bearer"),),
}


class FaultBody(BaseModel):
    """One thing wrong with the request."""

    pointer: str = Field(description="A JSON pointer into the body, as a URI fragment; or `query:NAME`, `header:NAME`.")
    code: str = Field(description="Stable, for programs.")
    detail: str


class LimitBody(BaseModel):
    """A bound that the request ran into."""

    name: str = Field(description="As the card of a model names it among its `limits`; of a member, behind a dot.")
    value: int | float | str


class Problem(BaseModel):
    """Any error, as RFC 9457 writes it."""

    type: str = Field(description="`urn:zero-to-one:problem:` and the code.")
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    code: str = Field(description="Stable, for programs.")
    request_id: str
    limit: LimitBody | None = Field(default=None, description="The limit that was met, where one of the card's was.")
    errors: list[FaultBody] | None = Field(default=None, description="One entry per fault of an invalid input.")


def render(error: Exception, request_id: bytes) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Return status, headers and body of an error. What is not a :class:`ServingError` is a defect of ours, a 500."""
    if not isinstance(error, ServingError):
        error = ServingError("the service failed; its log has the request id")
    status = STATUS[type(error)]
    body: dict[str, Any] = {
        "type": f"urn:zero-to-one:problem:{error.code}",
        "title": error.title,
        "status": status,
        "detail": str(error),
        "code": error.code,
        "request_id": request_id.decode("ascii"),
    }
    if error.limit is not None:
        body["limit"] = {"name": error.limit.name, "value": error.limit.value}
    if faults := _faults(error):
        body["errors"] = [{"pointer": f.pointer, "code": f.code, "detail": f.message} for f in faults]
    # the standard library's encoder: an error may quote a lone surrogate of the caller's, which others refuse
    data = json.dumps(body).encode("ascii")
    headers = advice(error, status)
    headers += [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", b"%d" % len(data))]
    return status, headers, data


def advice(error: Exception, status: int) -> list[tuple[bytes, bytes]]:
    """Return the headers that tell a caller what to do about an error: when to come back, how to be let in."""
    if isinstance(error, Overloaded | RateLimited):
        return [(b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_s)))]
    if isinstance(error, UnsupportedEncoding):  # RFC 9110, section 15.5.16
        return [(b"accept-encoding", b", ".join(CODINGS))]
    return list(_ADVICE.get(status, ()))


def _faults(error: ServingError) -> tuple[Fault, ...]:
    if isinstance(error, InvalidInput):
        return error.faults
    if isinstance(error, ModelRejectedInput):
        return tuple(
            Fault(pointer=pointer("instances", row), code=error.code, message=str(error)) for row in error.rows
        )
    return ()
