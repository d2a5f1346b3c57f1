"""The client for an event loop, asyncio's or Trio's: every call is awaited."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import closing
from functools import partial
from ssl import SSLContext
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio
import httpx

from zero_to_one_client import transport
from zero_to_one_client.calls import Calls, Options
from zero_to_one_client.cards import ModelCard, ModelSummary, Readiness
from zero_to_one_client.errors import ClientError, DeadlineExceeded
from zero_to_one_client.flows import Effect, Flow, HttpResponse, Pause, Send
from zero_to_one_client.inferring import Tensors
from zero_to_one_client.predicting import Answer
from zero_to_one_client.tasks import Instances, Prediction, Request
from zero_to_one_client.versions import __version__

T = TypeVar("T")
P = TypeVar("P")


class AsyncClient:
    """Asks a service on an event loop; the calls are those of :class:`zero_to_one_client.client.Client`.

    Args:
        url: Where it is: ``http://localhost:8000``.
        options: How to behave; the defaults fit most.
        api_key: Sent as ``Authorization: Bearer``, where one is given.
        headers: For every request, beside those of the client.
        verify: Whose certificates to trust; None for those that httpx does.
        transport_of_http: What sends, instead of httpx's own.
        sleep: Lets seconds go by.

    Raises:
        InvalidRequest: The address is none.
    """

    def __init__(
        self,
        url: str,
        *,
        options: Options | None = None,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        verify: SSLContext | None = None,
        transport_of_http: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._options = options or Options()
        self._calls = Calls(self._options)
        self._sleep = sleep
        made_with = transport.settings(
            url,
            max_connections=self._options.max_connections,
            api_key=api_key,
            headers=headers or {},
            verify=verify,
            version=__version__,
        )
        self._http = httpx.AsyncClient(transport=transport_of_http, **made_with)

    async def models(self, *, timeout_s: float | None = None) -> tuple[ModelSummary, ...]:
        """Return the models of the service, with their states."""
        return await self._run(self._calls.models(timeout_s))

    async def card(self, model: str, *, is_fresh: bool = False, timeout_s: float | None = None) -> ModelCard:
        """Return all that the service tells of a model; asked for once, and kept, unless ``is_fresh``."""
        return await self._run(self._calls.card(model, timeout_s, is_fresh=is_fresh))

    async def predict(
        self,
        model: str,
        instances: Instances,
        *,
        version: str | None = None,
        top_k: int | None = None,
        outputs: Sequence[str] = (),
        timeout_s: float | None = None,
    ) -> Answer[Prediction]:
        """Return a prediction for each instance; see :meth:`zero_to_one_client.client.Client.predict`."""
        flow = self._calls.predict(model, instances, timeout_s, version=version, top_k=top_k, outputs=outputs)
        return await self._run(flow)

    async def ask(self, request: Request[P], *, timeout_s: float | None = None) -> Answer[P]:
        """Return a prediction for each instance of a typed request; a type checker knows which kind."""
        return await self._run(self._calls.ask(request, timeout_s))

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, Any],
        *,
        outputs: Sequence[str] = (),
        version: str | None = None,
        timeout_s: float | None = None,
    ) -> Tensors:
        """Return the output tensors for input tensors; see :meth:`zero_to_one_client.client.Client.infer`."""
        return await self._run(self._calls.infer(model, inputs, timeout_s, outputs=outputs, version=version))

    async def readiness(self, *, timeout_s: float | None = None) -> Readiness:
        """Return whether the service is ready now, and the state of every model."""
        return await self._run(self._calls.readiness(timeout_s))

    async def wait_until_ready(self, timeout_s: float | None = None, *, models: Collection[str] = ()) -> Readiness:
        """Return as soon as the service, or its named models, are ready; DeadlineExceeded where that does not come."""
        return await self._run(self._calls.wait_until_ready(timeout_s, models))

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, flow: Flow[T]) -> T:
        """Do what a flow wants done, until it returns."""
        with closing(flow):
            step: Callable[[], Effect] = partial(next, flow)
            while True:
                try:
                    effect = step()
                except StopIteration as stop:
                    result: T = stop.value
                    return result
                try:
                    done = await self._do(effect)
                except ClientError as error:
                    step = partial(flow.throw, error)
                else:
                    step = partial(flow.send, done)

    async def _do(self, effect: Effect) -> Any:
        if isinstance(effect, Send):
            return await self._send(effect)
        if isinstance(effect, Pause):
            return await self._sleep(effect.seconds)
        return await self._run_together(effect.flows)

    async def _send(self, effect: Send) -> HttpResponse:
        try:
            # httpx bounds each step, and not all of them together
            with anyio.fail_after(effect.timeout_s), transport.translated(effect.timeout_s):
                request = transport.build(self._http, effect, self._options.connect_timeout_s)
                response = await self._http.send(request)
        except TimeoutError as exc:
            raise DeadlineExceeded(f"no answer within {effect.timeout_s:g} s") from exc
        return transport.received(response, response.content)

    async def _run_together(self, flows: Sequence[Flow[Any]]) -> list[Any]:
        results: list[Any] = [None] * len(flows)
        errors: list[ClientError] = []
        places = anyio.Semaphore(self._options.max_parallel)

        async def run(index: int, flow: Flow[Any]) -> None:
            async with places:
                try:
                    results[index] = await self._run(flow)
                except ClientError as error:
                    errors.append(error)
                    group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            for index, flow in enumerate(flows):
                group.start_soon(run, index, flow)
        if errors:
            raise errors[0]
        return results
