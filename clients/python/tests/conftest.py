"""What every test of the client shares."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from clients.python.tests.support.callers import CALLERS, Caller, Clock
from tests.support.server import RunningService, serve

settings.register_profile("house", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("house")

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def service() -> Iterator[RunningService]:
    """The committed models, in a process of their own."""
    with serve(ROOT / "models") as running:
        yield running


@pytest.fixture(scope="session")
def small_service() -> Iterator[RunningService]:
    """The same, with limits that a small batch passes."""
    with serve(ROOT / "models", max_instances=5, max_body_bytes=20_000) as running:
        yield running


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=CALLERS)
def caller(request: pytest.FixtureRequest, clock: Clock) -> Iterator[Caller]:
    """Makes clients, once of each kind: what holds for one holds for the other."""
    with request.param(clock) as made:
        yield made
