"""The tabular models over HTTP: typed, answered as measured, and every bad input refused with its place."""

import json
from typing import Any

import httpx
import jsonschema
import numpy as np
import pytest

from app.bundle.loader import open_bundle
from tests.support.committed import LATEST
from training import data

CANCER, DIABETES = "/predict/numpy_mlp", "/predict/numpy_regression"
JSON = {"content-type": "application/json"}
NAMES = ["numpy_mlp", "numpy_regression"]


def example(client: httpx.Client, name: str) -> dict[str, Any]:
    body: dict[str, Any] = client.get(f"/models/{name}").json()["example"]
    return body


def instances(features: Any, rows: np.ndarray) -> dict[str, Any]:
    names = [feature.name for feature in features]
    return {"instances": [{"features": dict(zip(names, row, strict=True))} for row in rows.tolist()]}


def test_the_breast_cancer_test_set_is_answered_with_the_accuracy_of_the_manifest(client: httpx.Client) -> None:
    table = data.load("breast_cancer")
    answer = client.post(CANCER, json=instances(table.features, table.test.features)).json()
    right = [p["index"] == target for p, target in zip(answer["predictions"], table.test.targets, strict=True)]
    assert np.mean(right) == open_bundle(LATEST["numpy_mlp"]).manifest.metrics["accuracy"]
    assert {p["label"] for p in answer["predictions"]} == {"malignant", "benign"}


