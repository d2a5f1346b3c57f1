"""One request until it is answered: tries, pauses, the deadline; and what is asked once and kept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import quote

from zero_to_one_client import documents, flows, retries, splitting, wire
from zero_to_one_client.cards import ModelCard, Readiness, read_card, read_readiness
from zero_to_one_client.documents import Document
from zero_to_one_client.errors import (
    ClientError,
    InvalidInput,
    InvalidRequest,
    NotFound,
    ServiceError,
    TooLarge,
    UnexpectedAnswer,
    placed,
)
from zero_to_one_client.flows import Flow, HttpRequest, HttpResponse
from zero_to_one_client.retries import Clock, Deadline, RetryPolicy

R = TypeVar("R")

# what the service says of a batch that is too much as a whole, and good in parts
_TOO_MUCH_TOGETHER = {"too_many_characters", "too_many_numbers"}
_BINARY_EXTENSION = "binary_tensor_data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A good answer, and how often it was asked for."""

    response: HttpResponse
    tries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Asks the service, as often as it takes.

    Attributes:
        policy: When to try again.
        clock: Monotonic, in seconds.
        now: Seconds since 1970.
        random: Returns a number from 0 to 1.
        may_be_binary: Whether numbers may go as bytes.
    """

    policy: RetryPolicy
    clock: Clock
    now: wire.WallClock
    random: Callable[[], float]
    may_be_binary: bool
    _cards: dict[str, ModelCard] = field(default_factory=dict)
    _extensions: set[str] = field(default_factory=set)

    def ask(self, request: HttpRequest, deadline: Deadline) -> Flow[Answered]:
        """Return a good answer, or raise what the last try came to.

        Raises:
            ClientError: As :mod:`zero_to_one_client.errors` draws them.
        """
        tries = 0
        while True:
            tries += 1
            try:
                response = yield from self.once(request, deadline)
                error = wire.error_in(response, self.now)
                if error is None:
                    return Answered(response=response, tries=tries)
            except ClientError as exc:
                error = exc
            pause_s = self.policy.pause_s(error, tries, self.random)
            if pause_s is None or not deadline.allows(pause_s):
                raise error
            yield from flows.pause(pause_s)

    def once(self, request: HttpRequest, deadline: Deadline) -> Flow[HttpResponse]:
        """Return whatever is answered to a request that is sent once, and tells how long the caller waits."""
        left_s = deadline.left_s()
        told = {**request.headers, "x-request-timeout-ms": retries.timeout_ms(left_s)}
        return (yield from flows.send(replace(request, headers=told), left_s))

    def get(self, path: str, deadline: Deadline) -> Flow[Document]:
        """Return the JSON object at a path."""
        answered = yield from self.ask(_get(path), deadline)
        return documents.parse(answered.response.body, path)

    def readiness(self, deadline: Deadline) -> Flow[Readiness]:
        """Return what ``GET /readyz`` tells, asked once; that the service is not ready is an answer too."""
        response = yield from self.once(_get("/readyz"), deadline)
        if response.status not in (HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE):
            raise wire.error_in(response, self.now) or UnexpectedAnswer(f"/readyz: status {response.status}")
        try:
            return read_readiness(documents.parse(response.body, "/readyz"))
        except UnexpectedAnswer:
            # whoever stands in front of the service answers 503 while it is not there yet
            raise wire.error_in(response, self.now) or UnexpectedAnswer("/readyz is not this service's") from None

    def card(self, model: str, deadline: Deadline, *, is_fresh: bool = False) -> Flow[ModelCard]:
        """Return the card of a model; asked for once, and kept as soon as it tells the task.

        Args:
            model: Its name.
            deadline: Of the call.
            is_fresh: Whether to ask again in any case.
        """
        if not is_fresh and (kept := self._cards.get(model)) is not None:
            return kept
        card = read_card((yield from self.get(f"/models/{segment(model, 'model')}", deadline)))
        if card.task is not None:
            self._cards[model] = card
        return card

    def takes_binary_tensors(self, deadline: Deadline) -> Flow[bool]:
        """Tell whether tensors may go as bytes behind the JSON of the Open Inference Protocol; asked for once."""
        if not self.may_be_binary:
            return False
        if not self._extensions:
            try:
                told = documents.items((yield from self.get("/v2", deadline)), "extensions")
            except NotFound:  # it may take inferences all the same, as JSON
                told = ()
            # the empty name keeps an empty list from being asked for again
            self._extensions.update({"", *map(str, told)})
        return _BINARY_EXTENSION in self._extensions


def in_parts(parts: Sequence[slice], ask: Callable[[slice], Flow[R]]) -> Flow[list[R]]:
    """Return the answers to all parts of a batch, in their order; what is too much is halved and asked again.

    Args:
        parts: As :func:`zero_to_one_client.splitting.split` makes them.
        ask: Returns the answer to one.
    """
    asked = [_halving(part, ask, is_whole=len(parts) == 1) for part in parts]
    return [answer for answers in (yield from flows.together(asked)) for answer in answers]


def _halving(part: slice, ask: Callable[[slice], Flow[R]], *, is_whole: bool) -> Flow[list[R]]:
    try:
        return [(yield from ask(part))]
    except ServiceError as error:
        if part.stop - part.start < 2 or not _is_too_much(error):
            raise error if is_whole else placed(error, part.start, part.stop) from error
    answers = []
    for half in splitting.halves(part):
        answers += yield from _halving(half, ask, is_whole=False)
    return answers


def _is_too_much(error: ServiceError) -> bool:
    if isinstance(error, InvalidInput):
        return bool(error.faults) and all(fault.code in _TOO_MUCH_TOGETHER for fault in error.faults)
    return isinstance(error, TooLarge)


def post(path: str, body: bytes, headers: Mapping[str, str], query: Mapping[str, str] | None = None) -> HttpRequest:
    """Return a request with a body."""
    return HttpRequest(method="POST", path=path, query=query or {}, headers=headers, body=body)


def segment(name: str, what: str) -> str:
    """Return a name as one part of a path.

    Raises:
        InvalidRequest: No path can hold it.
    """
    if not isinstance(name, str):
        raise InvalidRequest(f"{what}: expected a string, found {type(name).__name__}")
    # what lies between two slashes as one or two dots, or nothing, leads to another place
    if name in ("", ".", ".."):
        raise InvalidRequest(f"{what}: {name!r} is no name")
    try:
        return quote(name, safe="")
    except UnicodeEncodeError as exc:
        raise InvalidRequest(f"{what}: {name!r} is no text: {exc.reason}") from exc


def _get(path: str) -> HttpRequest:
    return HttpRequest(method="GET", path=path, query={}, headers={})
