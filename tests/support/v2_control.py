"""The Open Inference Protocol beside inference, through Triton's own client."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from tests.support.server import RunningService

KEY = "open-sesame-1"
ADMIN = {"Authorization": f"Bearer {KEY}"}
IMAGE = {"instances": [{"image": [[1, 2, 3], [4, 5, 6]]}]}


def client_of(running: RunningService) -> triton.InferenceServerClient:
    return triton.InferenceServerClient(running.url.removeprefix("http://"))


def refusal(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(InferenceServerException) as caught:
        call()
    return caught.value.status(), caught.value.message()


def states(client: triton.InferenceServerClient) -> dict[tuple[str, str], str]:
    index = client.get_model_repository_index(headers=ADMIN)
    return {(entry["name"], entry["version"]): entry["state"] for entry in index}


def predict(running: RunningService, model: str = "dummy", **options: Any) -> httpx.Response:
    return httpx.post(f"{running.url}/predict/{model}", json=IMAGE, timeout=30, **options)
