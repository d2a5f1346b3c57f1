"""``POST /v2/models/{model}/infer`` and ``.../versions/{version}/infer``: named tensors in and out, JSON and bytes.

:class:`InferDoor` answers every request; :class:`InferTarget` is how plain ones take the short way of
:class:`app.protocols.direct.DirectDoor`.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

from app.admission import Admission, Receive, Ticket
from app.counts import Histogram
from app.errors import Fault, InvalidInput, UnsupportedMedia, quoted
from app.header_lines import as_headers
from app.metrics import Metrics
from app.protocols.answers import (
    BYTES,
    JSON,
    MAX_NUMBERS_ON_LOOP,
    Reply,
    Written,
    count_numbers,
    head_of,
    is_large,
    parse_query,
)
from app.protocols.asgi import Send, hung_up, note, note_answer, refuse, send_reply
from app.protocols.decoders import Decoders
from app.protocols.open_inference import errors, http_answer, http_body
from app.protocols.open_inference.batch_bytes import BatchBytes, are_bytes
from app.protocols.open_inference.inference import Inference
from app.protocols.open_inference.messages import InferRequest, InferResponse
from app.protocols.open_inference.model import InferModel
from app.protocols.open_inference.plans import Plans, Wanted
from app.serving.jobs import Answer
from app.serving.service import Service
from app.serving.versions import Version
from app.tasks import Task
from app.tasks.decoding.strict_json import JsonLimits
from app.tensors import Tensors, num_rows

logger = logging.getLogger("app.infer")

DOOR = "v2"
# of any model: the JSON of a request has its numbers, its tensors, and a few members of each
_SLACK = 4096
_BYTES_OF = "bytes of"
# a larger body is read on a thread
MAX_BODY_BYTES_ON_LOOP = 256 * 1024


def json_limits(task: Task) -> JsonLimits:
    """Return what the JSON of a good request holds: its data may be flat, or nested as deep as the shape is."""
    rows = task.named
    return JsonLimits(
        arrays=rows.max_arrays + _SLACK,
        objects=_SLACK,
        members=_SLACK,
        values=rows.max_numbers + _SLACK,
        name="max_tensor_json",
    )


class InferDoor:
    """Translates requests for inference over HTTP.

    Args:
        service: The data plane.
        inference: The same, in the words of the protocol.
        targets: By name of the model; more may come.
        admission: Whose tickets the requests hold.
        metrics: Told of every answer.
        decoders: Where large bodies are read, and large answers written, off the event loop.
    """

    def __init__(
        self,
        service: Service,
        inference: Inference,
        targets: Mapping[str, "InferTarget"],
        admission: Admission,
        metrics: Metrics,
        *,
        decoders: Decoders,
    ) -> None:
        self._service = service
        self._inference = inference
        self._targets = targets
        self._admission = admission
        self._metrics = metrics
        self._decoders = decoders

    async def serve(self, ticket: Ticket, model: str, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request as an ASGI application does."""
        reply = await self.answer(ticket, model, None, scope, receive)
        await send_reply(reply, self._admission.receipts(ticket), send)

    async def answer(
        self, ticket: Ticket, model: str, number: str | None, scope: Mapping[str, Any], receive: Receive
    ) -> Reply:
        """Return the answer to a request, or what is wrong with it. Never raises.

        Args:
            ticket: From admission.
            model: From the path.
            number: The version that the path names, or its label; None for whom the policy chooses.
            scope: Of ASGI.
            receive: Of ASGI; nothing has been read.
        """
        version: Version | None = None
        try:
            if ticket.refusal is not None:
                raise ticket.refusal
            # an unknown or unready model is told before its body is read
            version = self._service.catalog.pick(model, number)
            _expect_no_query(scope["query_string"])
            _expect_media(ticket)
            body = await self._admission.read_body(ticket, receive)
            self._admission.offer(ticket, body)
            version, reply = await self._infer(ticket, version, number, body, receive)
        except (Exception, asyncio.CancelledError) as exc:
            reply = refuse(exc, ticket, self._admission, errors.render, logger=logger)
        label = ("", "") if version is None else (version.ref.name, str(version.ref.version))
        self._metrics.requests[(DOOR, *label, str(reply.status))] += 1
        note(ticket, DOOR, version)
        return reply

    async def _infer(
        self, ticket: Ticket, version: Version, asked: str | None, body: bytes, receive: Receive
    ) -> tuple[Version, Reply]:
        target = self._targets[version.ref.name]
        # it may have been swapped while the body came
        version = self._service.catalog.again(version, asked)
        number = str(version.ref.version)
        # before the body costs anything
        self._service.expect_room(version, deadline=ticket.deadline, client=ticket.lane)
        plain = target.plans.read(body, ticket.inference_header_length)
        if plain is not None:
            tensors, wanted = plain
            parse_s = self._service.clock() - ticket.received_at
            target.parse_s.observe(parse_s)
            answer = await self._service.predict(
                version, tensors, deadline=ticket.deadline, client=ticket.lane, hung_up=partial(hung_up, receive),
                trace=ticket.trace,
            )  # fmt: skip
            note_answer(ticket, answer, parse_s, self._service.clock())
            written = await self._write(ticket, is_large(answer), lambda: target.write(number, answer, wanted))
            return version, Reply(200, as_headers(head_of(written, number.encode(), parse_s, answer)), written.body)
        request = await self._read(ticket, target, body)
        version, response = await self._inference.infer(
            ticket, version, request, asked=asked, hung_up=partial(hung_up, receive)
        )
        all_binary = request.parameters.get("binary_data_output") is True
        numbers = sum(output.array.size for output in response.outputs)
        written = await self._write(
            ticket, numbers > MAX_NUMBERS_ON_LOOP, lambda: write_response(response, all_binary=all_binary)
        )
        head = head_of(written, response.version.encode(), response.parse_s, response)
        return version, Reply(200, as_headers(head), written.body)

    async def _read(self, ticket: Ticket, target: "InferTarget", body: bytes) -> InferRequest:
        header_length = ticket.inference_header_length
        if len(body) <= MAX_BODY_BYTES_ON_LOOP:
            return http_body.parse(body, header_length, target.limits)
        return await self._decoders.run(ticket.deadline, http_body.parse, body, header_length, target.limits)

    async def _write(self, ticket: Ticket, takes_long: bool, write: Callable[[], Written]) -> Written:
        return await self._decoders.run(ticket.deadline, write) if takes_long else write()


