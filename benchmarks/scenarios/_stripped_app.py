"""The service without all that makes it one: decoder, batcher, backend and encoder, and nothing around them.

No admission, limits, ids, metrics, receipts or checks of the answer, and a deadline that never comes. Two ways to the
wire: a plain ASGI callable on uvicorn as it is, and a protocol of its own that reads bytes and writes bytes.
``BENCH_BUNDLE`` is the folder of the bundle, ``.../name/version``.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import httptools
import uvloop

from app import backends, cpus, memory, tasks
from app.bundle.loader import Bundle, BundleRef, open_bundle
from app.protocols.answers import Answers
from app.serving.batcher import Answer, Batcher, Job
from app.serving.jobs import Outcome
from app.settings import Settings
from app.tensors import Tensors, num_rows

BUNDLE = "BENCH_BUNDLE"
NEVER = float("inf")
BACKLOG = 2048
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"

Run = Callable[[Tensors], Tensors]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class Core:
    """From the bytes of a body to the bytes of its answer. To be created on the running event loop.

    Args:
        folder: Of the bundle.
        wrap: Put around the backend.
    """

    def __init__(self, folder: Path, wrap: Callable[[Run], Run] = lambda run: run) -> None:
        memory.configure(num_threads=cpus.num_cores())
        ref = BundleRef(name=folder.parent.name, version=int(folder.name), folder=folder)
        bundle = open_bundle(ref)
        settings = Settings()
        limits = tasks.Limits(max_instances=settings.max_instances, max_image_pixels=settings.max_image_pixels)
        _, backend = backends.load("auto", bundle, threads=1)
        self._batcher = self._open(bundle, wrap(backend.run), settings)
        self._task = tasks.create(bundle, limits)
        self._answers = Answers(bundle.manifest, self._task)
        self._version = str(ref.version)
        memory.settle()

    def submit(self, body: bytes) -> "asyncio.Future[Answer]":
        """Decode and queue one request, for whoever awaits its answer."""
        return self._batcher.submit(self.decode(body), deadline=NEVER)

    def enqueue(self, tensors: Tensors, on_done: Callable[[Outcome], None]) -> None:
        """Queue one request; the callback gets its answer."""
        self._batcher.enqueue(Job(tensors, num_rows(tensors), deadline=NEVER, on_done=on_done))

    def decode(self, body: bytes) -> Tensors:
        """Return the tensors of a body.

        Raises:
            ValueError: The fast decoder does not accept it; there is no other.
        """
        tensors = self._task.decode_fast(body)
        if tensors is None:
            raise ValueError(f"the fast decoder does not accept {body[:80]!r}")
        return tensors

    def encode(self, outcome: Outcome) -> bytes:
        """Return the body of an answer, as the service writes it."""
        assert isinstance(outcome, Answer)  # the requests of a benchmark are all good
        return self._answers.to_json(self._version, outcome, self._answers.no_options).body

    @staticmethod
    def _open(bundle: Bundle, run: Run, settings: Settings) -> Batcher:
        batching = bundle.manifest.batching
        return Batcher(
            run,
            is_well=lambda: True,
            max_rows=batching.max_rows,
            max_queue_rows=settings.max_queue_rows,
            max_elements=batching.max_elements,
            inputs=bundle.manifest.inputs,
        )


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
        self._core.enqueue(self._core.decode(body), self._answer)

    def _answer(self, outcome: Outcome) -> None:
        data = self._core.encode(outcome)
        if self._transport is not None:
            self._transport.write(HEAD % len(data) + data)


async def serve(connect: Callable[[], asyncio.Protocol]) -> None:
    """Serve connections on a free port of the loopback, for good; the port is printed."""
    server = await asyncio.get_running_loop().create_server(connect, "127.0.0.1", 0, backlog=BACKLOG)
    host, port = server.sockets[0].getsockname()
    # the line by which the benchmarks learn a port
    print(f"in place of Uvicorn running on http://{host}:{port}", flush=True)
    await server.serve_forever()


async def _main() -> None:
    core = Core(Path(os.environ[BUNDLE]))
    await serve(lambda: Connection(core))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main())
