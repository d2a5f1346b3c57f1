"""The states of a version and of the service, and how each may follow another: all of it is here.

A version::

    loading ──▶ proving ──▶ ready ◀─────── by a new version in its place
       │           │          │                   ▲
       │           │          ├──▶ sick(reason) ──┘ loaded and proven again, with growing pauses
       ├───────────┴──────────┼──▶ failed(reason)
       └───────────┴──────────┴──▶ unloading ──▶ unloaded    also from sick and failed

``failed`` is what was never proven: its bundle is at fault, and nothing is to be hoped for before somebody loads it
anew. ``sick`` is what was proven and served, and then answered wrong, or not at all: it comes back by itself.

The service, as its probes tell it::

    starting ──▶ ready ◀──▶ not_ready ──▶ draining
        └───────────┴─────────────────────────▲

It is *starting* until every version found at the start has been loaded, or could not be: ``/startupz``, for whoever is
to wait with the other probes. It is *ready* while every required model is: ``/readyz``, for whoever sends traffic. And
whoever restarts it does so when it does not answer at all: ``/livez``. The parent of a worker sees that before.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal, TypeAlias

Phase: TypeAlias = Literal["ready", "not_ready", "draining"]


class State(StrEnum):
    """Where a version stands."""

    LOADING = "loading"
    PROVING = "proving"
    READY = "ready"
    SICK = "sick"
    FAILED = "failed"
    UNLOADING = "unloading"
    UNLOADED = "unloaded"


_END = frozenset({State.FAILED, State.UNLOADING, State.UNLOADED})
_NEXT: Mapping[State, frozenset[State]] = {
    State.LOADING: _END | {State.PROVING, State.SICK},
    # again where it is proven with another plan, when the first was no good
    State.PROVING: _END | {State.PROVING, State.READY, State.SICK},
    State.READY: _END | {State.SICK},
    State.SICK: _END | {State.SICK},
    State.FAILED: _END | {State.SICK},
    State.UNLOADING: frozenset({State.UNLOADING, State.UNLOADED}),
    State.UNLOADED: frozenset({State.UNLOADING, State.UNLOADED}),  # what is unloaded twice stays so
}


class ImpossibleTransition(AssertionError):
    """A state that cannot follow the one before: a defect of ours."""


def follow(state: State, following: State) -> State:
    """Return the following state.

    Raises:
        ImpossibleTransition: It cannot follow.
    """
    if following not in _NEXT[state]:
        raise ImpossibleTransition(f"{following} cannot follow {state}")
    return following


def phase(*, is_ready: bool, is_draining: bool) -> Phase:
    """Return where the service stands, for who sends traffic.

    Args:
        is_ready: Whether every required model is ready.
        is_draining: Whether it is about to leave.
    """
    if is_draining:
        return "draining"
    return "ready" if is_ready else "not_ready"
