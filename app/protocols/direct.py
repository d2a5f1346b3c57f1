"""The short way through the door: a plain prediction, from its bytes to the queue and back, without a task of its own.

It only accepts, and refuses what there is no room or time for. A request that is not plain in every respect (another
version, a picture, a body in doubt, a model that is not ready) is left to :class:`app.protocols.predict.PredictDoor`,
which answers it or names its faults; so no fault is found in two places. What is taken here is answered as the other
door answers it.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol

from app.admission import Admission, Ticket
from app.errors import InvalidInput, ModelNotReady, Overloaded, ServingError
from app.metrics import Histogram, Metrics
from app.protocols import problem
from app.protocols.answers import BYTES, DOOR, JSON, Answers, Written, as_lines, head_of, parse_query
from app.protocols.decoders import Decoders
from app.serving.jobs import Answer, Job, Outcome
from app.serving.service import Service
from app.serving.versions import State, Version
from app.tasks import Task
from app.tensors import Tensors, num_rows

logger = logging.getLogger("app.predict")

# a longer body would keep the event loop from the others while it is read; the other door takes it to a thread
MAX_BODY_BYTES = 64 * 1024
# of each model, and of queries no longer than this: callers send the same ones again and again
MAX_WISHES, MAX_WISH_BYTES = 256, 256


class Exchange(Protocol):
    """One request on its connection, and the answer to come.

    Attributes:
        ticket: From admission, without a refusal.
        wish: What its query asks for.
        job: The request in the queue; whoever notices that the caller has left finishes it with :class:`ClientGone`.
    """

    ticket: Ticket
    wish: "Wish"
    job: Job | None

    def respond(self, status: int, head: bytes, body: bytes) -> None:
        """Write the answer; called once. The header lines are all but those of the server itself."""
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
class Target:
    """What the door has at hand of one model."""

    model: str
    task: Task
    answers: Answers
    parse_s: Histogram
    wishes: dict[bytes, Wish]

    def wish(self, query: bytes) -> Wish | None:
        """Return what a query asks for; None where it is wrong, or asks for another version. Good ones are kept."""
        found = self.wishes.get(query)
        if found is None and len(query) <= MAX_WISH_BYTES and (found := self._read(query)) is not None:
            if len(self.wishes) >= MAX_WISHES:
                self.wishes.clear()
            self.wishes[query] = found
        return found

    def _read(self, query: bytes) -> Wish | None:
        named = parse_query(query)
        if "version" in named:
            return None
        try:
            tensor = self.answers.tensor(named.pop("tensor", None))
            return Wish(self.task.parse_options(named) if named else self.answers.no_options, tensor)
        except InvalidInput:
            return None


class DirectDoor:
    """Answers the plain requests that connections hand over whole.

    Args:
        service: The data plane.
        tasks: By name of the model.
        answers: Likewise.
        admission: Told of refusals.
        metrics: Told of every answer.
        decoders: Where large answers are written, off the event loop.

    Attributes:
        targets: By the target of the request line.
    """

    def __init__(
        self,
        service: Service,
        tasks: Mapping[str, Task],
        answers: Mapping[str, Answers],
        admission: Admission,
        metrics: Metrics,
        *,
        decoders: Decoders,
    ) -> None:
        self._service = service
        self._admission = admission
        self._metrics = metrics
        self._decoders = decoders
        self._writing: set[asyncio.Task[None]] = set()
        self._receipts: dict[Version, tuple[tuple[str, str, str, str], bytes, str]] = {}
        self._refused: list[tuple[Exchange, bytes, bytes]] = []
        self.targets = {
            f"/predict/{name}".encode(): Target(
                model=name, task=task, answers=answers[name], parse_s=metrics.stage_s[name, "parse"], wishes={}
            )
            for name, task in tasks.items()
        }

    def start(self, target: Target, body: bytes, exchange: Exchange) -> bool:
        """Take a request, or leave it.

        Args:
            target: Of ``targets``.
            body: The whole of it.
            exchange: Responded to once where the request is taken, and not before this returns.

        Returns:
            Whether it was taken.
        """
        version = self._service.catalog.models[target.model].default
        if version.state is not State.READY:
            return False
        ticket = exchange.ticket
        try:
            # before the body costs anything
            self._service.expect_room(version, deadline=ticket.deadline, client=ticket.client)
            tensors = _decode(target.task, ticket.content_type, body)
            if tensors is None:
                return False
            parse_s = self._service.clock() - ticket.received_at
            target.parse_s.observe(parse_s)
            job = Job(
                tensors,
                num_rows(tensors),
                deadline=ticket.deadline,
                on_done=partial(self._finish, target, version, exchange, parse_s),
                client=ticket.client,
            )
            self._service.enqueue(version, job)
        except Overloaded as exc:  # many of them may come at once, and each has to cost little
            self._refuse(version, exchange, exc)
            return True
        except ServingError:
            return False
        except Exception as exc:  # a defect, and the connection waits for an answer all the same
            asyncio.get_running_loop().call_soon(self._refuse, version, exchange, exc)
            return True
        exchange.job = job
        return True

    def _finish(self, target: Target, version: Version, exchange: Exchange, parse_s: float, outcome: Outcome) -> None:
        """Write what became of a request."""
        if not isinstance(outcome, Answer):
            self._refuse(version, exchange, outcome)
            return
        try:
            self._answer(target, version, exchange, parse_s, outcome)
        except Exception as exc:
            self._refuse(version, exchange, exc)

    def _answer(self, target: Target, version: Version, exchange: Exchange, parse_s: float, outcome: Answer) -> None:
        self._service.observe(version, outcome)
        write = partial(_write, target.answers, self._receipts_of(version)[2], outcome, exchange)
        if target.answers.is_large(outcome):
            task = asyncio.get_running_loop().create_task(
                self._respond_from_thread(version, exchange, parse_s, outcome, write)
            )
            self._writing.add(task)  # the loop itself keeps no task alive
            task.add_done_callback(self._writing.discard)
            return
        self._respond(version, exchange, parse_s, outcome, write())

    async def _respond_from_thread(
        self, version: Version, exchange: Exchange, parse_s: float, answer: Answer, write: Callable[[], Written]
    ) -> None:
        try:
            written = await self._decoders.run(exchange.ticket.deadline, write)
        except asyncio.CancelledError:
            self._refuse(version, exchange, ModelNotReady("the service is shutting down"))
            raise
        except Exception as exc:
            self._refuse(version, exchange, exc)
        else:
            self._respond(version, exchange, parse_s, answer, written)

    def _receipts_of(self, version: Version) -> tuple[tuple[str, str, str, str], bytes, str]:
        """Return what counts a good answer of a version, and the number of the version in bytes and in words."""
        found = self._receipts.get(version)
        if found is None:
            number = str(version.ref.version)
            found = self._receipts[version] = (DOOR, version.ref.name, number, "200"), number.encode(), number
        return found

    def _respond(self, version: Version, exchange: Exchange, parse_s: float, answer: Answer, written: Written) -> None:
        counted_as, number, _ = self._receipts_of(version)
        self._metrics.requests[counted_as] += 1
        head = head_of(written, number, parse_s, answer) + self._admission.receipt_lines(exchange.ticket)
        exchange.respond(200, head, written.body)

    def _refuse(self, version: Version, exchange: Exchange, error: Exception) -> None:
        if not isinstance(error, ServingError):
            logger.error("request %s failed", exchange.ticket.request_id.decode("ascii"), exc_info=error)
        self._admission.count_refusal(error)
        status, headers, body = problem.render(error, exchange.ticket.request_id)
        self._metrics.requests[(DOOR, version.ref.name, str(version.ref.version), str(status))] += 1
        head = as_lines(headers) + self._admission.receipt_lines(exchange.ticket)
        if isinstance(error, Overloaded):
            self._refuse_together(exchange, head, body)
        else:
            exchange.respond(status, head, body)

    def _refuse_together(self, exchange: Exchange, head: bytes, body: bytes) -> None:
        """Write refusals once all requests that have come are read: one at a time, each would wake its caller up."""
        if not self._refused:
            asyncio.get_running_loop().call_soon(self._write_refusals)
        self._refused.append((exchange, head, body))

    def _write_refusals(self) -> None:
        refused, self._refused = self._refused, []
        for exchange, head, body in refused:
            try:
                exchange.respond(HTTPStatus.SERVICE_UNAVAILABLE, head, body)
            except Exception:  # of one connection, and the others still wait
                logger.exception("a refusal could not be written")


def _decode(task: Task, content_type: bytes, body: bytes) -> Tensors | None:
    """Return the tensors of a body; None where there is any doubt."""
    if content_type == JSON:
        return task.decode_fast(body)
    if content_type == BYTES and task.raw is not None:
        return task.raw.decode_fast(body)
    return None


def _write(answers: Answers, version: str, answer: Answer, exchange: Exchange) -> Written:
    wish = exchange.wish
    if exchange.ticket.wants_bytes:
        return answers.to_bytes(answer, wish.tensor)
    return answers.to_json(version, answer, wish.options)
