"""Models of tensors over HTTP, on ONNX Runtime: typed, answered, batched, and refused at the door."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.support.foreign import SAID, graph
from tests.support.kinds import kind_bundle
from tests.support.server import serve
from training.package.bundle import package
from training.package.config import Config

JSON = {"content-type": "application/json"}
MIB = 2**20
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("tensors")
    models = folder / "models"
    # "plain" of open axes, "ragged" of rows with lengths: the sum of each, and twice the numbers
    nodes = [
        helper.make_node("ReduceSum", ["x", "axes"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "x"], ["twice"]),
    ]
    plain = graph(
        folder / "plain.onnx",
        nodes,
        [("x", FLOAT, ["N", "T", "C"])],
        [("sum", FLOAT, ["N"]), ("twice", FLOAT, ["N", "T", "C"])],
        {"axes": np.array([1, 2])},
    )
    said = SAID | {"task": "tensors", "low": -1, "high": 1}
    package(plain, Config(**said, max_lengths={"T": 3000, "C": 3000}), models)
    steps = [
        helper.make_node("ReduceSum", ["x", "axes"], ["plain"], keepdims=0),
        helper.make_node("Cast", ["lengths"], ["counts"], to=FLOAT),
        helper.make_node("Div", ["plain", "counts"], ["mean"]),
    ]
    ragged = graph(
        folder / "ragged.onnx",
        steps,
        [("x", FLOAT, ["N", "T"]), ("lengths", INT64, ["N"])],
        [("mean", FLOAT, ["N"])],
        {"axes": np.array([1])},
    )
    package(ragged, Config(**said, max_lengths={"T": 60_000}), models)
    kind_bundle(models, "image_reconstruction")
    with serve(models) as running, httpx.Client(base_url=running.url, timeout=60) as client:
        yield client


def post(client: httpx.Client, model: str, *rows: Any, query: str = "") -> httpx.Response:
    return client.post(f"/predict/{model}{query}", json={"instances": [{"inputs": row} for row in rows]})


def test_rows_of_any_length_are_answered_as_openapi_says(client: httpx.Client) -> None:
    card = client.get("/models/plain").json()
    for steps, channels in ((1, 1), (2, 7), (40, 3)):
        row = np.linspace(-1, 1, steps * channels).reshape(steps, channels)
        answer = post(client, "plain", {"x": row.tolist()}, {"x": (row / 2).tolist()})
        assert answer.status_code == 200, answer.text
        jsonschema.validate(answer.json(), card["response_schema"])
        first, second = (prediction["outputs"] for prediction in answer.json()["predictions"])
        assert np.array(first["twice"]) == pytest.approx(2 * row, abs=1e-6)
        assert second["sum"] == pytest.approx(row.sum() / 2, abs=1e-5)
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    assert schemas["PlainInputs"]["properties"]["x"]["maxItems"] == 3000
    assert schemas["RaggedInputs"]["required"] == ["x"]


def test_outputs_are_selected_and_documented_beside_those_of_other_kinds(client: httpx.Client) -> None:
    (prediction,) = post(client, "plain", {"x": [[1]]}, query="?outputs=sum").json()["predictions"]
    assert prediction == {"outputs": {"sum": 1.0}}
    refused = post(client, "plain", {"x": [[1]]}, query="?outputs=sum,mean")
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (422, "unknown_output")
    paths = client.get("/openapi.json").json()["paths"]
    for path in ("/predict", "/predict/plain", "/predict/ragged"):
        parameters = [(each["name"], each["in"]) for each in paths[path]["post"]["parameters"]]
        assert len(set(parameters)) == len(parameters)
        assert ("outputs", "query") in parameters


def test_ragged_rows_share_a_batch_and_padding_counts_for_nothing(client: httpx.Client) -> None:
    rows = [{"x": [1, 0, -1, 0.5]}, {"x": [0.25]}, {"x": [1, 1, 1], "lengths": 2}]
    answer = post(client, "ragged", *rows)
    assert 'desc="rows=3"' in answer.headers["server-timing"]
    means = [prediction["outputs"]["mean"] for prediction in answer.json()["predictions"]]
    assert means == pytest.approx([0.125, 0.25, 1.0])


@pytest.mark.anyio
async def test_callers_with_rows_of_many_shapes_are_all_answered(client: httpx.Client) -> None:
    async with httpx.AsyncClient(base_url=client.base_url, timeout=60) as caller:

        async def ask(steps: int) -> None:
            row = [[1] * (1 + steps % 3)] * (1 + steps % 5)
            answer = await caller.post("/predict/plain", json={"instances": [{"inputs": {"x": row}}]})
            assert answer.json()["predictions"][0]["outputs"]["sum"] == np.sum(row)
            mean = await caller.post("/predict/ragged", json={"instances": [{"inputs": {"x": [0.5] * (1 + steps)}}]})
            assert mean.json()["predictions"][0]["outputs"]["mean"] == pytest.approx(0.5)

        await asyncio.gather(*(ask(steps) for steps in range(60)))


@pytest.mark.parametrize(
    ("model", "rows", "pointer", "code"),
    [
        ("plain", [{"x": [[1], [2]]}], "#/instances/0/inputs/x/1/0", "out_of_range"),
        ("plain", [{"x": [[1], [1, 1]]}], "#/instances/0/inputs/x/1", "wrong_shape"),
        ("plain", [{"x": [[1]]}, {"x": [[1, 1]]}], "#/instances/1/inputs/x", "different_shape"),
        ("plain", [{"x": [[1]], "y": 1}], "#/instances/0/inputs/y", "extra_forbidden"),
        ("plain", [{"x": [[1]] * 3001}], "#/instances/0/inputs/x", "too_long"),
        ("plain", [{"x": "1"}], "#/instances/0/inputs/x", "wrong_type"),
        ("plain", [[1]], "#/instances/0/inputs", "model_type"),
        ("ragged", [{"x": [1], "lengths": 2}], "#/instances/0/inputs/lengths", "out_of_range"),
        ("ragged", [{"x": [1], "lengths": 0}], "#/instances/0/inputs/lengths", "out_of_range"),
        ("ragged", [{"x": [1], "lengths": None}], "#/instances/0/inputs/lengths", "wrong_type"),
        ("ragged", [{"x": [1], "lengths": 0.5}], "#/instances/0/inputs/lengths", "not_whole"),
        ("ragged", [{"x": []}], "#/instances/0/inputs/x", "too_short"),
        ("ragged", [{"x": [1] * 60_000}, *[{"x": [1]}] * 99], "#/instances", "too_many_numbers"),
    ],
)
def test_what_is_wrong_is_refused_at_its_place(
    client: httpx.Client, model: str, rows: list[Any], pointer: str, code: str
) -> None:
    answer = post(client, model, *rows)
    assert answer.status_code == 422, answer.text
    first = answer.json()["errors"][0]
    assert (first["pointer"], first["code"]) == (pointer, code)


def test_non_finite_numbers_are_refused_at_their_place(client: httpx.Client) -> None:
    for number in ("NaN", "1e400", "-Infinity"):
        body = f'{{"instances":[{{"inputs":{{"x":[0,{number}]}}}}]}}'
        answer = client.post("/predict/ragged", content=body, headers=JSON)
        assert [(fault["pointer"], fault["code"]) for fault in answer.json()["errors"]] == [
            ("#/instances/0/inputs/x/1", "not_finite")
        ]


@pytest.mark.parametrize(
    "body",
    [
        b"[" * MIB,
        b"{" * MIB,
        b'{"instances":[' + b"{}," * MIB + b"{}]}",
        b'{"instances":[{"inputs":{' + b",".join(b'"%d":1' % n for n in range(200_000)) + b"}}]}",
        b'{"instances":[{"inputs":{"x":' + b"[" * 10_000 + b"]" * 10_000 + b"}}]}",
        b'{"instances":[{"inputs":{"x":[' + b"[]," * (2 * MIB) + b"[]]}}]}",
        b'{"instances":[{"inputs":{"x":[[' + b"9" * MIB + b"]]}}]}",
        b'{"instances":[{"inputs":{"x":1},"inputs":{"x":2}}]}',
    ],
    ids=["brackets", "braces", "instances", "members", "deep", "empty arrays", "digits", "twice"],
)
def test_hostile_bodies_are_refused_and_others_go_on_being_answered(client: httpx.Client, body: bytes) -> None:
    for path in ("/predict/plain", "/predict/ragged", "/predict"):
        answer = client.post(path, content=body, headers=JSON)
        assert answer.status_code in (400, 413, 422), answer.text
        assert len(answer.content) < 65_536
    assert post(client, "ragged", {"x": [1]}).status_code == 200


def test_a_raw_body_is_refused_by_its_media_type(client: httpx.Client) -> None:
    assert client.post("/predict/plain", content=b"1", headers={"content-type": "text/plain"}).status_code == 415
    example = client.get("/models/ragged").json()["example"]
    assert client.post("/predict/ragged", content=json.dumps(example), headers=JSON).status_code == 200