def test_the_diabetes_test_set_is_answered_with_the_r2_of_the_manifest(client: httpx.Client) -> None:
    table = data.load("diabetes")
    answer = client.post(DIABETES, json=instances(table.features, table.test.features)).json()
    values, targets = np.array([p["value"] for p in answer["predictions"]]), table.test.targets
    r2 = 1 - ((values - targets) ** 2).sum() / ((targets - targets.mean()) ** 2).sum()
    assert r2 == pytest.approx(open_bundle(LATEST["numpy_regression"]).manifest.metrics["r2"], abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_alone_and_in_a_batch_a_row_gets_the_same_answer(client: httpx.Client, name: str) -> None:
    golden = open_bundle(LATEST[name]).golden()
    together = client.post(f"/predict/{name}", json={"instances": golden.requests}).json()["predictions"]
    for request, prediction in zip(golden.requests, together, strict=True):
        (alone,) = client.post(f"/predict/{name}", json={"instances": [request]}).json()["predictions"]
        key = "value" if "value" in alone else "probabilities"
        assert alone[key] == pytest.approx(prediction[key], rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_every_way_to_ask_gives_the_same_answer(client: httpx.Client, name: str) -> None:
    body = example(client, name)
    expected = client.post(f"/predict/{name}", json=body).json()
    assert expected["model"] == name
    assert client.post("/predict", json=body | {"model": name}).json() == expected
    assert client.post(f"/predict?model={name}", json=body).json() == expected
    (instance,) = body["instances"]
    backwards = {"instances": [{"features": dict(reversed(instance["features"].items()))}]}
    assert client.post(f"/predict/{name}", json=backwards).json() == expected
    # a body that only the strict reading takes
    text = json.dumps(body).encode()[:-1] + b', "model": null}'
    assert client.post(f"/predict/{name}", content=text, headers=JSON).status_code == 422


def test_the_answer_keeps_to_its_schema_and_top_k_shortens_it(client: httpx.Client) -> None:
    for name in NAMES:
        card = client.get(f"/models/{name}").json()
        jsonschema.validate(card["example"], card["request_schema"])
        jsonschema.validate(client.post(f"/predict/{name}", json=card["example"]).json(), card["response_schema"])
    (short,) = client.post(f"{CANCER}?top_k=1", json=example(client, "numpy_mlp")).json()["predictions"]
    assert list(short["probabilities"]) == [short["label"]]
    refused = client.post(f"{DIABETES}?top_k=1", json=example(client, "numpy_regression"))
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "query:top_k")


def test_the_card_says_what_the_numbers_are(client: httpx.Client) -> None:
    cancer, diabetes = (client.get(f"/models/{name}").json() for name in NAMES)
    assert (cancer["task"], diabetes["task"]) == ("tabular_classification", "tabular_regression")
    assert cancer["conversion"] is None
    assert cancer["media_types"] == diabetes["media_types"] == ["application/json", "application/octet-stream"]
    assert len(cancer["task_settings"]["features"]) == 30
    assert diabetes["task_settings"]["target"]["name"] == "disease progression"
    assert diabetes["task_settings"]["features"][0] == {
        "name": "age", "minimum": 0.0, "maximum": None, "unit": "years", "description": "", "example": 51.0,
    }  # fmt: skip
    assert cancer["versions"][-1]["metrics"]["cross_validation/accuracy_mean"] >= 0.97


def test_openapi_types_every_feature(client: httpx.Client) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    features = schemas["Numpy_mlpFeatures"]
    assert len(features["properties"]) == len(features["required"]) == 30
    assert features["properties"]["mean radius"]["type"] == "number"
    assert schemas["Numpy_regressionPrediction"]["properties"]["value"]["title"] == "disease progression"


def test_the_page_offers_json_where_no_picture_is_taken(client: httpx.Client) -> None:
    page = client.get("/").text
    assert 'id="body"' in page
    assert "media_types" in page


PLACE = "#/instances/0/features/bmi"
# what stands for the number of "bmi", the fault's code
BAD_NUMBERS = [
    ("NaN", "not_finite"),
    ("Infinity", "not_finite"),
    ("-Infinity", "not_finite"),
    ("1e400", "not_finite"),
    ("1e39", "out_of_range"),
    ("-0.001", "out_of_range"),
    ("1" * 400, "out_of_range"),
    ('"27"', "wrong_type"),
    ("true", "wrong_type"),
    ("null", "wrong_type"),
    ("[27]", "wrong_type"),
    ("{}", "wrong_type"),
]


@pytest.mark.parametrize("path", [DIABETES, "/predict?model=numpy_regression"])
@pytest.mark.parametrize(("number", "code"), BAD_NUMBERS, ids=[number[:10] for number, _ in BAD_NUMBERS])
def test_what_is_no_number_is_refused_at_its_place(client: httpx.Client, path: str, number: str, code: str) -> None:
    body = example(client, "numpy_regression")
    body["instances"][0]["features"]["bmi"] = "@"
    expect_refused(client, path, json.dumps(body).replace('"@"', number).encode(), [(PLACE, code)])


@pytest.mark.parametrize(
    ("change", "faults"),
    [
        ({"bmi": None}, [(PLACE, "missing")]),
        ({"bmi": None, "BMI": 27}, [(PLACE, "missing"), ("#/instances/0/features/BMI", "extra_forbidden")]),
        ({"weight": 70}, [("#/instances/0/features/weight", "extra_forbidden")]),
        ({"sex": 3}, [("#/instances/0/features/sex", "out_of_range")]),
    ],
)
def test_a_missing_or_unknown_feature_is_named(
    client: httpx.Client, change: dict[str, Any], faults: list[tuple[str, str]]
) -> None:
    body = example(client, "numpy_regression")
    features = body["instances"][0]["features"] | change
    body["instances"][0]["features"] = {name: value for name, value in features.items() if value is not None}
    expect_refused(client, DIABETES, json.dumps(body).encode(), faults)


@pytest.mark.parametrize(
    ("features", "fault"),
    [
        ("null", ("#/instances/0/features", "model_type")),
        ("[1, 2]", ("#/instances/0/features", "model_type")),
        (json.dumps({str(n): 0 for n in range(1000)}), ("#/instances/0/features", "too_many_members")),
    ],
)
def test_features_that_are_no_object_of_their_names_are_refused(
    client: httpx.Client, features: str, fault: tuple[str, str]
) -> None:
    expect_refused(client, DIABETES, b'{"instances": [{"features": %s}]}' % features.encode(), [fault])


def test_a_feature_that_stands_twice_is_malformed(client: httpx.Client) -> None:
    text = json.dumps(example(client, "numpy_regression")).encode().replace(b'"bmi"', b'"bmi": 1, "bmi"')
    response = client.post(DIABETES, content=text, headers=JSON)
    assert (response.status_code, response.json()["code"]) == (400, "malformed_body")


def test_a_picture_is_no_row_of_a_table(client: httpx.Client) -> None:
    response = client.post(CANCER, content=b"\x89PNG", headers={"content-type": "image/png"})
    assert response.status_code == 415
    assert response.json()["code"] == "unsupported_media_type"


def test_numbers_that_lead_the_network_out_of_float32_are_the_caller_s_and_no_500(client: httpx.Client) -> None:
    good = example(client, "numpy_mlp")
    names = good["instances"][0]["features"]
    huge = {"instances": [{"features": dict.fromkeys(names, 3e38)}, *good["instances"]]}
    response = client.post(CANCER, json=huge)
    assert (response.status_code, response.json()["code"]) == (422, "model_rejected_input")
    assert [fault["pointer"] for fault in response.json()["errors"]] == ["#/instances/0"]
    assert client.post(CANCER, json=good).status_code == 200


def expect_refused(client: httpx.Client, path: str, body: bytes, faults: list[tuple[str, str]]) -> None:
    response = client.post(path, content=body, headers=JSON)
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert [(fault["pointer"], fault["code"]) for fault in response.json()["errors"]] == faults
    assert client.post(DIABETES, json=example(client, "numpy_regression")).status_code == 200