class InferTarget:
    """One model's requests on the short way; see :class:`app.protocols.targets.Target`.

    Args:
        model: Theirs.
        task: Of the model.
        metrics: Told of every request.
    """

    door: ClassVar[str] = DOOR

    def __init__(self, model: InferModel, task: Task, metrics: Metrics) -> None:
        self.model = model.name
        self._model = model
        self.limits = json_limits(task)
        self.plans = Plans(model, self.limits)
        self.path = f"/v2/models/{model.name}/infer"
        self.parse_s: Histogram = metrics.stage_s[model.name, "parse"]
        self.write_s: Histogram = metrics.stage_s[model.name, "write"]
        self.request_s: Histogram = metrics.request_s[DOOR, model.name]

    def wish(self, query: bytes) -> object | None:
        """Return anything for a request without a query."""
        return None if query else True

    def decode(self, ticket: Ticket, wish: object, body: bytes) -> tuple[Tensors, Wanted] | None:
        """Return the tensors of a plain request, and what it wants back."""
        if ticket.content_type not in (JSON, BYTES, b""):
            return None
        return self.plans.read(body, ticket.inference_header_length)

    def write(self, version: str, answer: Answer, wanted: Any) -> Written:
        """Return the answer as it goes over the wire."""
        if count_numbers(answer.batch) <= MAX_NUMBERS_ON_LOOP:
            batch = self._batch_bytes(version, answer, wanted)
            if batch is not None:
                return batch.rows(answer.start, answer.stop, wanted.id)
        outputs = self._model.answer(answer, wanted.outputs)
        return http_answer.write(self.model, version, wanted.id, outputs, all_binary=wanted.all_binary)

    def _batch_bytes(self, version: str, answer: Answer, wanted: Wanted) -> BatchBytes | None:
        """Return the outputs of the whole batch as bytes; None where not all are wanted so."""
        outputs, memo = wanted.outputs, answer.batch.memo
        # all requests of a plan share this tuple, and what is kept under its id keeps it alive
        key = f"{_BYTES_OF} {id(outputs)}"
        found: tuple[object, BatchBytes | None] | None = memo.get(key)
        if found is None:
            batch = None
            if are_bytes(outputs, all_binary=wanted.all_binary):
                whole = answer._replace(start=0, stop=num_rows(answer.batch.outputs))
                batch = BatchBytes(self.model, version, self._model.answer(whole, outputs))
            found = memo[key] = outputs, batch
        return found[1]

    def render(self, error: Exception, request_id: bytes) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        """Return status, headers and body of an error."""
        return errors.render(error, request_id)


def write_response(response: InferResponse, *, all_binary: bool) -> Written:
    """Return an answer as it goes over the wire."""
    return http_answer.write(
        response.model, response.version, response.id, response.outputs, all_binary=all_binary
    )  # fmt: skip


def _expect_no_query(query_string: bytes) -> None:
    if query_string:
        name = next(iter(parse_query(query_string)), "")
        message = "this door takes no query; parameters stand in the body"
        raise InvalidInput(Fault(pointer=f"query:{quoted(name)}", code="extra_forbidden", message=message))


def _expect_media(ticket: Ticket) -> None:
    """Refuse what says that it is something else. Clients of the protocol say all kinds of things, or nothing."""
    if ticket.content_type in (JSON, BYTES, b""):
        return
    found = quoted(ticket.content_type.decode("latin-1"))
    raise UnsupportedMedia(
        f"the body is {found!r}, this door takes application/json, and application/octet-stream with "
        "Inference-Header-Content-Length; say so in Content-Type"
    )
