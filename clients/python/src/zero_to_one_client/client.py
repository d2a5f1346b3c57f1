"""The client that waits: every call returns its answer. Safe to share between threads."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import closing
from functools import partial
from ssl import SSLContext
from threading import Event
from types import TracebackType
from typing import Any, Self, TypeVar

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


class Client:
    """Asks a service, and waits for what it says.

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
        transport_of_http: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
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
        self._http = httpx.Client(transport=transport_of_http, **made_with)

    def models(self, *, timeout_s: float | None = None) -> tuple[ModelSummary, ...]:
        """Return the models of the service, with their states."""
        return self._run(self._calls.models(timeout_s))

    def card(self, model: str, *, is_fresh: bool = False, timeout_s: float | None = None) -> ModelCard:
        """Return all that the service tells of a model; asked for once, and kept, unless ``is_fresh``."""
        return self._run(self._calls.card(model, timeout_s, is_fresh=is_fresh))

    def predict(
        self,
        model: str,
        instances: Instances,
        *,
        version: str | None = None,
        top_k: int | None = None,
        outputs: Sequence[str] = (),
        timeout_s: float | None = None,
    ) -> Answer[Prediction]:
        """Return a prediction for each instance, whatever the task of the model is.

        Args:
            model: Who is asked.
            instances: A list of what the task takes (:mod:`zero_to_one_client.tasks` says what that is), or an array
                whose first axis counts them. As many as there may be: what one request cannot hold is split and joined.
            version: The version that is to answer, by number or label; None for what the model's policy says.
            top_k: Of classifiers: how many labels to tell.
            outputs: Of reconstructions and tensors: the members to tell.
            timeout_s: Seconds for all of it; None for those of the client.

        Raises:
            ClientError: As :mod:`zero_to_one_client.errors` draws them.
        """
        flow = self._calls.predict(model, instances, timeout_s, version=version, top_k=top_k, outputs=outputs)
        return self._run(flow)

    def ask(self, request: Request[P], *, timeout_s: float | None = None) -> Answer[P]:
        """Return a prediction for each instance of a typed request; a type checker knows which kind."""
        return self._run(self._calls.ask(request, timeout_s))

    def infer(
        self,
        model: str,
        inputs: Mapping[str, Any],
        *,
        outputs: Sequence[str] = (),
        version: str | None = None,
        timeout_s: float | None = None,
    ) -> Tensors:
        """Return the output tensors for input tensors, by their names (Open Inference Protocol).

        Args:
            model: Who is asked.
            inputs: Arrays, or lists of texts or bytes; the first axis counts the rows, as many as there may be.
            outputs: Those to tell; empty for all.
            version: The version that is to answer, by number or label; None for what the model's policy says.
            timeout_s: Seconds for all of it; None for those of the client.

        Raises:
            ClientError: As :mod:`zero_to_one_client.errors` draws them.
        """
        return self._run(self._calls.infer(model, inputs, timeout_s, outputs=outputs, version=version))

    def readiness(self, *, timeout_s: float | None = None) -> Readiness:
        """Return whether the service is ready now, and the state of every model."""
        return self._run(self._calls.readiness(timeout_s))

    def wait_until_ready(self, timeout_s: float | None = None, *, models: Collection[str] = ()) -> Readiness:
        """Return as soon as the service is ready, or those of its models that are named.

        Raises:
            DeadlineExceeded: It is not, after so many seconds; the message has the reason of each model.
        """
        return self._run(self._calls.wait_until_ready(timeout_s, models))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, flow: Flow[T], is_over: Event | None = None) -> T:
        """Do what a flow wants done, until it returns.

        Args:
            flow: To run.
            is_over: Set as soon as nobody wants its result any more.
        """
        with closing(flow):
            step: Callable[[], Effect] = partial(next, flow)
            while True:
                try:
                    effect = step()
                except StopIteration as stop:
                    result: T = stop.value
                    return result
                if is_over is not None and is_over.is_set():
                    raise _NotWanted
                try:
                    done = self._do(effect)
                except ClientError as error:
                    step = partial(flow.throw, error)
                else:
                    step = partial(flow.send, done)

    def _do(self, effect: Effect) -> Any:
        if isinstance(effect, Send):
            return self._send(effect)
        if isinstance(effect, Pause):
            return self._sleep(effect.seconds)
        return self._run_together(effect.flows)

    def _send(self, effect: Send) -> HttpResponse:
        ends_at_s = self._options.clock() + effect.timeout_s
        with transport.translated(effect.timeout_s):
            request = transport.build(self._http, effect, self._options.connect_timeout_s)
            response = self._http.send(request, stream=True)
            with closing(response):
                chunks = []
                for chunk in response.iter_bytes():
                    chunks.append(chunk)
                    # httpx bounds the wait for each chunk, and not for all of them
                    if self._options.clock() >= ends_at_s:
                        raise DeadlineExceeded(f"no whole answer within {effect.timeout_s:g} s")
        return transport.received(response, b"".join(chunks))

    def _run_together(self, flows: Sequence[Flow[Any]]) -> list[Any]:
        is_over = Event()
        with ThreadPoolExecutor(min(self._options.max_parallel, len(flows)), "zero-to-one-client") as pool:
            futures: list[Future[Any]] = [pool.submit(self._run, flow, is_over) for flow in flows]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                # those that wait are not begun, those that run end before their next request
                is_over.set()
                pool.shutdown(wait=False, cancel_futures=True)
        failed = [error for future in futures if not future.cancelled() and (error := future.exception()) is not None]
        for error in failed:
            if not isinstance(error, _NotWanted):
                raise error
        return [future.result() for future in futures]


class _NotWanted(Exception):
    """Ends a flow whose result nobody wants any more, because another one of the same call failed."""
