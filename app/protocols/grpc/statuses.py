"""Errors on the wire: the one table from error to status code, and what is told beside the message."""

import math

from grpc import StatusCode

from app import errors
from app.admission import Ticket
from app.errors import Overloaded, RateLimited, ServingError

STATUS: dict[type[ServingError], StatusCode] = {
    errors.RequestError: StatusCode.INVALID_ARGUMENT,
    errors.MalformedBody: StatusCode.INVALID_ARGUMENT,
    errors.InvalidInput: StatusCode.INVALID_ARGUMENT,
    # as gRPC itself answers to a message beyond the limit
    errors.BodyTooLarge: StatusCode.RESOURCE_EXHAUSTED,
    errors.TooManyInstances: StatusCode.INVALID_ARGUMENT,
    errors.TooManyValues: StatusCode.INVALID_ARGUMENT,
    # of HTTP alone
    errors.UnsupportedMedia: StatusCode.INVALID_ARGUMENT,
    errors.UnsupportedEncoding: StatusCode.INVALID_ARGUMENT,
    errors.WrongKey: StatusCode.UNAUTHENTICATED,
    errors.NotAllowed: StatusCode.PERMISSION_DENIED,
    errors.RateLimited: StatusCode.RESOURCE_EXHAUSTED,
    errors.UnknownModel: StatusCode.NOT_FOUND,
    errors.UnknownVersion: StatusCode.NOT_FOUND,
    errors.NotLoaded: StatusCode.FAILED_PRECONDITION,
    errors.NotPromotable: StatusCode.FAILED_PRECONDITION,
    errors.NothingToRollBack: StatusCode.FAILED_PRECONDITION,
    errors.ClientGone: StatusCode.CANCELLED,
    # UNAVAILABLE is what clients and proxies try again, RESOURCE_EXHAUSTED often is not
    errors.Unanswered: StatusCode.UNAVAILABLE,
    errors.Overloaded: StatusCode.UNAVAILABLE,
    errors.ModelNotReady: StatusCode.UNAVAILABLE,
    errors.DeadlineExceeded: StatusCode.DEADLINE_EXCEEDED,
    errors.ModelRejectedInput: StatusCode.INVALID_ARGUMENT,
    errors.BackendFailed: StatusCode.UNAVAILABLE,
    # these end the start of the service or one version of a model, and reach no caller
    errors.ServingError: StatusCode.INTERNAL,
    errors.BundleError: StatusCode.INTERNAL,
    errors.BundleNotProven: StatusCode.INTERNAL,
    errors.BundleNotSigned: StatusCode.INTERNAL,
    errors.BackendUnavailable: StatusCode.INTERNAL,
    errors.SettingsError: StatusCode.INTERNAL,
}

REQUEST_ID = "x-request-id"
ERROR_CODE = "x-error-code"
RETRY_AFTER = "retry-after"


def render(error: Exception, ticket: Ticket) -> tuple[StatusCode, str, tuple[tuple[str, str], ...]]:
    """Return status code, message and trailing metadata of an error.

    What is not a :class:`ServingError` is a defect of ours: INTERNAL, and its story is in the log alone.
    """
    request_id = ticket.request_id.decode("ascii")
    if not isinstance(error, ServingError):
        error = ServingError(f"the service failed; its log tells of request {request_id}")
    ticket.explain(error)
    code = STATUS[type(error)]
    metadata = [(REQUEST_ID, request_id), (ERROR_CODE, error.code)]
    if code is StatusCode.UNAVAILABLE or isinstance(error, RateLimited):
        seconds = error.retry_after_s if isinstance(error, Overloaded | RateLimited) else 1.0
        metadata.append((RETRY_AFTER, str(max(1, math.ceil(seconds)))))
    message = error.told.encode("utf-8", "replace").decode()  # it may quote half of a surrogate pair
    return code, message, tuple(metadata)


def receipts(ticket: Ticket) -> tuple[tuple[str, str], ...]:
    """Return the trailing metadata that every answer carries."""
    return ((REQUEST_ID, ticket.request_id.decode("ascii")),)
