"""What a call does, without doing it: a flow yields what it wants done and is sent what came of it.

So retries, splitting and parsing are written once. :class:`zero_to_one_client.client.Client` does on threads what
:class:`zero_to_one_client.async_client.AsyncClient` does on an event loop. The idea is known as "sans I/O"
(https://sans-io.readthedocs.io).
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """One request.

    Attributes:
        method: ``GET`` or ``POST``.
        path: Below the address of the service, percent-encoded.
        query: Its parameters.
        headers: Beside those of the client.
        body: Empty where there is none.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpResponse:
    """One answer, whole.

    Attributes:
        status: Of HTTP.
        headers: By their names in small letters.
        body: With any encoding of its content undone.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request; what comes of it is an :class:`HttpResponse`, or an error of the transport is raised.

    Attributes:
        request: To send.
        timeout_s: Seconds for all of it.
    """

    request: HttpRequest
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Pause:
    """Let some seconds go by."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Together:
    """Run other flows side by side; what comes of it is the list of their results, in their order.

    The first error ends the others and is raised.
    """

    flows: Sequence["Flow[Any]"]


Effect: TypeAlias = Send | Pause | Together
Flow: TypeAlias = Generator[Effect, Any, T]


def send(request: HttpRequest, timeout_s: float) -> Flow[HttpResponse]:
    """Return what is answered to a request."""
    response: HttpResponse = yield Send(request, timeout_s)
    return response


def pause(seconds: float) -> Flow[None]:
    """Let some seconds go by."""
    yield Pause(seconds)


def together(flows: Sequence[Flow[T]]) -> Flow[list[T]]:
    """Return the results of other flows; a single one is run here."""
    if len(flows) == 1:
        return [(yield from flows[0])]
    results: list[T] = yield Together(flows)
    return results
