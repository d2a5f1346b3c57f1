"""The service as a platform starts it: with that platform's variables, its command and its port, and none of ours."""

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.support.server import COMMAND, START_TIMEOUT_S, RunningService, start

ROOT = Path(__file__).parents[2]
# what `docker run IMAGE serve` runs
SERVE_ARGUMENT = (str(ROOT / "docker" / "serve"),)
ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"


@contextmanager
def started_as(
    environ: Mapping[str, str], port: int, probe: str, *, command: tuple[str, ...] = COMMAND
) -> Iterator[RunningService]:
    """Start the service, and ask a probe as a platform does, from the first moment until it is 200.

    Args:
        environ: All that the platform sets.
        port: Where it looks for the service.
        probe: The path that it asks.
        command: What it runs.
    """
    # `python` is that of the image there, and that of the tests here
    path = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    with start(path | dict(environ), command=command, defaults={}) as running:
        running.url = f"http://127.0.0.1:{port}"
        ends_at = time.monotonic() + START_TIMEOUT_S
        while (status := _status(running.url + probe)) != 200:
            assert status in (None, 503), f"{probe} answers {status}"
            if running.process.poll() is not None or time.monotonic() > ends_at:
                raise RuntimeError(f"never 200 on {probe}:\n{running.log()}")
            time.sleep(0.02)
        yield running


def example(client: httpx.Client, name: str) -> dict[str, Any]:
    """Return the request that the card of a model shows."""
    body: dict[str, Any] = client.get(f"/models/{name}").json()["example"]
    return body


def _status(url: str) -> int | None:
    """Return the status of an answer; None where nothing listens yet."""
    try:
        return httpx.get(url, timeout=START_TIMEOUT_S).status_code
    except httpx.ConnectError:
        return None
