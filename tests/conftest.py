"""What every test shares. Builders of bundles are in `tests.support.bundles`."""

import inspect

import httpx
import pytest
from hypothesis import settings

# no clocks: a slow machine is no failure. Derandomized: a run that passed here passes in CI.
settings.register_profile("house", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("house")

# nor is a slow answer, and httpx's own 5 s pass where a machine is busy: one object, the default of all its functions
_default = inspect.signature(httpx.Client).parameters["timeout"].default
_default.connect = _default.read = _default.write = _default.pool = 60.0


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Asynchronous tests, marked `anyio`, run on asyncio, as uvicorn does."""
    return "asyncio"
