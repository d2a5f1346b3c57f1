"""The short way through the door: a plain prediction, from its bytes to the queue and back, without a task of its own.

It only accepts, and refuses what there is no room or time for. A request that is not plain in every respect (another
version, a picture, a body in doubt, a model that is not ready) is left to :class:`app.protocols.predict.PredictDoor`,
which answers it or names its faults; so no fault is found in two places. What is taken here is answered as the other
door answers it.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol

from app.admission import Admission, Ticket
from app.errors import ModelNotReady, Overloaded, ServingError, code_of
from app.header_lines import as_lines
from app.logs import about
from app.metrics import Metrics
from app.observer import Observer
from app.protocols.answers import Written, head_of, is_large
from app.protocols.compression import Compression
from app.protocols.decoders import Decoders
from app.protocols.targets import Target
from app.serving.jobs import Answer, Job, Outcome
from app.serving.service import Service
from app.serving.versions import State, Version
from app.tensors import num_rows
from app.tracing.facts import Facts

logger = logging.getLogger("app.predict")

# a longer body would keep the event loop from the others while it is read; the other door takes it to a thread
MAX_BODY_BYTES = 64 * 1024
# numbers of versions, over all doors and models
MAX_RECEIPTS = 1024


class Exchange(Protocol):
    """One request on its connection, and the answer to come.

    Attributes:
        ticket: From admission; its refusal, if it has one, is of the caller and not of the body.
        wish: What its query asks for.
        job: The request in the queue; whoever notices that the caller has left finishes it with :class:`ClientGone`.
    """

    ticket: Ticket
    wish: Any
    job: Job | None

    def respond(self, status: int, head: bytes, body: bytes) -> None:
        """Write the answer; called once. The header lines are all but those of the server itself."""
        ...


class _Receipts(NamedTuple):
    """What every good answer of a version has in common.

    Attributes:
        counted_as: Its labels in the metrics.
        number: Of the version.
        written: The same, in bytes.
        told: What the log tells of them, by the name of the key.
    """

    counted_as: tuple[str, str, str, str]
    number: str
    written: bytes
    told: dict[str, bytes]


class DirectDoor:
    """Answers the plain requests that connections hand over whole.

    Args:
        service: The data plane.
        targets: By the target of the request line.
        admission: Told of refusals.
        metrics: Told of every answer.
        decoders: Where large answers are written, off the event loop.
        compression: Encodes answers where that is asked for.

    Attributes:
        targets: By the target of the request line.
    """

    def __init__(
        self,
        service: Service,
        targets: Mapping[bytes, Target],
        admission: Admission,
        metrics: Metrics,
        *,
        decoders: Decoders,
        compression: Compression,
    ) -> None:
        self._compression = compression
        self._service = service
        self._admission = admission
        self._metrics = metrics
        self._decoders = decoders
        self._writing: set[asyncio.Task[None]] = set()
        self._receipts: dict[tuple[str, str, int], _Receipts] = {}
        self._refused: list[tuple[Exchange, int, bytes, bytes]] = []
        self.targets = dict(targets)

    def start(self, target: Target, body: bytes, exchange: Exchange) -> bool:
        """Take a request, or leave it.

        Args:
            target: Of ``targets``.
            body: The whole of it.
            exchange: Responded to once where the request is taken, and not before this returns.

        Returns:
            Whether it was taken.
        """
        version = self._service.catalog.models[target.model].pick()
        ticket = exchange.ticket
        if ticket.refusal is not None:  # of admission; many of them may come at once too
            self._refuse(target, version, exchange, ticket.refusal)
            return True
        if version.state is not State.READY:
            return False
        try:
            # before the body costs anything
            self._service.expect_room(version, deadline=ticket.deadline, client=ticket.lane)
            decoded = target.decode(ticket, exchange.wish, body)
            if decoded is None:
                return False
            tensors, wanted = decoded
            parse_s = self._service.clock() - ticket.received_at
            target.parse_s.observe(parse_s)
            job = Job(
                tensors,
                num_rows(tensors),
                deadline=ticket.deadline,
                on_done=partial(self._finish, target, version, exchange, parse_s, wanted),
                client=ticket.lane,
                trace=ticket.trace,
            )
            self._service.enqueue(version, job)
            if (observer := self._admission.observer) is not None and observer.with_payloads:
                observer.offer(ticket, body)
        except Overloaded as exc:  # many of them may come at once, and each has to cost little
            self._refuse(target, version, exchange, exc)
            return True
        except ServingError:
            return False
        except Exception as exc:  # a defect, and the connection waits for an answer all the same
            asyncio.get_running_loop().call_soon(self._refuse, target, version, exchange, exc)
            return True
        exchange.job = job
        return True

    def _finish(
        self, target: Target, version: Version, exchange: Exchange, parse_s: float, wanted: Any, outcome: Outcome
    ) -> None:
        """Write what became of a request."""
        if not isinstance(outcome, Answer):
            self._refuse(target, version, exchange, outcome)
            return
        try:
            self._answer(target, version, exchange, parse_s, wanted, outcome)
        except Exception as exc:
            self._refuse(target, version, exchange, exc)

    def _answer(
        self, target: Target, version: Version, exchange: Exchange, parse_s: float, wanted: Any, outcome: Answer
    ) -> None:
        answered_at = self._service.clock()
        self._service.observe(version, outcome)
        receipts = self._receipts_of(target, version)
        number = receipts.number
        written: Written | Callable[[], Written]
        if is_large(outcome):
            written = partial(target.write, number, outcome, wanted)
        else:
            written = target.write(number, outcome, wanted)
            if not self._compression.applies(exchange.ticket, len(written.body)):
                self._respond(receipts, target, exchange, parse_s, outcome, written, answered_at)
                return
        task = asyncio.get_running_loop().create_task(
            self._respond_later(target, version, exchange, parse_s, outcome, written, answered_at)
        )
        self._writing.add(task)  # the loop itself keeps no task alive
        task.add_done_callback(self._writing.discard)

    async def _respond_later(
        self,
        target: Target,
        version: Version,
        exchange: Exchange,
        parse_s: float,
        answer: Answer,
        written: Written | Callable[[], Written],
        answered_at: float,
    ) -> None:
        ticket = exchange.ticket
        try:
            if not isinstance(written, Written):
                written = await self._decoders.run(ticket.deadline, written)
            written = await self._compression.encoded(ticket, written)
        except asyncio.CancelledError:
            self._refuse(target, version, exchange, ModelNotReady("the service is shutting down"))
            raise
        except Exception as exc:
            self._refuse(target, version, exchange, exc)
        else:
            receipts = self._receipts_of(target, version)
            self._respond(receipts, target, exchange, parse_s, answer, written, answered_at)

    def _receipts_of(self, target: Target, version: Version) -> _Receipts:
        # by its number: the version itself would be kept alive after another has taken its place
        key = target.door, target.model, version.ref.version
        found = self._receipts.get(key)
        if found is None:
            if len(self._receipts) >= MAX_RECEIPTS:  # versions come and go for years
                self._receipts.clear()
            number = str(version.ref.version)
            counted_as = target.door, target.model, number, "200"
            found = self._receipts[key] = _Receipts(counted_as, number, number.encode(), {})
        return found

    def _respond(
        self,
        receipts: _Receipts,
        target: Target,
        exchange: Exchange,
        parse_s: float,
        answer: Answer,
        written: Written,
        answered_at: float,
    ) -> None:
        self._metrics.requests[receipts.counted_as] += 1
        ticket = exchange.ticket
        head = head_of(written, receipts.written, parse_s, answer) + self._admission.receipt_lines(ticket)
        exchange.respond(200, head, written.body)
        now = self._service.clock()
        target.write_s.observe(now - answered_at)
        target.request_s.observe(now - ticket.received_at)
        if (observer := self._admission.observer) is not None:
            rows, took_s = answer.stop - answer.start, now - ticket.received_at
            told = receipts.told.get(ticket.key) or self._tell(receipts, target, ticket.key, observer)
            if not observer.line(ticket, told, took_s, rows):
                facts = self._facts_of(target, receipts.number, exchange.ticket, 200)
                facts.answer(answer, rows=rows, parse_s=parse_s, at=answered_at, batch=answer.batch.trace)
                observer.finish(ticket, facts, now=now)

    def _tell(self, receipts: _Receipts, target: Target, key: str, observer: Observer) -> bytes:
        """Return what the log tells of every good answer to whoever has a key."""
        if len(receipts.told) >= MAX_RECEIPTS:  # keys come and go too
            receipts.told.clear()
        facts = Facts(door=target.door, model=target.model, version=receipts.number, status=200)
        told = receipts.told[key] = observer.members(facts, key)
        return told

    def _facts_of(self, target: Target, number: str, ticket: Ticket, status: int) -> Facts:
        facts = ticket.facts
        facts.method, facts.path, facts.door = "POST", target.path, target.door
        facts.model, facts.version, facts.status = target.model, number, status
        return facts

    def _refuse(self, target: Target, version: Version, exchange: Exchange, error: Exception) -> None:
        if not isinstance(error, ServingError):
            told = about(exchange.ticket)
            logger.error("request %s failed", told["request_id"], exc_info=error, extra=told)
        self._admission.count_refusal(error)
        exchange.ticket.explain(error)
        status, headers, body = target.render(error, exchange.ticket.request_id)
        self._metrics.requests[(target.door, version.ref.name, str(version.ref.version), str(status))] += 1
        head = as_lines(headers) + self._admission.receipt_lines(exchange.ticket)
        if isinstance(error, Overloaded) or error is exchange.ticket.refusal:
            self._refuse_together(exchange, status, head, body)
        else:
            exchange.respond(status, head, body)
        if self._admission.observer is not None:
            facts = self._facts_of(target, str(version.ref.version), exchange.ticket, status)
            facts.code = code_of(error)
            self._admission.finish(exchange.ticket, status)

    def _refuse_together(self, exchange: Exchange, status: int, head: bytes, body: bytes) -> None:
        """Write refusals once all requests that have come are read: one at a time, each would wake its caller up."""
        if not self._refused:
            asyncio.get_running_loop().call_soon(self._write_refusals)
        self._refused.append((exchange, status, head, body))

    def _write_refusals(self) -> None:
        refused, self._refused = self._refused, []
        for exchange, status, head, body in refused:
            try:
                exchange.respond(status, head, body)
            except Exception:  # of one connection, and the others still wait
                logger.exception("a refusal could not be written")
