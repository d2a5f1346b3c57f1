"""The one data plane: every door hands its tensors in here, and a door is only a translator."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from app.errors import ClientGone, ModelNotReady
from app.serving.catalog import Catalog
from app.serving.jobs import Answer, Job
from app.serving.versions import Version
from app.tensors import Tensors
from app.tracing.context import Trace

# most answers are there sooner, and a watch costs more than it could save them
WATCH_AFTER_S = 0.05


class Service:
    """Submits a request to the queue of a version, and waits for the answer as long as the caller does.

    Args:
        catalog: The models.
        clock: Monotonic seconds; deadlines are on it.
    """

    def __init__(self, catalog: Catalog, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.catalog = catalog
        self.clock = clock

    def expect_room(self, version: Version, *, deadline: float, client: str) -> None:
        """Raise :class:`Overloaded` where a version is not expected to answer one row more in time."""
        if version.batcher is not None:
            version.batcher.expect_room(1, deadline=deadline, client=client)

    def enqueue(self, version: Version, job: Job) -> None:
        """Submit a request whose answer is handed to its callback.

        Args:
            version: Who answers, from :meth:`app.serving.catalog.Catalog.pick`.
            job: The inputs of the manifest, B rows; the deadline is on ``clock``.

        Raises:
            Overloaded: The queue is full, or no answer is to be expected within the deadline.
            ModelNotReady: The model went out of rotation.
        """
        if version.batcher is None:
            raise ModelNotReady(f"{version.label} is {version.state}")
        version.batcher.enqueue(job)

    def observe(self, version: Version, answer: Answer) -> None:
        """Count an answer; for who has its callback called."""
        assert version.queue_s is not None  # it was ready when it answered
        version.queue_s.observe(answer.queue_s)

    async def predict(
        self,
        version: Version,
        tensors: Tensors,
        *,
        deadline: float,
        client: str,
        hung_up: Callable[[], Awaitable[object]],
        trace: Trace | None = None,
    ) -> Answer:
        """Return what the model makes of B rows.

        Args:
            version: Who answers, from :meth:`app.serving.catalog.Catalog.pick`.
            tensors: The inputs of the manifest, B rows.
            deadline: On ``clock``.
            client: Who asks, for fairness between clients.
            hung_up: Returns when the caller has gone; the request is then dropped before it is run.
            trace: Where the request stands in a trace.

        Raises:
            Overloaded: The queue is full, or no answer is to be expected within the deadline.
            ModelNotReady: The model went out of rotation.
            DeadlineExceeded: The deadline passed.
            ModelRejectedInput: The model fails on one of the rows.
            BackendFailed: The runtime failed.
            ClientGone: Nobody waits any more.
        """
        if version.batcher is None:
            raise ModelNotReady(f"{version.label} is {version.state}")
        future = version.batcher.submit(tensors, deadline=deadline, client=client, trace=trace)
        watch: asyncio.Task[None] | None = None

        def start_watch() -> None:
            nonlocal watch
            watch = asyncio.ensure_future(_drop_when_gone(future, hung_up))

        timer = asyncio.get_running_loop().call_later(WATCH_AFTER_S, start_watch)
        try:
            answer = await future
        finally:
            timer.cancel()
            if watch is not None:
                watch.cancel()
        self.observe(version, answer)
        return answer


async def _drop_when_gone(future: "asyncio.Future[Answer]", hung_up: Callable[[], Awaitable[object]]) -> None:
    await hung_up()
    if not future.done():
        future.set_exception(ClientGone("the caller hung up while the request waited"))
