"""What every test shares. Builders of bundles are in `tests.support.bundles`."""

import pytest
from hypothesis import settings

# no clocks: a slow machine is no failure. Derandomized: a run that passed here passes in CI.
settings.register_profile("house", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("house")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Asynchronous tests, marked `anyio`, run on asyncio, as uvicorn does."""
    return "asyncio"
