"""Each platform speaks to the service as it does in the cloud: its variables, its probes, its headers, its bodies."""

import io
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from app import platforms
from tests.support.committed import LATEST, MODELS, NAMES
from tests.support.platforms import SERVE_ARGUMENT, free_port, started_as
from tests.support.server import serve, start

ATTRIBUTES, TARGET = "X-Amzn-SageMaker-Custom-Attributes", "X-Amzn-SageMaker-Target-Model"
VERTEX_HEALTH = "/v1/endpoints/2468/deployedModels/1357"
VERTEX_PREDICT = f"{VERTEX_HEALTH}:predict"


@pytest.fixture(scope="module")
def sagemaker() -> Iterator[httpx.Client]:
    """SageMaker, where several containers share an endpoint: it says which port each has."""
    port = free_port()
    environ = {"SAGEMAKER_BIND_TO_PORT": str(port), "SAGEMAKER_SAFE_PORT_RANGE": "1-2", "MODELS_DIR": str(MODELS)}
    host = {"Host": "model.aws.local"}
    with (
        started_as(environ, port, "/ping", command=SERVE_ARGUMENT) as running,
        httpx.Client(base_url=running.url, timeout=60, headers=host) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def vertex() -> Iterator[httpx.Client]:
    """Vertex AI with its own paths: those that it takes where an upload names none."""
    port = free_port()
    environ = {
        "AIP_ACCELERATOR_TYPE": "",
        "AIP_DEPLOYED_MODEL_ID": "1357",
        "AIP_ENDPOINT_ID": "2468",
        "AIP_FRAMEWORK": "CUSTOM_CONTAINER",
        "AIP_HEALTH_ROUTE": VERTEX_HEALTH,
        "AIP_HTTP_PORT": str(port),
        "AIP_MACHINE_TYPE": "n1-standard-4",
        "AIP_MODE": "PREDICTION",
        "AIP_MODE_VERSION": "1.0.0",
        "AIP_PREDICT_ROUTE": VERTEX_PREDICT,
        "AIP_PROJECT_NUMBER": "123456789012",
        "AIP_STORAGE_URI": "gs://caip-tenant-1/1357/artifacts",
        "AIP_VERSION_NAME": "1357",
        "MODELS_DIR": str(MODELS),
    }
    with started_as(environ, port, VERTEX_HEALTH) as running, httpx.Client(base_url=running.url, timeout=60) as client:
        yield client


def example(client: httpx.Client, name: str) -> dict[str, Any]:
    body: dict[str, Any] = client.get(f"/models/{name}").json()["example"]
    return body


def png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def requests_by_door(client: httpx.Client) -> dict[str, float]:
    families = text_string_to_metric_families(client.get("/metrics").text)
    counted: dict[str, float] = {}
    for sample in next(family for family in families if family.name == "zto_requests").samples:
        counted[sample.labels["door"]] = counted.get(sample.labels["door"], 0) + sample.value
    return counted


# The same numbers


@pytest.mark.parametrize("name", NAMES)
def test_every_door_gives_the_same_numbers_to_the_bit(vertex: httpx.Client, name: str) -> None:
    body = example(vertex, name)
    expected = vertex.post(f"/predict/{name}", json=body).json()
    attributes = {ATTRIBUTES: f"model={name}"}
    named = {"parameters": {"model": name}}
    answers = [
        vertex.post("/invocations", json=body, headers=attributes),
        vertex.post("/invocations", json=body | {"model": name}),
        vertex.post("/score", json={"model": name} | body),
        vertex.post("/score", json=body | named),
        vertex.post(VERTEX_PREDICT, json=body | named),
        vertex.post(VERTEX_PREDICT, json=body | {"model": name, "parameters": None}),
        vertex.post(f"/models/{name}/invoke", json=body),
        vertex.post(f"/v1/models/{name}:predict", json=body),
        vertex.post(f"/v1/models/{name}:predict", json=body | {"parameters": {}}),
    ]
    assert [answer.status_code for answer in answers] == [200] * len(answers)
    assert [answer.json() for answer in answers] == [expected] * len(answers)


def test_an_answer_in_bytes_is_the_same_behind_every_door(vertex: httpx.Client) -> None:
    body, accept = example(vertex, "cnn"), {"Accept": "application/octet-stream"}
    expected = vertex.post("/predict/cnn?tensor=logits", json=body, headers=accept)
    assert expected.headers["x-tensor"] == "logits; dtype=float32; shape=1,10"
    asked = body | {"parameters": {"model": "cnn", "tensor": "logits"}}
    for path in ("/invocations", "/score", VERTEX_PREDICT, "/v1/models/cnn:predict"):
        answer = vertex.post(path, json=asked, headers=accept)
        assert answer.content == expected.content
        assert answer.headers["x-tensor"] == expected.headers["x-tensor"]
    answer = vertex.post("/invocations", json=body, headers=accept | {ATTRIBUTES: "model=cnn,tensor=logits"})
    assert answer.content == expected.content


def test_every_door_is_counted_under_its_own_name(vertex: httpx.Client) -> None:
    body = example(vertex, "mlp") | {"model": "mlp"}
    before = requests_by_door(vertex)
    paths = {
        "sagemaker": "/invocations", "azureml": "/score", "vertex": VERTEX_PREDICT, "v1": "/v1/models/mlp:predict",
        "predict": "/predict/mlp",
    }  # fmt: skip
    for path in paths.values():
        assert vertex.post(path, json=body).status_code == 200
        assert vertex.post(path, json={**body, "instances": [{}]}).status_code in (400, 422)
    after = requests_by_door(vertex)
    assert {door: after[door] - before.get(door, 0) for door in paths} == dict.fromkeys(paths, 2)


# SageMaker


def test_sagemaker_pings_until_the_models_are_ready_and_invokes_them(
    sagemaker: httpx.Client, pictures: tuple[np.ndarray, np.ndarray]
) -> None:
    assert sagemaker.get("/ping").status_code == 200
    picture = pictures[0][0]
    asked = {ATTRIBUTES: "c000b4f9-df62-4c85-a0bf-7c525f9104a4,model=cnn,top_k=1", "Accept": "*/*"}
    answers = [
        sagemaker.post("/invocations", json={"instances": [{"image": picture.tolist()}]}, headers=asked),
        sagemaker.post("/invocations", content=png(picture), headers=asked | {"Content-Type": "image/png"}),
        sagemaker.post(
            "/invocations", content=picture.astype("<f4").tobytes(),
            headers=asked | {"Content-Type": "application/octet-stream"},
        ),
    ]  # fmt: skip
    for answer in answers:
        assert answer.status_code == 200, answer.text
        (prediction,) = answer.json()["predictions"]
        assert list(prediction["probabilities"]) == ["Ankle boot"]
        told = answer.headers[ATTRIBUTES]
        assert told == f"model=cnn,version={LATEST['cnn'].version},c000b4f9-df62-4c85-a0bf-7c525f9104a4"


def test_sagemaker_text_is_taken_as_it_is(sagemaker: httpx.Client) -> None:
    headers = {"Content-Type": "text/plain; charset=utf-8", ATTRIBUTES: "model=transformer"}
    answer = sagemaker.post("/invocations", content=b"A dull film.", headers=headers)
    body = {"instances": [{"text": "A dull film."}]}
    assert answer.json() == sagemaker.post("/predict/transformer", json=body).json()


def test_several_outputs_are_named_with_semicolons_in_sagemakers_attributes(sagemaker: httpx.Client) -> None:
    headers = {ATTRIBUTES: "model=autoencoder,outputs=error;anomaly"}
    answer = sagemaker.post("/invocations", json=example(sagemaker, "autoencoder"), headers=headers)
    assert set(answer.json()["predictions"][0]) == {"error", "anomaly"}


@pytest.mark.parametrize("target", ["cnn", "cnn.tar.gz", "/cnn.tar.gz"])
def test_the_target_of_a_multi_model_request_wins_over_its_attributes(sagemaker: httpx.Client, target: str) -> None:
    headers = {TARGET: target, ATTRIBUTES: "model=mlp"}
    answer = sagemaker.post("/invocations", json=example(sagemaker, "cnn"), headers=headers)
    assert answer.json()["model"] == "cnn"


def test_sagemaker_is_told_what_is_wrong_and_where(sagemaker: httpx.Client) -> None:
    body = example(sagemaker, "cnn")

    def problem(attributes: str, document: object = body) -> tuple[int, str, str | None]:
        answer = sagemaker.post("/invocations", json=document, headers={ATTRIBUTES: attributes} if attributes else {})
        found = answer.json()
        pointer = found["errors"][0]["pointer"] if "errors" in found else found["code"]
        return answer.status_code, pointer, answer.headers.get(ATTRIBUTES)

    assert problem("trace=1") == (422, "#/model", "trace=1")
    assert problem("") == (422, "#/model", None)
    assert problem("model=nobody,trace=1") == (404, "unknown_model", "trace=1")
    assert problem("model=cnn,version=99") == (404, "unknown_version", None)
    at_header, signed = f"header:{ATTRIBUTES}", f"model=cnn,version={LATEST['cnn'].version}"
    assert problem("model=cnn,top_k=0") == (422, at_header, signed)
    assert problem("model=cnn,outputs=error") == (422, at_header, signed)
    assert problem("model=cnn,tensor=nothing") == (422, at_header, signed)
    assert problem("model=cnn", body | {"model": "mlp"}) == (422, "#/model", signed)
    assert problem("model=cnn", body | {"parameters": {"model": "mlp"}}) == (422, "#/parameters/model", signed)
    assert problem("model=cnn,top_k=2", body | {"parameters": {"top_k": 0}}) == (422, "#/parameters/top_k", signed)


def test_attributes_that_would_grow_beyond_their_limit_are_passed_back_alone(sagemaker: httpx.Client) -> None:
    theirs = "t=" + "x" * (1024 - 2 - len(",model=mlp"))
    headers = {ATTRIBUTES: f"{theirs},model=mlp"}
    answer = sagemaker.post("/invocations", json=example(sagemaker, "mlp"), headers=headers)
    assert answer.headers[ATTRIBUTES] == theirs


def test_a_model_of_sagemakers_multi_model_path_that_is_not_there_is_404(sagemaker: httpx.Client) -> None:
    answer = sagemaker.post("/models/nobody/invoke", json={})
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_model")


def test_sagemaker_ends_a_container_without_losing_a_request() -> None:
    port = free_port()
    environ = {"SAGEMAKER_BIND_TO_PORT": str(port), "MODELS_DIR": str(MODELS), "ZTO_DRAIN_S": "1"}
    with started_as(environ, port, "/ping", command=SERVE_ARGUMENT) as running:
        outcomes: list[int] = []
        body = httpx.get(f"{running.url}/models/cnn").json()["example"] | {"model": "cnn"}

        def invoke() -> None:
            with httpx.Client(base_url=running.url, timeout=30) as client:
                while True:
                    answer = client.post("/invocations", json=body)
                    outcomes.append(answer.status_code)
                    if answer.headers.get("connection") == "close":
                        return

        caller = threading.Thread(target=invoke)
        caller.start()
        while not outcomes:
            time.sleep(0.01)
        running.process.send_signal(signal.SIGTERM)  # to the shell's successor: `serve` hands its process on
        ends_at = time.monotonic() + 30
        while httpx.get(f"{running.url}/ping").status_code == 200 and time.monotonic() < ends_at:
            time.sleep(0.01)
        assert httpx.get(f"{running.url}/ping").status_code == 503
        caller.join(30)
        assert running.stop() == 0
    assert set(outcomes) == {200}


@pytest.mark.parametrize(
    ("environ", "told"),
    [({}, "8080/"), ({"SAGEMAKER_BIND_TO_PORT": "8081"}, "8081/"), ({"PORT": "9000"}, "/9000")],
)
def test_the_serve_argument_listens_on_8080_unless_a_port_is_said(
    tmp_path: Path, environ: dict[str, str], told: str
) -> None:
    shim = tmp_path / "python"
    shim.write_text('#!/bin/sh\necho "$*: ${SAGEMAKER_BIND_TO_PORT:-}/${PORT:-}"\n')
    shim.chmod(0o755)
    done = subprocess.run(
        [*SERVE_ARGUMENT], env={"PATH": f"{tmp_path}:{os.environ['PATH']}", **environ}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout == f"-m app serve: {told}\n"


# Vertex AI


def test_vertex_parameters_say_what_a_query_says_elsewhere(vertex: httpx.Client) -> None:
    body = example(vertex, "cnn")
    version = LATEST["cnn"].version
    asked = vertex.post(f"/predict/cnn?top_k=2&version={version}", json=body).json()
    # numbers that have come through Protocol Buffers are written as floats by some clients
    for parameters in (
        {"model": "cnn", "top_k": 2},
        {"model": "cnn", "top_k": 2.0, "version": float(version)},
        {"model": "cnn", "top_k": 2, "version": str(version)},
    ):
        answer = vertex.post(VERTEX_PREDICT, json={"instances": body["instances"], "parameters": parameters})
        assert answer.json() == asked
    outputs = vertex.post("/predict/autoencoder?outputs=error,code", json=example(vertex, "autoencoder")).json()
    for names in ("error,code", ["error", "code"]):
        body = example(vertex, "autoencoder") | {"parameters": {"model": "autoencoder", "outputs": names}}
        assert vertex.post(VERTEX_PREDICT, json=body).json() == outputs


@pytest.mark.parametrize("version", [99, "98", "x"])
def test_a_version_in_the_parameters_is_the_one_that_is_asked(vertex: httpx.Client, version: object) -> None:
    body = example(vertex, "cnn")
    unknown = f"model 'cnn' has no version '{version}'; it has: {LATEST['cnn'].version}"
    named = vertex.post(VERTEX_PREDICT, json=body | {"parameters": {"model": "cnn", "version": version}})
    assert (named.status_code, named.json()["detail"]) == (404, unknown)
    # wins over a query's
    path = f"/v1/models/cnn:predict?version={LATEST['cnn'].version}"
    in_path = vertex.post(path, json=body | {"parameters": {"version": version}})
    assert (in_path.status_code, in_path.json()) == (404, {"error": unknown})


def test_a_name_that_is_written_with_escapes_is_the_same_name(vertex: httpx.Client) -> None:
    body = json.dumps(example(vertex, "cnn") | {"parameters": {"model": "cnn", "top_k": 1}})
    escaped = body.replace("parameters", "p\\u0061rameters")
    answer = vertex.post(VERTEX_PREDICT, content=escaped, headers={"Content-Type": "application/json"})
    assert len(answer.json()["predictions"][0]["probabilities"]) == 1


@pytest.mark.parametrize(
    ("parameters", "pointer"),
    [
        ([], "#/parameters"),
        ("top_k", "#/parameters"),
        ({"model": "cnn", "top_k": 0}, "#/parameters/top_k"),
        ({"model": "cnn", "top_k": "2"}, "#/parameters/top_k"),
        ({"model": "cnn", "top_k": True}, "#/parameters/top_k"),
        ({"model": "cnn", "top_k": 2.5}, "#/parameters/top_k"),
        ({"model": "cnn", "top_k": None}, "#/parameters/top_k"),
        ({"model": "cnn", "outputs": "error"}, "#/parameters/outputs"),
        ({"model": "cnn", "tensor": "nothing"}, "#/parameters/tensor"),
        ({"model": "cnn", "tensor": 1}, "#/parameters/tensor"),
        ({"model": "cnn", "version": []}, "#/parameters/version"),
        ({"model": "cnn", "version": 1.5}, "#/parameters/version"),
        ({"model": 1}, "#/parameters/model"),
        ({"model": "cnn"} | {f"x{i}": 1 for i in range(100)}, "#/parameters"),
        ({"top_k": 1}, "#/model"),
    ],
)
def test_parameters_that_make_no_sense_are_named(vertex: httpx.Client, parameters: object, pointer: str) -> None:
    answer = vertex.post(VERTEX_PREDICT, json=example(vertex, "cnn") | {"parameters": parameters})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


def test_parameters_are_of_platforms_alone(vertex: httpx.Client) -> None:
    answer = vertex.post("/predict/cnn", json=example(vertex, "cnn") | {"parameters": {"top_k": 1}})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "#/parameters")


def test_vertex_may_be_pointed_at_doors_of_ours() -> None:
    port = free_port()
    environ = {
        "AIP_HTTP_PORT": str(port), "AIP_HEALTH_ROUTE": "/readyz", "AIP_PREDICT_ROUTE": "/predict/cnn",
        "MODELS_DIR": str(MODELS),
    }  # fmt: skip
    with started_as(environ, port, "/readyz") as running, httpx.Client(base_url=running.url, timeout=60) as client:
        body = example(client, "cnn") | {"parameters": {"top_k": 1}}
        (prediction,) = client.post("/predict/cnn", json=body).json()["predictions"]
        assert len(prediction["probabilities"]) == 1
        assert requests_by_door(client) == {"vertex": 1}


def test_a_path_that_is_taken_ends_the_service_with_the_fault() -> None:
    with start({"AIP_PREDICT_ROUTE": "/metrics", "ZTO_MODELS_DIR": str(MODELS)}) as running:
        assert running.process.wait(30) == 2
        assert "AIP_PREDICT_ROUTE='/metrics': the service answers this path otherwise already" in running.log()


# KServe


@pytest.fixture(scope="module")
def kserve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """KServe: Knative sets PORT, and the storage initializer has put <name>/<version> below the models folder."""
    mounted = tmp_path_factory.mktemp("mnt") / "models"
    for name in ("cnn", "mlp"):
        ref = LATEST[name]
        shutil.copytree(ref.folder, mounted / name / str(ref.version))
    (mounted / "mlp" / str(LATEST["mlp"].version) / "manifest.json").write_text("{}")
    port = free_port()
    environ = {"PORT": str(port), "MODELS_DIR": str(mounted), "ZTO_REQUIRED_MODELS": "cnn", "K_REVISION": "cnn-00001"}
    with started_as(environ, port, "/v1/models/cnn") as running, httpx.Client(base_url=running.url) as client:
        yield client


def test_kserve_lists_models_and_asks_each_whether_it_is_ready(kserve: httpx.Client) -> None:
    assert kserve.get("/v1/models").json() == {"models": ["cnn", "mlp"]}
    assert kserve.get("/v1/models/cnn").json() == {"name": "cnn", "ready": True}
    broken = kserve.get("/v1/models/mlp")
    assert broken.status_code == 503
    assert broken.json() == {"name": "mlp", "ready": False, "error": broken.json()["error"]}
    assert broken.json()["error"].startswith(f"mlp/{LATEST['mlp'].version} is failed: manifest.json is not valid")


def test_kserve_predicts_and_errors_are_in_its_form(kserve: httpx.Client) -> None:
    body = example(kserve, "cnn")
    answer = kserve.post("/v1/models/cnn:predict", json=body)
    assert answer.json()["predictions"] == kserve.post("/predict/cnn", json=body).json()["predictions"]

    def error(path: str, content: bytes = b"{}", media_type: str = "application/json") -> tuple[int, str]:
        refused = kserve.post(path, content=content, headers={"Content-Type": media_type})
        assert refused.headers["content-type"] == "application/json"
        (message,) = refused.json().values()
        assert list(refused.json()) == ["error"]
        return refused.status_code, message

    assert error("/v1/models/cnn:predict") == (400, "#/instances: Field required")
    assert error("/v1/models/cnn:predict", b"{")[0] == 400
    assert error("/v1/models/cnn:predict", b"<a/>", "text/xml")[0] == 415
    assert error("/v1/models/cnn:predict", b"[" * 9_000_000)[0] == 413
    assert error("/v1/models/nobody:predict") == (404, "no model named 'nobody'; this service has: cnn, mlp")
    assert error("/v1/models/cnn:explain")[0] == 501
    assert error("/v1/models/nobody:explain")[0] == 404
    assert kserve.get("/v1/models/nobody").status_code == 404


def test_a_model_that_is_not_ready_is_503_with_a_time_to_come_back(kserve: httpx.Client) -> None:
    answer = kserve.post("/v1/models/mlp:predict", json={})
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["error"] == kserve.get("/v1/models/mlp").json()["error"]


@pytest.mark.parametrize("path", ["/v1/models/cnn:predict", "/v1/models/cnn:explain"])
def test_a_verb_takes_post_alone(kserve: httpx.Client, path: str) -> None:
    answer = kserve.get(path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


# Azure Machine Learning, and whoever says PORT


def test_azure_mounts_a_registered_folder_and_asks_three_routes(tmp_path: Path) -> None:
    mounted = tmp_path / "azureml-models" / "bundles" / "1"
    shutil.copytree(LATEST["cnn"].folder, mounted / "models" / "cnn" / str(LATEST["cnn"].version))
    port = free_port()
    environ = {"AZUREML_MODEL_DIR": str(mounted), "PORT": str(port)}
    with started_as(environ, port, "/readyz") as running, httpx.Client(base_url=running.url) as client:
        assert client.get("/livez").status_code == 200
        assert client.get("/v1/models").json() == {"models": ["cnn"]}
        # the only model answers a request that names none
        answer = client.post("/score", json=example(client, "cnn"))
        assert answer.json() == client.post("/predict/cnn", json=example(client, "cnn")).json()
        assert client.post("/predict", json=example(client, "cnn")).status_code == 422


@pytest.mark.parametrize("name", ["PORT", "CONTAINER_APP_PORT"])
def test_a_platform_that_says_the_port_finds_the_service_there(name: str) -> None:
    port = free_port()
    with started_as({name: str(port), "MODELS_DIR": str(MODELS)}, port, "/readyz") as running:
        assert httpx.get(f"{running.url}/livez").json() == {"status": "live"}


# What is documented


def test_every_path_of_the_service_is_known_as_its_own() -> None:
    with serve(MODELS, health_route="/up", predict_route="/ask") as running:
        paths = set(httpx.get(f"{running.url}/openapi.json").json()["paths"]) | {"/", "/docs", "/openapi.json"}
    assert {path for path in paths if not platforms.is_ours(path)} == {"/up", "/ask"}


def test_the_default_model_answers_what_names_none(tmp_path: Path) -> None:
    with serve(MODELS, default_model="cnn") as running, httpx.Client(base_url=running.url) as client:
        body = example(client, "cnn")
        for path in ("/invocations", "/score"):
            assert client.post(path, json=body).json()["model"] == "cnn"
