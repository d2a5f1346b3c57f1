"""``POST /predict/{model}`` and ``POST /predict``: JSON, raw pictures and uploads in, typed predictions out.

The same :class:`PredictDoor` answers both ways in: the fast one, straight from the ASGI server, and FastAPI's routes,
which carry the OpenAPI types and serve whoever mounts the app below another.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from functools import partial
from typing import Any, NamedTuple

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from app.admission import Admission, Receive, Ticket
from app.errors import (
    Fault,
    InvalidInput,
    MalformedBody,
    UnknownModel,
    UnsupportedMedia,
    quoted,
)
from app.header_lines import as_headers
from app.metrics import Metrics
from app.protocols import parameters
from app.protocols.answers import BYTES, JSON, Answers, Reply, Written, head_of, is_large, parse_query
from app.protocols.asgi import Send, hung_up, note, note_answer, refuse, send_reply
from app.protocols.decoders import Decoders
from app.protocols.manners import NOTHING, Asked, Manner, Way
from app.protocols.openapi import MAX_FORM_FIELDS
from app.protocols.parameters import Parameters
from app.serving.service import Service
from app.serving.versions import Version
from app.tasks import Task, body_types
from app.tasks.decoding.fast_json import guess_model
from app.tasks.decoding.strict_json import JsonLimits, parse_json
from app.tensors import Tensors

logger = logging.getLogger("app.predict")

_MULTIPART = b"multipart/form-data"
_UTF8 = (b"utf-8", b"utf8", b"us-ascii", b"ascii")

_UNREAD = object()


class _Read(NamedTuple):
    """What is known of a body already: its JSON document, or its tensors; and the parameters that stood in it."""

    document: object = _UNREAD
    tensors: Tensors | None = None
    parameters: Parameters = parameters.NONE


class PredictDoor:
    """Translates prediction requests.

    Args:
        service: The data plane.
        tasks: By name of the model; more may come.
        answers: Likewise.
        admission: Whose tickets the requests hold.
        metrics: Told of every answer.
        decoders: Where pictures and doubtful bodies are read, and large answers written, off the event loop.
        default_model: Answers a body that names no model; None for none.
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
        default_model: str | None,
    ) -> None:
        self._service = service
        self._tasks = tasks
        self._answers = answers
        self._admission = admission
        self._metrics = metrics
        self._decoders = decoders
        self._default_model = default_model

    async def serve(self, ticket: Ticket, way: Way, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request as an ASGI application does."""
        reply = await self.answer(ticket, way, scope, receive)
        await send_reply(reply, self._admission.receipts(ticket), send)

    async def answer(self, ticket: Ticket, way: Way, scope: Mapping[str, Any], receive: Receive) -> Reply:
        """Return the answer to a request, or the problem with it. Never raises.

        Args:
            ticket: From admission.
            way: Who answers, from the path (None where the request names it), and in which manner.
            scope: Of ASGI.
            receive: Of ASGI; nothing has been read.
        """
        version: Version | None = None
        model, manner = way
        asked = manner.read(scope["headers"]) if manner.is_platform else NOTHING
        try:
            if ticket.refusal is not None:
                raise ticket.refusal
            query = parse_query(scope["query_string"]) | dict(asked.options)
            number = query.pop("version", None)
            model = asked.model if model is None else model
            default = query.pop("model", None) if model is None else None
            if model is not None:  # an unknown or unready model is told before its body is read
                version = self._service.catalog.pick(model, number)
            body = await self._admission.read_body(ticket, receive)
            self._admission.offer(ticket, body)
            read = await self._part(ticket, body) if manner.is_platform else _Read()
            if version is None:
                name, read = await self._named(ticket, body, read, read.parameters.model or default, manner)
            else:
                name = read.parameters.expect(version.ref.name)
            if version is None or read.parameters.version is not None:
                version = self._service.catalog.pick(name, read.parameters.version or number)
            number = read.parameters.version or number
            version, reply = await self._predict(ticket, version, number, query, body, read, scope, receive, asked)
        except (Exception, asyncio.CancelledError) as exc:
            reply = refuse(exc, ticket, self._admission, manner.render, logger=logger)
        if asked is not NOTHING:
            reply.headers.extend(manner.sign(asked, version))
        label = ("", "") if version is None else (version.ref.name, str(version.ref.version))
        self._metrics.requests[(manner.door, *label, str(reply.status))] += 1
        note(ticket, manner.door, version)
        return reply

    async def _predict(
        self,
        ticket: Ticket,
        version: Version,
        number: str | None,
        query: dict[str, str],
        body: bytes,
        read: "_Read",
        scope: Mapping[str, Any],
        receive: Receive,
        asked: Asked,
    ) -> tuple[Version, Reply]:
        name = version.ref.name
        task, answers = self._tasks[name], self._answers[name]
        tensor, options = self._wishes(name, query, asked, read.parameters)
        # before the body costs anything
        self._service.expect_room(version, deadline=ticket.deadline, client=ticket.lane)
        tensors = read.tensors
        if tensors is None and read.document is _UNREAD and ticket.content_type == JSON:
            tensors = task.decode_fast(body)
        if tensors is None:
            tensors = await self._decode(ticket, task, body, read.document, scope)
        parse_s = self._service.clock() - ticket.received_at
        self._metrics.stage_s[name, "parse"].observe(parse_s)
        version = self._service.catalog.again(version, number)  # it may have been swapped while the body came
        answer = await self._service.predict(
            version, tensors, deadline=ticket.deadline, client=ticket.lane, hung_up=partial(hung_up, receive),
            trace=ticket.trace,
        )  # fmt: skip
        note_answer(ticket, answer, parse_s, self._service.clock())
        written_as = str(version.ref.version)

        def write() -> Written:
            if ticket.wants_bytes:
                return answers.to_bytes(answer, tensor)
            return answers.to_json(written_as, answer, options)

        written = await self._decoders.run(ticket.deadline, write) if is_large(answer) else write()
        head = head_of(written, written_as.encode(), parse_s, answer)
        return version, Reply(200, as_headers(head), written.body)

    def _wishes(self, name: str, query: dict[str, str], asked: Asked, more: Parameters) -> tuple[str, Any]:
        """Return the output of an answer in bytes, and the options as the task has parsed them.

        Raises:
            InvalidInput: One is unknown or impossible; the fault points to where it stands.
        """
        task, answers = self._tasks[name], self._answers[name]
        if more.options:
            query = query | parameters.as_query(more, task)
        try:
            tensor = answers.tensor(query.pop("tensor", None))
            return tensor, task.parse_options(query) if query else answers.no_options
        except InvalidInput as exc:
            places = dict.fromkeys(asked.options, asked.place)
            raise parameters.blame(exc, places | {each: parameters.place_of(each) for each in more.options}) from exc

    def _json_limits(self) -> JsonLimits:
        return JsonLimits.loosest(task.json_limits for task in self._tasks.values())

    async def _part(self, ticket: Ticket, body: bytes) -> "_Read":
        """Take the parameters out of a JSON body, where it may hold any."""
        if ticket.content_type not in (JSON, b"") or not parameters.may_hold(body):
            return _Read()
        document = await self._decoders.run(ticket.deadline, parse_json, body, self._json_limits())
        document, found = parameters.part(document)
        return _Read(document=document, parameters=found)

    async def _decode(
        self, ticket: Ticket, task: Task, body: bytes, document: object, scope: Mapping[str, Any]
    ) -> Tensors:
        """Read what the fast decoder did not accept: the rest of JSON, a raw file, an upload."""
        media_type = ticket.content_type
        if media_type in (JSON, b""):
            return await self._decoders.run(
                ticket.deadline,
                lambda: task.decode_json(parse_json(body, task.json_limits) if document is _UNREAD else document),
            )
        if media_type == BYTES and task.raw is not None:
            return await self._decoders.run(ticket.deadline, task.raw.decode, body)
        if task.media_types:
            if media_type == _MULTIPART:
                body = await _uploaded_file(body, scope)
                return await self._decoders.run(ticket.deadline, task.decode_file, body)
            if media_type.decode("latin-1") in task.media_types:
                if media_type.startswith(b"text/"):
                    _expect_utf8(scope)
                return await self._decoders.run(ticket.deadline, task.decode_file, body)
        raise UnsupportedMedia(
            f"the body is {quoted(media_type.decode('latin-1'))!r}, this model takes {', '.join(body_types(task))}; "
            "say so in Content-Type"
        )

    async def _named(
        self, ticket: Ticket, body: bytes, read: "_Read", asked: str | None, manner: Manner
    ) -> tuple[str, "_Read"]:
        """Return the name of the model that a body asks for, else the query's, else the default; and what was read.

        A plain body says its model at its beginning or end. The fast decoder then holds the whole body against that
        name, so that a guess is never more than a guess.
        """
        known = self._service.catalog.models
        if asked is not None and asked not in known:
            raise UnknownModel(asked, tuple(known))
        name: object = None
        document = read.document
        if document is not _UNREAD:
            name = document.get("model") if isinstance(document, dict) else None
        elif ticket.content_type in (JSON, b""):
            guess = guess_model(body)
            tensors = self._tasks[guess].decode_fast(body) if guess is not None and guess in self._tasks else None
            if guess is not None and tensors is not None:
                return guess, _Read(tensors=tensors)
            document = await self._decoders.run(ticket.deadline, parse_json, body, self._json_limits())
            name = document.get("model") if isinstance(document, dict) else None
        if name is None:
            name = asked or self._default_model
        if name is None and manner.is_platform and len(known) == 1:
            (name,) = known
        if isinstance(name, str):
            return name, _Read(document=document, parameters=read.parameters)
        raise InvalidInput(
            Fault(
                pointer="#/model",
                code="missing" if name is None else "wrong_type",
                message=f'expected "model": one of {", ".join(known)}; {manner.naming}',
            )
        )


def _expect_utf8(scope: Mapping[str, Any]) -> None:
    """Refuse a text that is said to be in another charset: much of it would be read as other characters."""
    _, options = parse_options_header(Headers(raw=scope["headers"]).get("content-type"))
    charset = options.get(b"charset", _UTF8[0]).decode("latin-1")
    if charset.lower().encode("latin-1") not in _UTF8:
        raise UnsupportedMedia(f"the text is in the charset {quoted(charset)!r}, this service reads UTF-8")


class _InMemoryParser(MultiPartParser):
    """Never spills to disk: the body is in memory already, and the root file system may be read-only."""

    spool_max_size = 2**62


async def _uploaded_file(body: bytes, scope: Mapping[str, Any]) -> bytes:
    """Return the one file of a ``multipart/form-data`` body, in its field ``file``."""

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        parser = _InMemoryParser(Headers(raw=scope["headers"]), stream(), max_files=1, max_fields=MAX_FORM_FIELDS)
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as exc:
        raise MalformedBody(f"the body is no multipart/form-data: {getattr(exc, 'message', exc)}") from exc
    try:
        upload = form.get("file")
        if not isinstance(upload, UploadFile):
            raise InvalidInput(Fault(pointer="#/file", code="missing", message="expected a file in the field 'file'"))
        return await upload.read()
    finally:
        await form.close()
