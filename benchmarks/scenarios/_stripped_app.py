"""The service without all that makes it one: decoder, batcher, backend and encoder, and nothing around them.

No admission, limits, ids, metrics, receipts or checks of the answer, and a deadline that never comes. Two ways to the
wire: a plain ASGI callable on uvicorn as it is, and a protocol of its own that reads bytes and writes bytes.
``BENCH_BUNDLE`` is the folder of the bundle, ``.../name/version``.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import httptools
import orjson
import uvloop

from app import backends, memory, tasks
from app.bundle.loader import BundleRef, open_bundle
from app.serving.batcher import Answer, Batcher
from app.settings import Settings

BUNDLE = "BENCH_BUNDLE"
NEVER = float("inf")
_BACKLOG = 2048
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class Core:
    """From the bytes of a body to the bytes of its answer. To be created on the running event loop.

    Args:
        folder: Of the bundle.
    """

    def __init__(self, folder: Path) -> None:
        memory.return_large_blocks()
        ref = BundleRef(name=folder.parent.name, version=int(folder.name), folder=folder)
        bundle = open_bundle(ref)
        settings = Settings()
        limits = tasks.Limits(max_instances=settings.max_instances, max_image_pixels=settings.max_image_pixels)
        _, backend = backends.load("auto", bundle, threads=1)
        self._task = tasks.create(bundle, limits)
        self._options = self._task.parse_options({})
        self._model, self._version = ref.name, str(ref.version)
        batching = bundle.manifest.batching
        self._batcher = Batcher(
            backend.run,
            is_well=lambda: True,
            max_rows=batching.max_rows,
            max_queue_rows=settings.max_queue_rows,
            max_elements=batching.max_elements,
            inputs=bundle.manifest.inputs,
            clock=time.monotonic,
        )
        memory.settle()

    def submit(self, body: bytes) -> "asyncio.Future[Answer]":
        """Queue one request.

        Raises:
            ValueError: The fast decoder does not accept it; there is no other.
        """
        tensors = self._task.decode_fast(body)
        if tensors is None:
            raise ValueError(f"the fast decoder does not accept {body[:80]!r}")
        return self._batcher.submit(tensors, deadline=NEVER)

    def encode(self, answer: Answer) -> bytes:
        """Return the body of an answer, as the service writes it."""
        predictions = self._task.encode(answer.outputs, self._options)
        return orjson.dumps({"model": self._model, "version": self._version, "predictions": predictions})


def asgi_app() -> Callable[[dict[str, Any], Receive, Send], Awaitable[None]]:
    """Return the ASGI callable; uvicorn calls this on its event loop."""
    core = Core(Path(os.environ[BUNDLE]))

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        message = await receive()
        body = message["body"]
        while message["more_body"]:
            message = await receive()
            body += message["body"]
        data = core.encode(await core.submit(body))
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(data))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": data})

    return app


class Connection(asyncio.Protocol):
    """One connection whose requests come one at a time, each sent when the one before is answered."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one, and does not say so

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body = self._body + body if self._body else body

    def on_message_complete(self) -> None:
        body, self._body = self._body, b""
        self._core.submit(body).add_done_callback(self._answer)

    def _answer(self, future: "asyncio.Future[Answer]") -> None:
        data = self._core.encode(future.result())
        if self._transport is not None:
            self._transport.write(_HEAD % len(data) + data)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    core = Core(Path(os.environ[BUNDLE]))
    server = await loop.create_server(lambda: Connection(core), "127.0.0.1", 0, backlog=_BACKLOG)
    host, port = server.sockets[0].getsockname()
    # the line by which the benchmarks learn a port
    print(f"in place of Uvicorn running on http://{host}:{port}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve())
