"""All that a client can be asked, as flows; the two clients only run them."""

import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from zero_to_one_client import cards, flows, inferring, predicting
from zero_to_one_client.asking import Asker
from zero_to_one_client.cards import ModelCard, ModelSummary, Readiness
from zero_to_one_client.errors import ClientError, DeadlineExceeded, InvalidRequest
from zero_to_one_client.flows import Flow
from zero_to_one_client.inferring import Tensors
from zero_to_one_client.predicting import Answer
from zero_to_one_client.retries import Deadline, RetryPolicy
from zero_to_one_client.tasks import Instances, Prediction, Request, request_for

P = TypeVar("P")

# seconds between two questions whether the service is ready
_POLL_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a client behaves.

    Attributes:
        timeout_s: Seconds of a call, with all of its requests, tries and pauses, where the call says nothing else.
        connect_timeout_s: Seconds of them at most that one try waits for a connection.
        retry: When to try again.
        max_parallel: Parts of one batch that are on their way at once, at most.
        max_connections: To the service, at most.
        binary: Whether arrays may go and come as bytes; otherwise all is JSON.
        clock: Monotonic, in seconds.
        now: Seconds since 1970.
        random: Returns a number from 0 to 1.
    """

    timeout_s: float = 30.0
    connect_timeout_s: float = 5.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    max_parallel: int = 4
    max_connections: int = 16
    binary: bool = True
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    random: Callable[[], float] = random.random

    def __post_init__(self) -> None:
        if not 1 <= self.max_parallel <= self.max_connections:
            raise InvalidRequest("max_parallel is 1 at least, and no more than max_connections")


class Calls:
    """The flow of every call.

    Args:
        options: How the client behaves.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._asker = Asker(
            policy=options.retry,
            clock=options.clock,
            now=options.now,
            random=options.random,
            may_be_binary=options.binary,
        )

    def models(self, timeout_s: float | None) -> Flow[tuple[ModelSummary, ...]]:
        """Return the list of models."""
        return cards.read_summaries((yield from self._asker.get("/models", self._deadline(timeout_s))))

    def card(self, model: str, timeout_s: float | None, *, is_fresh: bool) -> Flow[ModelCard]:
        """Return the card of a model."""
        return (yield from self._asker.card(model, self._deadline(timeout_s), is_fresh=is_fresh))

    def predict(
        self,
        model: str,
        instances: Instances,
        timeout_s: float | None,
        *,
        version: str | None,
        top_k: int | None,
        outputs: Sequence[str],
    ) -> Flow[Answer[Prediction]]:
        """Return the predictions for instances, whatever the task of the model is."""
        deadline = self._deadline(timeout_s)
        card = yield from self._asker.card(model, deadline)
        if isinstance(outputs, str):
            raise InvalidRequest(f"outputs: expected names in a list, found {outputs!r}")
        request = request_for(card, instances, version=version, top_k=top_k, outputs=tuple(outputs))
        return (yield from predicting.predict(self._asker, request, deadline))

    def ask(self, request: Request[P], timeout_s: float | None) -> Flow[Answer[P]]:
        """Return the predictions for a typed request."""
        return (yield from predicting.predict(self._asker, request, self._deadline(timeout_s)))

    def infer(
        self,
        model: str,
        inputs: Mapping[str, Any],
        timeout_s: float | None,
        *,
        outputs: Sequence[str],
        version: str | None,
    ) -> Flow[Tensors]:
        """Return the output tensors for input tensors."""
        deadline = self._deadline(timeout_s)
        return (
            yield from inferring.infer(self._asker, model, inputs, outputs=outputs, version=version, deadline=deadline)
        )

    def readiness(self, timeout_s: float | None) -> Flow[Readiness]:
        """Return whether the service is ready now."""
        return (yield from self._asker.readiness(self._deadline(timeout_s)))

    def wait_until_ready(self, timeout_s: float | None, models: Collection[str]) -> Flow[Readiness]:
        """Ask until the service is ready, or some of its models are."""
        if isinstance(models, str):
            raise InvalidRequest(f"models: expected names in a list, found {models!r}")
        deadline = self._deadline(timeout_s)
        last = "no answer yet"
        while True:
            try:
                readiness = yield from self._asker.readiness(deadline)
            except ClientError as error:
                if isinstance(error, DeadlineExceeded):
                    raise DeadlineExceeded(f"not ready within {deadline.timeout_s:g} s: {last}") from error
                if not error.is_retryable:
                    raise
                last = str(error)
            else:
                if _is_ready(readiness, models):
                    return readiness
                last = _why(readiness, models)
            if not deadline.allows(_POLL_S):
                raise DeadlineExceeded(f"not ready within {deadline.timeout_s:g} s: {last}")
            yield from flows.pause(_POLL_S)

    def _deadline(self, timeout_s: float | None) -> Deadline:
        return Deadline.after(self._options.timeout_s if timeout_s is None else timeout_s, self._options.clock)


def _is_ready(readiness: Readiness, models: Collection[str]) -> bool:
    if not models:
        return readiness.is_ready
    return all(readiness.models.get(model) == "ready" for model in models)


def _why(readiness: Readiness, models: Collection[str]) -> str:
    missing = {name: "no such model" for name in models if name not in readiness.models}
    asked = {name: why for name, why in readiness.reasons.items() if not models or name in models}
    return ", ".join(f"{name}: {why}" for name, why in (asked | missing).items()) or readiness.status
