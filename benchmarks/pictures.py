"""What is sent: real pictures of the test set, one to a request, as the JSON that httpx would write."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
FIXTURE = REPOSITORY / "tests" / "fixtures" / "fashion_mnist_test_512.npz"


def bodies(count: int) -> list[bytes]:
    """Return the first so many pictures, each as a JSON body."""
    with np.load(FIXTURE) as archive:
        images = archive["images"][:count].tolist()
    return [json.dumps({"instances": [{"image": image}]}, separators=(",", ":")).encode() for image in images]


def http_requests(path: str, payloads: Sequence[bytes]) -> list[bytes]:
    """Return whole HTTP/1.1 requests with these bodies, and the headers that clients send."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\nConnection: keep-alive\r\n"
        "User-Agent: zero-to-one-benchmarks\r\nContent-Type: application/json\r\nContent-Length: "
    ).encode()
    return [head + b"%d\r\n\r\n" % len(payload) + payload for payload in payloads]
