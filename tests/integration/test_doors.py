"""Every door answers as its documentation says, with the receipts that every answer carries."""

import base64
import io
import json
import re
from typing import Any

import httpx
import jsonschema
import numpy as np
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from app.bundle.loader import open_bundle
from tests.support.committed import LATEST, MODELS, NAMES, names_of
from tests.support.server import RunningService, serve

PICTURE_MODELS = names_of("image_classification")
TAKE_PICTURES = [*PICTURE_MODELS, *names_of("image_reconstruction")]


def encoded(picture: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **({"quality": 100} if kind == "JPEG" else {}))
    return buffer.getvalue()


def post(client: httpx.Client, path: str, body: dict[str, Any], status: int = 200) -> dict[str, Any]:
    response = client.post(path, json=body)
    assert response.status_code == status, response.text
    answer: dict[str, Any] = response.json()
    return answer


@pytest.mark.parametrize("name", PICTURE_MODELS)
def test_one_picture_gives_the_same_prediction_whichever_way_it_comes(
    client: httpx.Client, name: str, pictures: tuple[np.ndarray, np.ndarray]
) -> None:
    picture, path = pictures[0][0], f"/predict/{name}"
    png = encoded(picture)
    text = base64.b64encode(png).decode()
    expected = post(client, path, {"instances": [{"image": picture.tolist()}]})
    assert expected["model"] == name
    assert expected["version"] == str(LATEST[name].version)
    assert expected["predictions"][0]["label"] == "Ankle boot"
    floats = [[float(value) for value in row] for row in picture]
    others = [
        post(client, path, {"instances": [{"image": floats}]}),
        post(client, path, {"model": name, "instances": [{"image": picture.tolist()}]}),
        post(client, path, {"instances": [{"image": text}]}),
        post(client, path, {"instances": [{"image": f"data:image/png;base64,{text}"}]}),
        post(client, "/predict", {"model": name, "instances": [{"image": picture.tolist()}]}),
        post(client, "/predict", {"instances": [{"image": text}], "model": name}),
        client.post(path, content=png, headers={"content-type": "image/png"}).json(),
        client.post(path, files={"file": ("boot.png", png, "image/png")}).json(),
        client.post(f"/predict?model={name}", content=png, headers={"content-type": "image/png"}).json(),
        client.post(
            f"{path}?version={LATEST[name].version}", content=png, headers={"content-type": "IMAGE/PNG; q=1"}
        ).json(),
    ]
    assert all(other == expected for other in others)


@pytest.mark.parametrize("name", PICTURE_MODELS)
def test_jpeg_is_taken_and_names_the_same_label(
    client: httpx.Client, name: str, pictures: tuple[np.ndarray, np.ndarray]
) -> None:
    answer = client.post(
        f"/predict/{name}", content=encoded(pictures[0][1], "JPEG"), headers={"content-type": "image/jpeg"}
    ).json()
    assert answer["predictions"][0]["label"] == "Pullover"


def test_photograph_of_another_size_and_mode_is_converted(
    client: httpx.Client, pictures: tuple[np.ndarray, np.ndarray]
) -> None:
    large = Image.fromarray(pictures[0][0]).resize((560, 560), Image.Resampling.NEAREST).convert("RGB")
    buffer = io.BytesIO()
    large.save(buffer, "PNG")
    answer = client.post("/predict/mlp", content=buffer.getvalue(), headers={"content-type": "image/png"}).json()
    exact = post(client, "/predict/mlp", {"instances": [{"image": pictures[0][0].tolist()}]})
    assert answer == exact  # every pixel became 20 x 20, and the box filter gives it back


def test_prediction_is_typed_and_its_probabilities_are_those_of_the_labels(
    client: httpx.Client, pictures: tuple[np.ndarray, np.ndarray]
) -> None:
    card = client.get("/models/mlp").json()
    answer = post(client, "/predict/mlp", {"instances": [{"image": image.tolist()} for image in pictures[0][:40]]})
    jsonschema.validate(answer, card["response_schema"])
    for prediction in answer["predictions"]:
        named = prediction["probabilities"]
        assert list(named) == card["task_settings"]["labels"]
        assert sum(named.values()) == pytest.approx(1, abs=1e-5)
        assert prediction["probability"] == max(named.values()) == named[prediction["label"]]
        assert card["task_settings"]["labels"][prediction["index"]] == prediction["label"]


