"""What the short way of :mod:`app.protocols.direct` has to know of a model at one of its doors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from app.admission import Ticket
from app.counts import Histogram
from app.errors import InvalidInput
from app.metrics import Metrics
from app.protocols import problem
from app.protocols.answers import BYTES, DOOR, JSON, Answers, Written, parse_query
from app.serving.jobs import Answer
from app.tasks import Task
from app.tensors import Tensors

# of each model, and of queries no longer than this: callers send the same ones again and again
MAX_WISHES, MAX_WISH_BYTES = 256, 256


class Target(Protocol):
    """The requests that a door has for one model, and how it reads and answers them.

    Attributes:
        door: Its name in the metrics.
        model: Who answers, by the version that its policy picks.
        path: Of the request line.
        parse_s: Told how long requests take to read.
        write_s: Told how long answers take to write.
        request_s: Told how long requests take that are answered.
    """

    @property
    def door(self) -> str: ...  # noqa: D102  above

    @property
    def model(self) -> str: ...  # noqa: D102

    @property
    def path(self) -> str: ...  # noqa: D102

    @property
    def parse_s(self) -> Histogram: ...  # noqa: D102

    @property
    def write_s(self) -> Histogram: ...  # noqa: D102

    @property
    def request_s(self) -> Histogram: ...  # noqa: D102

    def wish(self, query: bytes) -> Any:
        """Return what a query asks for; None where it is wrong, or asks for another version."""
        ...

    def decode(self, ticket: Ticket, wish: Any, body: bytes) -> tuple[Tensors, Any] | None:
        """Return the tensors of a body, and what is wanted back; None where there is any doubt."""
        ...

    def write(self, version: str, answer: Answer, wanted: Any) -> Written:
        """Return the answer as it goes over the wire."""
        ...

    def render(self, error: Exception, request_id: bytes) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        """Return status, headers and body of an error."""
        ...


class Wish(NamedTuple):
    """What a query asks for.

    Attributes:
        options: As the task has parsed them.
        tensor: The output of an answer in bytes.
    """

    options: Any
    tensor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictTarget:
    """One model at the predict door; see :class:`Target`."""

    model: str
    task: Task
    answers: Answers
    path: str
    parse_s: Histogram
    write_s: Histogram
    request_s: Histogram
    wishes: dict[bytes, Wish]
    door: str = DOOR

    def wish(self, query: bytes) -> Wish | None:
        """Return what a query asks for; None where it is wrong, or asks for another version. Good ones are kept."""
        found = self.wishes.get(query)
        if found is None and len(query) <= MAX_WISH_BYTES and (found := self._read(query)) is not None:
            if len(self.wishes) >= MAX_WISHES:
                self.wishes.clear()
            self.wishes[query] = found
        return found

    def decode(self, ticket: Ticket, wish: Wish, body: bytes) -> tuple[Tensors, Wish | str] | None:
        """Return the tensors of a body, and what is wanted back: the name of an output where it is to be bytes."""
        tensors: Tensors | None = None
        if ticket.content_type == JSON:
            tensors = self.task.decode_fast(body)
        elif ticket.content_type == BYTES and self.task.raw is not None:
            tensors = self.task.raw.decode_fast(body)
        if tensors is None:
            return None
        return tensors, wish.tensor if ticket.wants_bytes else wish

    def write(self, version: str, answer: Answer, wanted: Wish | str) -> Written:
        """Return the answer as it goes over the wire."""
        if isinstance(wanted, str):
            return self.answers.to_bytes(answer, wanted)
        return self.answers.to_json(version, answer, wanted.options)

    def render(self, error: Exception, request_id: bytes) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        """Return status, headers and body of an error."""
        return problem.render(error, request_id)

    def _read(self, query: bytes) -> Wish | None:
        named = parse_query(query)
        if "version" in named:
            return None
        try:
            tensor = self.answers.tensor(named.pop("tensor", None))
            return Wish(self.task.parse_options(named) if named else self.answers.no_options, tensor)
        except InvalidInput:
            return None


def predict_targets(tasks: Mapping[str, Task], answers: Mapping[str, Answers], metrics: Metrics) -> dict[bytes, Target]:
    """Return the targets of the predict door, one for each model.

    Args:
        tasks: By name of the model.
        answers: Likewise.
        metrics: Told of every request.
    """
    return {
        f"/predict/{name}".encode(): PredictTarget(
            model=name,
            task=task,
            answers=answers[name],
            path=f"/predict/{name}",
            parse_s=metrics.stage_s[name, "parse"],
            write_s=metrics.stage_s[name, "write"],
            request_s=metrics.request_s[DOOR, name],
            wishes={},
        )
        for name, task in tasks.items()
    }
