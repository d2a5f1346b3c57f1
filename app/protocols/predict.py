"""``POST /predict/{model}`` and ``POST /predict``: JSON, raw pictures and uploads in, typed predictions out.

The same :class:`PredictDoor` answers both ways in: the fast one, straight from the ASGI server, and FastAPI's routes,
which carry the OpenAPI types and serve whoever mounts the app below another.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from concurrent.futures import Executor
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import orjson
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from app.admission import Admission, Receive, Ticket
from app.errors import Fault, InvalidInput, MalformedBody, ServingError, UnsupportedMedia
from app.metrics import Metrics
from app.protocols import problem
from app.serving.batcher import Answer
from app.serving.service import Service
from app.serving.versions import Version
from app.tasks import Task
from app.tasks.decoding.fast_json import peek_model
from app.tasks.decoding.strict_json import parse_json
from app.tensors import Tensors

logger = logging.getLogger("app.predict")

DOOR = "predict"
_JSON = b"application/json"
_MULTIPART = b"multipart/form-data"

Send = Callable[[Any], Awaitable[None]]


class Reply(NamedTuple):
    """A whole answer."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class PredictDoor:
    """Translates prediction requests.

    Args:
        service: The data plane.
        tasks: By name of the model.
        admission: Whose tickets the requests hold.
        metrics: Told of every answer.
        decoders: Threads on which pictures and doubtful bodies are read, so that they never hold the event loop.
        default_model: Answers a body that names no model; None for none.
    """

    def __init__(
        self,
        service: Service,
        tasks: Mapping[str, Task],
        admission: Admission,
        metrics: Metrics,
        *,
        decoders: Executor,
        default_model: str | None,
    ) -> None:
        self._service = service
        self._tasks = tasks
        self._admission = admission
        self._metrics = metrics
        self._decoders = decoders
        self._default_model = default_model
        self._parse_s = {name: metrics.stage_s[name, "parse"] for name in tasks}

    async def serve(
        self, ticket: Ticket, model: str | None, scope: Mapping[str, Any], receive: Receive, send: Send
    ) -> None:
        """Answer a request as an ASGI application does."""
        status, headers, body = await self.answer(ticket, model, scope, receive)
        headers += self._admission.receipts(ticket)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def answer(self, ticket: Ticket, model: str | None, scope: Mapping[str, Any], receive: Receive) -> Reply:
        """Return the answer to a request, or the problem with it. Never raises.

        Args:
            ticket: From admission.
            model: From the path; None where the body names it.
            scope: Of ASGI.
            receive: Of ASGI; nothing has been read.
        """
        version: Version | None = None
        try:
            if ticket.refusal is not None:
                raise ticket.refusal
            query = _parse_query(scope["query_string"])
            number = query.pop("version", None)
            asked = query.pop("model", None) if model is None else None
            if model is not None:  # an unknown or unready model is told before its body is read
                version = self._service.catalog.resolve(model, number)
            body = await ticket.read_body(receive)
            if version is None:
                version = self._service.catalog.resolve(await self._named(ticket, body, asked), number)
            reply = await self._predict(ticket, version, query, body, scope, receive)
        except Exception as exc:
            if not isinstance(exc, ServingError):
                logger.exception("request %s failed", ticket.request_id.decode("ascii"))
            self._admission.count_refusal(exc)
            reply = Reply(*problem.render(exc, ticket.request_id))
        label = ("", "") if version is None else (version.ref.name, str(version.ref.version))
        self._metrics.requests[(DOOR, *label, str(reply.status))] += 1
        return reply

    async def _predict(
        self,
        ticket: Ticket,
        version: Version,
        query: dict[str, str],
        body: bytes,
        scope: Mapping[str, Any],
        receive: Receive,
    ) -> Reply:
        name = version.ref.name
        task = self._tasks[name]
        options = task.parse_options(query)
        tensors = task.decode_fast(body) if ticket.content_type == _JSON else None
        if tensors is None:
            tensors = await self._decode(ticket, task, body, scope)
        parse_s = self._service.clock() - ticket.received_at
        self._parse_s[name].observe(parse_s)
        answer = await self._service.predict(
            version, tensors, deadline=ticket.deadline, hung_up=lambda: _hung_up(receive)
        )
        number = str(version.ref.version)
        data = orjson.dumps({"model": name, "version": number, "predictions": task.encode(answer.outputs, options)})
        headers = [
            (b"content-type", _JSON),
            (b"content-length", b"%d" % len(data)),
            (b"x-model-version", number.encode()),
            (b"server-timing", _server_timing(parse_s, answer)),
        ]
        return Reply(200, headers, data)

    async def _decode(self, ticket: Ticket, task: Task, body: bytes, scope: Mapping[str, Any]) -> Tensors:
        """Read what the fast decoder did not accept: the rest of JSON, a raw file, an upload."""
        loop = asyncio.get_running_loop()
        media_type = ticket.content_type
        if media_type in (_JSON, b""):
            return await loop.run_in_executor(self._decoders, lambda: task.decode_json(parse_json(body)))
        if task.media_types:
            if media_type == _MULTIPART:
                body = await _uploaded_file(body, scope)
                return await loop.run_in_executor(self._decoders, task.decode_file, body)
            if media_type.decode("latin-1") in task.media_types:
                return await loop.run_in_executor(self._decoders, task.decode_file, body)
        taken = ["application/json", *task.media_types, *(["multipart/form-data"] if task.media_types else [])]
        raise UnsupportedMedia(
            f"the body is {media_type.decode('latin-1')!r}, this model takes {', '.join(taken)}; say so in Content-Type"
        )

    async def _named(self, ticket: Ticket, body: bytes, asked: str | None) -> str:
        """Return the name of the model that a body asks for; where it names none, the query's, or the default."""
        name: object = None
        if ticket.content_type in (_JSON, b""):
            name = peek_model(body)
            if name is None:
                document = await asyncio.get_running_loop().run_in_executor(self._decoders, parse_json, body)
                name = document.get("model") if isinstance(document, dict) else None
        if name is None:
            name = asked or self._default_model
        if isinstance(name, str):
            return name
        known = ", ".join(self._service.catalog.models)
        raise InvalidInput(
            Fault(
                pointer="#/model",
                code="missing" if name is None else "wrong_type",
                message=f'expected "model": one of {known}; or ask POST /predict/{{model}}, or ?model=',
            )
        )