def test_top_k_shortens_best_first(client: httpx.Client, pictures: tuple[np.ndarray, np.ndarray]) -> None:
    body = {"instances": [{"image": pictures[0][0].tolist()}]}
    whole = post(client, "/predict/mlp", body)["predictions"][0]["probabilities"]
    short = post(client, "/predict/mlp?top_k=3", body)["predictions"][0]["probabilities"]
    assert list(short.items()) == sorted(whole.items(), key=lambda item: -item[1])[:3]
    assert post(client, "/predict/mlp?top_k=99", body)["predictions"][0]["probabilities"] == whole


def test_receipts_say_who_answered_when_and_in_which_batch(client: httpx.Client) -> None:
    body = client.get("/models/mlp").json()["example"]
    body["instances"] *= 5
    response = client.post("/predict/mlp", json=body, headers={"x-request-id": "order-66/a"})
    assert response.headers["x-request-id"] == "order-66/a"
    assert response.headers["x-model-version"] == str(LATEST["mlp"].version)
    timing = response.headers["server-timing"]
    assert re.fullmatch(
        r'parse;dur=\d+\.\d{3}, queue;dur=\d+\.\d{3}, compute;dur=\d+\.\d{3}, batch;desc="rows=5"', timing
    )


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/models", "/models/mlp", "/metrics", "/openapi.json", "/gone"])
def test_every_answer_carries_a_request_id_of_its_own(client: httpx.Client, path: str) -> None:
    first, second = (client.get(path).headers["x-request-id"] for _ in range(2))
    assert first != second
    assert client.get(path, headers={"x-request-id": "mine"}).headers["x-request-id"] == "mine"


@pytest.mark.parametrize("name", NAMES)
def test_card_tells_what_a_caller_needs_and_its_example_works(client: httpx.Client, name: str) -> None:
    card = client.get(f"/models/{name}").json()
    manifest = open_bundle(LATEST[name]).manifest
    assert card["state"] == "ready"
    assert card["task"] == manifest.task.kind
    assert card["limits"]["max_instances"] == 1024
    assert ("luma" in (card["conversion"] or "")) == (name in TAKE_PICTURES)
    assert card["versions"][-1]["metrics"] == manifest.metrics
    assert card["versions"][0]["backend"] == "onnx"
    jsonschema.validate(card["example"], card["request_schema"])
    answer = client.post(f"/predict/{name}", json=card["example"])
    assert answer.status_code == 200
    assert {"name": name, "state": "ready"}.items() <= next(
        line for line in client.get("/models").json()["models"] if line["name"] == name
    ).items()


