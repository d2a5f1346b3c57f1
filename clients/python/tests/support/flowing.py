"""Runs flows in memory, without a network and without time."""

from collections.abc import Callable
from typing import Any, TypeVar

from zero_to_one_client.errors import ClientError
from zero_to_one_client.flows import Flow, HttpRequest, HttpResponse, Pause, Send

T = TypeVar("T")
Service = Callable[[HttpRequest], HttpResponse]
# the order in which so many flows run that may run side by side
Order = Callable[[int], list[int]]


def run(flow: Flow[T], service: Service, order: Order = lambda count: list(range(count))) -> T:
    """Return what a flow returns, with a function for a service."""
    step: Callable[[], Any] = lambda: next(flow)  # noqa: E731
    while True:
        try:
            effect = step()
        except StopIteration as stop:
            result: T = stop.value
            return result
        try:
            done: Any = None
            if isinstance(effect, Send):
                done = service(effect.request)
            elif not isinstance(effect, Pause):
                found = {place: run(effect.flows[place], service, order) for place in order(len(effect.flows))}
                done = [found[place] for place in range(len(found))]
        except ClientError as error:
            step = lambda error=error: flow.throw(error)  # noqa: E731
        else:
            step = lambda done=done: flow.send(done)  # noqa: E731
