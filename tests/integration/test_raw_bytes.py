"""The door for plain bytes: the same numbers as in JSON, and the same answers."""

import struct
from typing import Any

import httpx
import numpy as np
import pytest

from app.bundle.loader import open_bundle
from app.tensors import LENGTHS, Array, take, trim
from tests.support.committed import LATEST, NAMES

BYTES = {"content-type": "application/octet-stream"}
BYTES_BACK = BYTES | {"accept": "application/octet-stream"}


def input_of(name: str, row: int) -> Array:
    """Return one golden row of the input beside ``lengths``, without its padding."""
    tensors = trim(take(open_bundle(LATEST[name]).golden().inputs, row, row + 1))
    (array,) = (array for key, array in tensors.items() if key != LENGTHS)
    return array


def tensor_of(response: httpx.Response) -> Array:
    name, dtype, shape = (part.strip() for part in response.headers["x-tensor"].split(";"))
    assert name
    lengths = [int(axis) for axis in shape.removeprefix("shape=").split(",")]
    return np.frombuffer(response.content, dtype.removeprefix("dtype=")).reshape(lengths)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", ["short", "long"])
def test_bytes_are_answered_as_json_is(client: httpx.Client, name: str, way: str) -> None:
    bundle = open_bundle(LATEST[name])
    golden = bundle.golden()
    output = bundle.manifest.outputs[-1].name
    for row, request in enumerate(golden.requests[:3]):
        data = input_of(name, row).tobytes()
        # a version that is named goes the long way
        query = f"version={LATEST[name].version}&tensor={output}" if way == "long" else ""
        path = f"/predict/{name}?{query}"
        as_json = client.post(f"/predict/{name}", json={"instances": [request]}).json()
        answer = client.post(path, content=data, headers=BYTES)
        assert answer.status_code == 200, answer.text
        assert answer.json() == as_json
        in_bytes = client.post(path, content=data, headers=BYTES_BACK)
        assert in_bytes.headers["content-type"] == "application/octet-stream"
        tolerance = bundle.manifest.golden.tolerance_of("onnx", output)
        np.testing.assert_allclose(
            tensor_of(in_bytes), golden.outputs[output][row : row + 1], rtol=tolerance.rtol, atol=tolerance.atol
        )


def test_every_output_can_be_asked_for(client: httpx.Client) -> None:
    data = input_of("autoencoder", 0).tobytes()
    for spec in open_bundle(LATEST["autoencoder"]).manifest.outputs:
        answer = client.post(f"/predict/autoencoder?tensor={spec.name}", content=data, headers=BYTES_BACK)
        assert answer.headers["x-tensor"].startswith(f"{spec.name}; dtype={spec.dtype}; shape=1")
        assert spec.describes(tensor_of(answer))


def test_json_can_be_asked_and_bytes_answered(client: httpx.Client) -> None:
    body = client.get("/models/cnn").json()["example"]
    answer = client.post("/predict/cnn", json=body, headers={"accept": "application/octet-stream"})
    prediction = client.post("/predict/cnn", json=body).json()["predictions"][0]
    assert tensor_of(answer)[0].tolist() == list(prediction["probabilities"].values())


def test_the_number_of_rows_follows_from_the_length(client: httpx.Client) -> None:
    rows = np.concatenate([input_of("mlp", row) for row in range(5)])
    answer = client.post("/predict/mlp", content=rows.tobytes(), headers=BYTES)
    assert len(answer.json()["predictions"]) == 5
    alone = client.post("/predict/mlp", content=rows[3:4].tobytes(), headers=BYTES).json()["predictions"][0]
    assert answer.json()["predictions"][3]["probability"] == pytest.approx(alone["probability"], abs=1e-6)


@pytest.mark.parametrize("query", ["", f"?version={LATEST['cnn'].version}"], ids=["short way", "long way"])
@pytest.mark.parametrize(
    ("data", "status", "code", "told"),
    [
        (bytes(3135), 422, "wrong_length", "found 3135 bytes, which are 0 rows and 3135 bytes"),
        (bytes(3137), 422, "wrong_length", "1 rows and 1 bytes"),
        (b"", 422, "wrong_length", "rows of 3136 bytes each: float32, little-endian, 28 x 28; found 0 bytes"),
        (bytes(3136 * 1025), 413, "too_many_instances", "1025 instances"),
        (struct.pack("<784f", *[0.0] * 782, float("nan"), 0), 422, "not_finite", "found nan as number 782 of row 0"),
        (struct.pack("<784f", float("inf"), *[0.0] * 783), 422, "not_finite", "found inf as number 0 of row 0"),
        (bytes(3136) + struct.pack("<784f", -1.0, *[0.0] * 783), 422, "out_of_range", "as number 0 of row 1"),
        (struct.pack("<784f", 255.5, *[0.0] * 783), 422, "out_of_range", "from 0 to 255, found 255.5"),
    ],
)
def test_bytes_that_are_no_picture_are_refused(
    client: httpx.Client, query: str, data: bytes, status: int, code: str, told: str
) -> None:
    answer = client.post(f"/predict/cnn{query}", content=data, headers=BYTES)
    assert answer.status_code == status
    problem: dict[str, Any] = answer.json()
    assert told in problem["detail"]
    assert code in {problem["code"], *(fault["code"] for fault in problem.get("errors") or ())}


@pytest.mark.parametrize(
    ("name", "values", "dtype", "told"),
    [
        ("transformer", [-1, 5], "<i8", "from 0 to"),
        ("transformer", [10**9], "<i8", "found 1000000000 as number 0"),
        ("transformer", [1] * 513, "<i8", "one row of 1 to 512 steps"),
        ("rnn", [float("nan")] * 84, "<f4", "found nan"),
        ("rnn", [0.0] * 13, "<f4", "and 4 bytes"),
        ("numpy_mlp", [float("inf")] * 30, "<f4", "found inf"),
    ],
)
def test_each_model_holds_its_own_bounds(
    client: httpx.Client, name: str, values: list[float], dtype: str, told: str
) -> None:
    answer = client.post(f"/predict/{name}", content=np.array(values, dtype).tobytes(), headers=BYTES)
    assert answer.status_code == 422, answer.text
    assert told in answer.json()["detail"]


def test_an_output_that_is_not_there_is_refused(client: httpx.Client) -> None:
    answer = client.post("/predict/cnn?tensor=labels", content=bytes(3136), headers=BYTES_BACK)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "query:tensor"


def test_the_card_tells_the_layout(client: httpx.Client) -> None:
    assert (
        client.get("/models/cnn").json()["bytes_layout"] == "rows of 3136 bytes each: float32, little-endian, 28 x 28"
    )
    assert "application/octet-stream" in client.get("/models/cnn").json()["media_types"]
