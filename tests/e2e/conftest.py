"""The services that the documentation is held against."""

import shutil
from collections.abc import Iterator
from functools import cache
from typing import Any

import httpx
import pytest

from tests.support.pages import ADMIN_KEY, ROOT
from tests.support.server import RunningService, serve


@pytest.fixture(scope="session")
def service() -> Iterator[RunningService]:
    with serve(ROOT / "models", grpc_port=0) as running:
        yield running


@pytest.fixture(scope="session")
def changeable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service of one model, for the pages that change what is served: the other pages tell of what they find."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(ROOT / "models" / "rnn", folder / "rnn")
    with serve(folder, admin_key=ADMIN_KEY) as running:
        yield running


@pytest.fixture(scope="session")
def card(service: RunningService) -> Any:
    return cache(lambda name: httpx.get(f"{service.url}/models/{name}").json())
