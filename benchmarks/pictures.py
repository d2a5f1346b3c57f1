"""What is sent: real pictures of the test set, one to a request, as the JSON that httpx would write."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
FIXTURE = REPOSITORY / "tests" / "fixtures" / "fashion_mnist_test_512.npz"


def pictures(count: int) -> list[list[list[int]]]:
    """Return the first so many pictures, 28 rows of 28 grey values each."""
    with np.load(FIXTURE) as archive:
        found: list[list[list[int]]] = archive["images"][:count].tolist()
    return found


def bodies(count: int) -> list[bytes]:
    """Return the first so many pictures, each as a JSON body of the service."""
    return [as_json({"instances": [{"image": image}]}) for image in pictures(count)]


def as_json(document: object) -> bytes:
    """Return a document as clients write it who care for size."""
    return json.dumps(document, separators=(",", ":")).encode()


def http_requests(path: str, payloads: Sequence[bytes], content_type: str = "application/json") -> list[bytes]:
    """Return whole HTTP/1.1 requests with these bodies, and the headers that clients send."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\nConnection: keep-alive\r\n"
        f"User-Agent: zero-to-one-benchmarks\r\nContent-Type: {content_type}\r\nContent-Length: "
    ).encode()
    return [head + b"%d\r\n\r\n" % len(payload) + payload for payload in payloads]