def _parse_query(query_string: bytes) -> dict[str, str]:
    return dict(parse_qsl(query_string.decode("latin-1"), keep_blank_values=True)) if query_string else {}


def _server_timing(parse_s: float, answer: Answer) -> bytes:
    return b'parse;dur=%.3f, queue;dur=%.3f, compute;dur=%.3f, batch;desc="rows=%d"' % (
        parse_s * 1e3,
        answer.queue_s * 1e3,
        answer.compute_s * 1e3,
        answer.batch_rows,
    )


async def _hung_up(receive: Receive) -> None:
    """Return when the caller has gone; the body has been read, so nothing else can come."""
    while (await receive())["type"] != "http.disconnect":
        pass


class _InMemoryParser(MultiPartParser):
    """Never spills to disk: the body is in memory already, and the root file system may be read-only."""

    spool_max_size = 2**62


async def _uploaded_file(body: bytes, scope: Mapping[str, Any]) -> bytes:
    """Return the one file of a ``multipart/form-data`` body, in its field ``file``."""

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        form = await _InMemoryParser(Headers(raw=scope["headers"]), stream(), max_files=1, max_fields=8).parse()
    except (MultiPartException, KeyError, ValueError) as exc:
        raise MalformedBody(f"the body is no multipart/form-data: {getattr(exc, 'message', exc)}") from exc
    try:
        upload = form.get("file")
        if not isinstance(upload, UploadFile):
            raise InvalidInput(Fault(pointer="#/file", code="missing", message="expected a file in the field 'file'"))
        return await upload.read()
    finally:
        await form.close()
