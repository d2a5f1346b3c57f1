"""Everything that can go wrong for a caller of the client.

::

    ClientError
    ├── InvalidRequest       what was given cannot be sent; nothing was
    │   ├── WrongTask        the model's task is another than that of the request
    │   └── MissingExtra     NumPy or Pillow is needed, and not installed
    ├── TransportError       no answer came
    │   ├── ConnectFailed    there was no connection; nothing was sent
    │   ├── ConnectionLost   the connection ended before the answer did
    │   └── BrokenProtocol   what came is not HTTP, or the address is none of it
    ├── DeadlineExceeded     no answer within the time of the call
    ├── UnexpectedAnswer     answered, but not as this service answers
    └── ServiceError         the service said no, and why
        ├── BadRequest       400, 405 and their like
        ├── Unauthorized     401, 403: the key is missing, wrong, or not good for this
        ├── NotFound         404: no such model, version or door
        ├── TooLarge         413: more bytes or instances than one request may hold
        ├── InvalidInput     422: every fault by its place
        ├── RateLimited      429
        ├── Unavailable      502, 503: overloaded, loading or failed; tried again before it is raised
        └── ServiceFailed    500 and other 5xx: a defect of the service

A 504 is :class:`DeadlineExceeded` too: who gave up first, the service or the client, is no difference to the caller.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing wrong with a request.

    Attributes:
        pointer: Where: a JSON pointer as a URI fragment, ``#/instances/3/image``, counted over the whole of the call;
            or ``query:NAME``, ``header:NAME``.
        code: Stable, for programs: ``wrong_shape``, ``out_of_range``, ...
        detail: For people.
    """

    pointer: str
    code: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A bound that a request ran into.

    Attributes:
        name: As the card of a model names it among its ``limits``; of a member of one of them, behind a dot.
        value: What may be; of a rate in words, as ``100 in 1 s``.
    """

    name: str
    value: float | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What the service said (RFC 9457, or ``{"error": ...}`` of the Open Inference Protocol).

    Attributes:
        status: Of HTTP.
        code: Stable, for programs: ``unknown_model``, ``overloaded``, ...
        title: The code, for people.
        detail: What is wrong here, for people.
        faults: Of an invalid input, one entry each.
        request_id: By which the service's log knows the request; None where the answer had none.
        retry_after_s: Seconds after which to try again; None where the service did not say.
        limit: The bound that was met; None where it was none, or the service told it in its words alone, as the Open
            Inference Protocol does.
    """

    status: int
    code: str
    title: str
    detail: str
    faults: tuple[Fault, ...] = field(default=())
    request_id: str | None = None
    retry_after_s: float | None = None
    limit: Limit | None = None


class ClientError(Exception):
    """Root of the tree.

    Attributes:
        is_retryable: Whether the same request may be answered if it is sent again.
    """

    is_retryable: ClassVar[bool] = False


class InvalidRequest(ClientError, ValueError):
    """What was given cannot be sent."""


class WrongTask(InvalidRequest):
    """The model's task is another than that of the request."""


class MissingExtra(InvalidRequest, ImportError):
    """A library is needed that is not installed; the message names the extra."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra '{extra}': pip install 'zero-to-one-client[{extra}]'")


class TransportError(ClientError):
    """No answer came."""


class ConnectFailed(TransportError):
    """There was no connection; nothing was sent."""

    is_retryable = True


class ConnectionLost(TransportError):
    """The connection ended before the answer did. Predictions change nothing, so they are asked for again."""

    is_retryable = True


class BrokenProtocol(TransportError):
    """What came is not HTTP, or the address is none of it."""


class UnexpectedAnswer(ClientError):
    """Answered, but not as this service answers: another service, or a proxy, may live at the address."""


class DeadlineExceeded(ClientError):
    """No answer within the time of the call.

    Attributes:
        problem: What the service said, where it was the service that gave up; None where the client did.
    """

    def __init__(self, message: str, problem: Problem | None = None) -> None:
        super().__init__(message)
        self.problem = problem


class ServiceError(ClientError):
    """The service said no.

    Attributes:
        problem: All that it said.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        where = f" (request {problem.request_id})" if problem.request_id else ""
        super().__init__(f"{problem.status} {problem.code}: {problem.detail}{where}")

    @property
    def status(self) -> int:
        """The status of HTTP."""
        return self.problem.status

    @property
    def code(self) -> str:
        """Stable, for programs."""
        return self.problem.code

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Of an invalid input, one entry each."""
        return self.problem.faults

    @property
    def request_id(self) -> str | None:
        """By which the service's log knows the request."""
        return self.problem.request_id

    @property
    def retry_after_s(self) -> float | None:
        """Seconds after which to try again."""
        return self.problem.retry_after_s

    @property
    def limit(self) -> Limit | None:
        """The bound of the service that was met."""
        return self.problem.limit


class BadRequest(ServiceError):
    """The request cannot be read, or not at this door."""


class Unauthorized(ServiceError):
    """The key is missing, wrong, or lacks the role for this."""


class NotFound(ServiceError):
    """No such model, version or door."""


class TooLarge(ServiceError):
    """More bytes or instances than one request may hold, and it cannot be split any further."""


class InvalidInput(ServiceError):
    """The values are not what the model takes."""


class RateLimited(ServiceError):
    """The caller is over its rate."""


class Unavailable(ServiceError):
    """Overloaded, loading, failed or leaving."""

    is_retryable = True


class ServiceFailed(ServiceError):
    """A defect of the service; its log has the request id."""


_BY_STATUS: dict[int, type[ServiceError]] = {
    401: Unauthorized,
    403: Unauthorized,
    404: NotFound,
    413: TooLarge,
    422: InvalidInput,
    429: RateLimited,
    502: Unavailable,
    503: Unavailable,
}
_GATEWAY_TIMEOUT = 504


def error_of(problem: Problem) -> ServiceError | DeadlineExceeded:
    """Return the error that a problem is raised as."""
    if problem.status == _GATEWAY_TIMEOUT:
        return DeadlineExceeded(f"the service gave up: {problem.detail}", problem)
    fallback = BadRequest if problem.status < 500 else ServiceFailed
    return _BY_STATUS.get(problem.status, fallback)(problem)


def placed(error: ServiceError, start: int, stop: int) -> ServiceError:
    """Return the error of one part of a split call, with its places counted over the whole of the call.

    Args:
        error: As the part was answered.
        start: The first instance of the part.
        stop: The one behind its last.
    """
    problem = error.problem
    faults = tuple(replace(fault, pointer=_shifted(fault.pointer, start)) for fault in problem.faults)
    detail = f"of instances {start} to {stop - 1}: {problem.detail}"
    return type(error)(replace(problem, faults=faults, detail=detail))


_INSTANCES = "#/instances/"


def _shifted(pointer: str, start: int) -> str:
    if not pointer.startswith(_INSTANCES):
        return pointer
    place, slash, rest = pointer.removeprefix(_INSTANCES).partition("/")
    return f"{_INSTANCES}{int(place) + start}{slash}{rest}" if place.isdecimal() else pointer
