"""One running service over the committed bundles, and pictures to ask it about."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.support.committed import MODELS
from tests.support.server import RunningService, serve

ROOT = Path(__file__).parents[2]
FIXTURE = ROOT / "tests" / "fixtures" / "fashion_mnist_test_512.npz"


@pytest.fixture(scope="session")
def service() -> Iterator[RunningService]:
    with serve(MODELS) as running:
        yield running


@pytest.fixture
def client(service: RunningService) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=30) as client:
        yield client


@pytest.fixture(scope="session")
def pictures() -> tuple[np.ndarray, np.ndarray]:
    """512 pictures of the test set, uint8 (512, 28, 28), and their labels, uint8 (512,)."""
    with np.load(FIXTURE) as archive:
        return archive["images"], archive["labels"]
