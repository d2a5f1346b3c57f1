"""Each platform speaks to the service as it does in the cloud, and every door gives the same numbers.

SageMaker and KServe have files of their own, `test_sagemaker.py` and `test_kserve.py`.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app import platforms
from benchmarks.servers import free_ports
from tests.support.committed import LATEST, MODELS, NAMES
from tests.support.platforms import ATTRIBUTES, example, started_as
from tests.support.server import serve, start

VERTEX_HEALTH = "/v1/endpoints/2468/deployedModels/1357"
VERTEX_PREDICT = f"{VERTEX_HEALTH}:predict"


@pytest.fixture(scope="module")
def vertex() -> Iterator[httpx.Client]:
    """Vertex AI with its own paths: those that it takes where an upload names none."""
    (port,) = free_ports(1)
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
    (port,) = free_ports(1)
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


# Azure Machine Learning, and whoever says PORT


def test_azure_mounts_a_registered_folder_and_asks_three_routes(tmp_path: Path) -> None:
    mounted = tmp_path / "azureml-models" / "bundles" / "1"
    shutil.copytree(LATEST["cnn"].folder, mounted / "models" / "cnn" / str(LATEST["cnn"].version))
    (port,) = free_ports(1)
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
    (port,) = free_ports(1)
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