def test_openapi_examples_work_as_they_stand(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    jsonschema.Draft202012Validator.check_schema(document["components"]["schemas"]["MlpRequest"])
    sent = 0
    for path, operations in document["paths"].items():
        if not path.startswith("/predict"):
            continue
        content = operations["post"]["requestBody"]["content"]
        takes_pictures = path.removeprefix("/predict/") in TAKE_PICTURES
        assert ("application/json" in content, "image/png" in content) == (True, takes_pictures)
        examples = content["application/json"].get("examples") or {
            "": {"value": content["application/json"]["example"]}
        }
        for example in examples.values():
            response = client.post(path, json=example["value"])
            assert response.status_code == 200
            sent += 1
    assert sent == 2 * len(NAMES)


def test_openapi_references_lead_somewhere(client: httpx.Client) -> None:
    text = client.get("/openapi.json").text
    schemas = set(json.loads(text)["components"]["schemas"])
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', text))
    assert references
    assert references <= schemas


def test_metrics_count_requests_batches_and_refusals(client: httpx.Client) -> None:
    body = client.get("/models/mlp").json()["example"]
    before = figures(client)
    for _ in range(3):
        assert client.post("/predict/mlp", json=body).status_code == 200
    assert client.post("/predict/nobody", json=body).status_code == 404
    after = figures(client)

    def risen(sample: str) -> float:
        return after.get(sample, 0) - before.get(sample, 0)

    version = LATEST["mlp"].version
    assert risen(f"zto_requests_total door=predict model=mlp status=200 version={version}") == 3
    assert risen("zto_requests_total door=predict model= status=404 version=") == 1
    assert risen("zto_refusals_total code=unknown_model") == 1
    assert risen("zto_batch_rows_sum model=mlp") == 3
    for stage in ("parse", "queue", "compute"):
        assert risen(f"zto_stage_seconds_count model=mlp stage={stage}") == 3
    assert after[f"zto_model_ready model=mlp version={version}"] == 1
    assert after[f"zto_queue_rows model=mlp version={version}"] == 0


def figures(client: httpx.Client) -> dict[str, float]:
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    return {
        " ".join([sample.name, *(f"{k}={v}" for k, v in sorted(sample.labels.items()))]): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def test_default_model_answers_a_body_that_names_none(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    with serve(MODELS, default_model="mlp") as running, httpx.Client(base_url=running.url) as client:
        body = {"instances": [{"image": pictures[0][0].tolist()}]}
        assert post(client, "/predict", body)["model"] == "mlp"
        raw = client.post("/predict", content=encoded(pictures[0][0]), headers={"content-type": "image/png"})
        assert raw.json() == post(client, "/predict", body)
        document = client.get("/openapi.json").json()
        assert "image/png" in document["paths"]["/predict"]["post"]["requestBody"]["content"]


def test_connection_is_kept_and_requests_on_it_are_pipelined(service: RunningService) -> None:
    import socket

    host, port = service.url.removeprefix("http://").split(":")
    body = b'{"instances": [{"image": %s}]}' % json.dumps([[0] * 28] * 28).encode()
    head = b"POST /predict/mlp HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall((head % len(body) + body) * 5)
        answers = b""
        while answers.count(b"HTTP/1.1 200") < 5 or not answers.endswith(b"]}"):
            received = connection.recv(65536)
            assert received, answers
            answers += received
    assert answers.count(b'"predictions"') == 5


def test_apps_below_another_app_answer_the_same(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    """FastAPI's own way in, without the short cut: whoever mounts the app takes it."""
    import asyncio

    from fastapi import FastAPI

    from app.main import create_app
    from app.settings import Settings

    async def scenario() -> None:
        app = create_app(Settings(models_dir=MODELS))
        outer = FastAPI()
        outer.mount("/ml", app)
        async with app.router.lifespan_context(app):
            async with asyncio.timeout(60):
                while not app.catalog.is_ready:  # noqa: ASYNC110  what loads tells nobody
                    await asyncio.sleep(0.01)
            transport = httpx.ASGITransport(app=outer)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                body = {"instances": [{"image": pictures[0][0].tolist()}]}
                named = await client.post("/ml/predict/mlp", json=body)
                in_body = await client.post("/ml/predict", json=body | {"model": "mlp"})
                unknown = await client.post("/ml/predict/nobody", json=body)
                assert named.json() == in_body.json()
                assert named.json()["predictions"][0]["label"] == "Ankle boot"
                assert named.headers["x-model-version"] == str(LATEST["mlp"].version)
                assert named.headers["x-request-id"]
                assert unknown.status_code == 404
                assert (await client.get("/ml/readyz")).status_code == 200

    asyncio.run(scenario())


def test_page_for_people_needs_nothing_from_elsewhere(client: httpx.Client) -> None:
    response = client.get("/")
    assert response.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert not re.search(r"(?:src|href)=[\"'](?:https?:)?//", response.text)
    for link in re.findall(r'href="([a-z]+)"', response.text):
        assert client.get(f"/{link}").status_code == 200


def test_name_in_the_body_wins_over_the_query(client: httpx.Client) -> None:
    body = client.get("/models/mlp").json()["example"]
    assert post(client, "/predict?model=cnn", body | {"model": "mlp"})["model"] == "mlp"
    assert post(client, "/predict?model=cnn", body)["model"] == "cnn"
    assert post(client, "/predict?model=nobody", body, status=404)["code"] == "unknown_model"


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_health_is_answered_to_head_too(client: httpx.Client, path: str) -> None:
    response = client.head(path)
    assert (response.status_code, response.content) == (200, b"")
