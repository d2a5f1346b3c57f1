"""Raw bytes hold the very picture of the JSON beside them."""

import json

import numpy as np

from benchmarks import pictures
from benchmarks.scenarios import raw


def test_raw_bytes_are_the_picture_of_the_json_body() -> None:
    (body,) = pictures.bodies(1)
    data = raw.raw_body(body)
    assert len(data) == 784 * 4
    assert np.array_equal(np.frombuffer(data, "<f4").reshape(28, 28), json.loads(body)["instances"][0]["image"])


def test_a_raw_request_says_what_it_is() -> None:
    head, _, body = raw.raw_request("/predict/cnn", b"\x00\x01").partition(b"\r\n\r\n")
    assert b"\r\nContent-Type: application/octet-stream\r\n" in head
    assert head.endswith(b"\r\nContent-Length: 2")
    assert body == b"\x00\x01"
