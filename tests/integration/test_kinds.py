"""A model of every kind over HTTP, on the dummy backend: typed, answered, and every bad input refused at its place."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import numpy as np
import pytest

from tests.support.bundles import write_file_with_digest
from tests.support.kinds import KINDS, MAX_CHARS, TOKENIZER_FILE, kind_bundle, kind_golden, tokenizer_json
from tests.support.server import serve

JSON = {"content-type": "application/json"}
PLAIN = {"content-type": "text/plain; charset=utf-8"}
SERIES, TEXT, PICTURE = (
    f"/predict/{kind}" for kind in ("sequence_classification", "text_classification", "image_reconstruction")
)
MIB = 2**20


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    models = tmp_path_factory.mktemp("models")
    for kind in KINDS:
        kind_bundle(models, kind)
    with serve(models) as running, httpx.Client(base_url=running.url, timeout=30) as client:
        yield client


@pytest.mark.parametrize("kind", KINDS)
def test_golden_requests_are_answered_with_golden_responses_together_and_alone(kinds: httpx.Client, kind: str) -> None:
    golden = kind_golden(kind)
    together = kinds.post(f"/predict/{kind}", json={"instances": golden.requests}).json()
    jsonschema.validate(together, kinds.get(f"/models/{kind}").json()["response_schema"])
    alone = [kinds.post(f"/predict/{kind}", json={"instances": [request]}).json() for request in golden.requests]
    for expected, first, second in zip(
        golden.responses, together["predictions"], (answer["predictions"][0] for answer in alone), strict=True
    ):
        for prediction in (first, second):
            assert numbers(prediction) == pytest.approx(numbers(expected), rel=1e-5, abs=1e-6)


def numbers(prediction: dict[str, Any]) -> list[float]:
    """Return every number of a prediction, in order; whatever is none has to be there all the same."""
    found: list[float] = []
    for value in prediction.values():
        if isinstance(value, dict):
            found += numbers(value)
        elif not isinstance(value, str):
            found += np.ravel(value).astype(float).tolist()
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_way_to_ask_gives_the_same_answer(kinds: httpx.Client, kind: str) -> None:
    card = kinds.get(f"/models/{kind}").json()
    body = card["example"]
    jsonschema.validate(body, card["request_schema"])
    expected = kinds.post(f"/predict/{kind}", json=body).json()
    assert expected["model"] == kind
    assert kinds.post("/predict", json=body | {"model": kind}).json() == expected
    assert kinds.post(f"/predict?model={kind}", json=body).json() == expected
    many = kinds.post(f"/predict/{kind}", json={"instances": body["instances"] * 1024}).json()
    assert len(many["predictions"]) == 1024


@pytest.mark.parametrize("kind", KINDS)
def test_openapi_types_requests_and_answers(kinds: httpx.Client, kind: str) -> None:
    document = kinds.get("/openapi.json").json()
    operation = document["paths"][f"/predict/{kind}"]["post"]
    card = kinds.get(f"/models/{kind}").json()
    assert operation["requestBody"]["content"].keys() == set(card["media_types"])
    request = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    instance = document["components"]["schemas"][request]["properties"]["instances"]["items"]["$ref"].rpartition("/")[2]
    (member,) = document["components"]["schemas"][instance]["properties"].values()
    assert member.keys() & {"type", "anyOf", "$ref"}


def test_openapi_says_what_a_series_a_text_and_a_reconstruction_are(kinds: httpx.Client) -> None:
    schemas = kinds.get("/openapi.json").json()["components"]["schemas"]
    sequence = schemas["Sequence_classificationInstance"]["properties"]["sequence"]
    assert (sequence["minItems"], sequence["maxItems"]) == (1, 5)
    assert (sequence["items"]["minItems"], sequence["items"]["maxItems"]) == (2, 2)
    assert (sequence["items"]["items"]["minimum"], sequence["items"]["items"]["maximum"]) == (-3, 3)
    text = schemas["Text_classificationInstance"]["properties"]["text"]
    assert (text["type"], text["minLength"]) == ("string", 1)
    prediction = schemas["Image_reconstructionPrediction"]
    assert list(prediction["properties"]) == ["error", "anomaly", "code", "reconstruction"]
    assert "required" not in prediction


def test_the_cards_tell_the_limits(kinds: httpx.Client) -> None:
    series, text, picture = (kinds.get(path.replace("predict", "models")).json() for path in (SERIES, TEXT, PICTURE))
    assert series["task_settings"]["sequence"] == {
        "num_channels": 2, "min_length": 1, "max_length": 5, "low": -3.0, "high": 3.0
    }  # fmt: skip
    assert series["media_types"] == ["application/json", "application/octet-stream"]
    assert (text["task_settings"]["text"]["max_chars"], text["task_settings"]["text"]["max_tokens"]) == (40, 8)
    assert text["conversion"] == "what follows 40 characters or 8 tokens is cut off"
    assert text["media_types"] == [
        "application/json", "text/plain", "multipart/form-data", "application/octet-stream"
    ]  # fmt: skip
    assert (picture["task_settings"]["threshold"], picture["task_settings"]["code_size"]) == (0.05, 4)


@pytest.mark.parametrize(
    ("steps", "pointer", "code"),
    [
        ("[]", "", "too_short"),
        ("[[1,2],[1,2],[1,2],[1,2],[1,2],[1,2]]", "", "too_long"),
        (f"[{'[1,2],' * 5000}[1,2]]", "", "too_long"),
        ("[[1,2],[3]]", "/1", "wrong_shape"),
        ("[[1,2],[3,1,2]]", "/1", "wrong_shape"),
        ("[[1,2],[3,[1]]]", "/1/1", "wrong_type"),
        ("[[1,NaN]]", "/0/1", "not_finite"),
        ("[[1,Infinity]]", "/0/1", "not_finite"),
        ("[[1,1e400]]", "/0/1", "not_finite"),
        ("[[1,1e39]]", "/0/1", "out_of_range"),
        ("[[1,3.5]]", "/0/1", "out_of_range"),
        ("[[1,true]]", "/0/1", "wrong_type"),
        ('[[1,"2"]]', "/0/1", "wrong_type"),
        ("[1,2]", "/0", "wrong_type"),
        ("null", "", "wrong_type"),
        ('"1,2"', "", "wrong_type"),
    ],
)
def test_a_series_out_of_bounds_is_refused_at_its_place(
    kinds: httpx.Client, steps: str, pointer: str, code: str
) -> None:
    body = f'{{"instances":[{{"sequence":[[1,2]]}},{{"sequence":{steps}}}]}}'.encode()
    response = kinds.post(SERIES, content=body, headers=JSON)
    assert response.status_code == 422, response.text
    first = response.json()["errors"][0]
    assert (first["pointer"], first["code"]) == (f"#/instances/1/sequence{pointer}", code)


def test_a_series_of_length_1_and_of_the_most_steps_is_answered(kinds: httpx.Client) -> None:
    answer = kinds.post(SERIES, json={"instances": [{"sequence": [[1, 2]] * length} for length in (1, 5)]})
    assert answer.status_code == 200
    assert len(answer.json()["predictions"]) == 2


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", '"utf8"', "us-ascii"])
def test_a_text_says_its_charset(kinds: httpx.Client, charset: str) -> None:
    headers = {"content-type": f"text/plain; charset={charset}"}
    assert kinds.post(TEXT, content=b"the cat", headers=headers).status_code == 200


@pytest.mark.parametrize("charset", ["utf-16le", "iso-8859-1", "", "utf-8-sig", "x" * 200, "\xe9"])
def test_a_text_of_another_charset_is_refused_rather_than_misread(kinds: httpx.Client, charset: str) -> None:
    headers = {b"content-type": f'text/plain; charset="{charset}"'.encode("latin-1")}
    response = kinds.post(TEXT, content="the cat".encode("utf-16-le"), headers=headers)
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")
    assert "UTF-8" in response.json()["detail"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('""', "string_too_short"),
        ('"\\ud800"', "string_unicode"),
        ('"the cat\\udfff"', "string_unicode"),
        ("null", "string_type"),
        ("1", "string_type"),
        ('["the cat"]', "string_type"),
    ],
)
@pytest.mark.parametrize("path", [TEXT, "/predict?model=text_classification"])
def test_what_is_no_text_is_refused_at_its_place(kinds: httpx.Client, path: str, text: str, code: str) -> None:
    body = f'{{"instances":[{{"text":"the cat"}},{{"text":{text}}}]}}'.encode()
    response = kinds.post(path, content=body, headers=JSON)
    assert response.status_code == 422, response.text
    assert [(fault["pointer"], fault["code"]) for fault in response.json()["errors"]] == [("#/instances/1/text", code)]


@pytest.mark.parametrize("text", ["日本語", "\0", " \n\t", "a" * MIB, "[" * MIB, "the cat " * (MIB // 8), '"\\' * MIB])
def test_every_text_is_answered_as_json_raw_and_uploaded(kinds: httpx.Client, text: str) -> None:
    expected = kinds.post(TEXT, json={"instances": [{"text": text[:MAX_CHARS]}]}).json()["predictions"]
    data = text.encode()
    for answer in (
        kinds.post(TEXT, json={"instances": [{"text": text}]}),
        kinds.post("/predict", json={"instances": [{"text": text}], "model": "text_classification"}),
        kinds.post(TEXT, content=data, headers=PLAIN),
        kinds.post("/predict?model=text_classification", content=data, headers=PLAIN),
        kinds.post(TEXT, files={"file": ("text.txt", data, "text/plain")}),
    ):
        assert answer.status_code == 200, answer.text
        assert answer.json()["predictions"] == expected


def test_raw_bytes_that_are_no_text_are_refused(kinds: httpx.Client) -> None:
    for data, code in ((b"", "string_too_short"), (b"caf\xe9", "not_utf8")):
        response = kinds.post(TEXT, content=data, headers=PLAIN)
        assert (response.status_code, response.json()["errors"][0]["code"]) == (422, code)
    assert kinds.post(TEXT, content=b"\x89PNG", headers={"content-type": "image/png"}).status_code == 415
    assert kinds.post(SERIES, content=b"1,2", headers=PLAIN).status_code == 415


def test_a_body_of_more_structure_than_texts_have_is_refused_unparsed(kinds: httpx.Client) -> None:
    for body in (b"[" * MIB, b'{"instances":[' + b"{}," * MIB + b"{}]}", b'["",' + b"[]," * MIB + b"[]]"):
        for path in (TEXT, "/predict"):
            assert kinds.post(path, content=body, headers=JSON).status_code in (400, 413, 422)


@pytest.mark.parametrize(
    ("query", "members"),
    [("", ["error", "anomaly", "code", "reconstruction"]), ("?outputs=error,anomaly", ["error", "anomaly"])],
)
def test_a_reconstruction_answers_what_is_asked_for(kinds: httpx.Client, query: str, members: list[str]) -> None:
    example = kinds.get("/models/image_reconstruction").json()["example"]
    (prediction,) = kinds.post(PICTURE + query, json=example).json()["predictions"]
    assert list(prediction) == members


def test_unknown_outputs_are_refused(kinds: httpx.Client) -> None:
    example = kinds.get("/models/image_reconstruction").json()["example"]
    response = kinds.post(f"{PICTURE}?outputs=error,label", json=example)
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "query:outputs")
    assert kinds.post(f"{PICTURE}?top_k=1", json=example).status_code == 422
    assert kinds.post(f"{TEXT}?outputs=error", json={"instances": [{"text": "a"}]}).status_code == 422


def test_a_tokenizer_that_is_damaged_takes_its_model_down_and_no_other(tmp_path: Path) -> None:
    swapped, damaged, panics, _ = (
        kind_bundle(tmp_path, "text_classification", name) for name in ("swapped", "damaged", "panics", "good")
    )
    (swapped / TOKENIZER_FILE).write_bytes(tokenizer_json() + b" ")
    write_file_with_digest(damaged, TOKENIZER_FILE, tokenizer_json()[:-50])
    document = json.loads(tokenizer_json())
    piece = {"SpecialToken": {"id": "[X]", "type_id": 0}}
    document["post_processor"] = {"type": "TemplateProcessing", "single": [piece], "pair": [], "special_tokens": {}}
    write_file_with_digest(panics, TOKENIZER_FILE, json.dumps(document).encode())
    with serve(tmp_path, ready=503) as running, httpx.Client(base_url=running.url) as client:
        states = {model["name"]: model for model in client.get("/models").json()["models"]}
        assert {name: model["state"] for name, model in states.items()} == {
            "swapped": "failed", "damaged": "failed", "panics": "failed", "good": "ready",
        }  # fmt: skip
        assert "tokenizer.json is not the file that the manifest describes" in states["swapped"]["reason"]
        assert "tokenizer.json: this is no tokenizer.json" in states["damaged"]["reason"]
        assert "tokenizer.json: the tokenizer fails" in states["panics"]["reason"]
        for name, status in (("swapped", 503), ("damaged", 503), ("panics", 503), ("good", 200)):
            assert client.post(f"/predict/{name}", json={"instances": [{"text": "a"}]}).status_code == status


def test_one_version_whose_tokenizer_is_missing_leaves_the_others_of_its_name(tmp_path: Path) -> None:
    for version in (1, 2, 3):
        kind_bundle(tmp_path, "text_classification", "texts", version)
    (tmp_path / "texts" / "3" / TOKENIZER_FILE).unlink()
    with serve(tmp_path) as running, httpx.Client(base_url=running.url) as client:
        versions = client.get("/models/texts").json()["versions"]
        assert [version["state"] for version in versions] == ["ready", "ready", "failed"]
        assert "tokenizer.json cannot be read" in versions[-1]["reason"]
        assert client.post("/predict/texts", json={"instances": [{"text": "a"}]}).json()["version"] == "2"


def test_a_tokenizer_that_skews_the_tokens_is_told_by_the_golden_rows(tmp_path: Path) -> None:
    folder = kind_bundle(tmp_path, "text_classification")
    document = json.loads(tokenizer_json())
    document["normalizer"] = None  # capitals are no longer known
    write_file_with_digest(folder, TOKENIZER_FILE, json.dumps(document).encode())
    with serve(tmp_path, ready=503) as running, httpx.Client(base_url=running.url) as client:
        (model,) = client.get("/models").json()["models"]
        assert model["reason"] == "golden request 0 does not become its golden input 'tokens'"


def test_the_page_has_a_place_for_pictures_for_texts_and_for_json(kinds: httpx.Client) -> None:
    page = kinds.get("/").text
    for place in ("file", "text", "body"):
        assert f'id="{place}"' in page
    assert 'includes("text/plain")' in page
    assert "first.reconstruction" in page
