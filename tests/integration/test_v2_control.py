"""The Open Inference Protocol beside inference, asked by Triton's own client: what it tells, and what it counts."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from app import __version__
from tests.support.bundles import dummy_bundle
from tests.support.server import RunningService, serve
from tests.support.v2_control import ADMIN, IMAGE, KEY, client_of, predict, refusal
from tests.support.workers import wait_for, wait_until_serving


@pytest.fixture(scope="module")
def committed() -> Iterator[RunningService]:
    with serve(Path("models"), admin_key=KEY) as running:
        yield running


@pytest.fixture
def models(tmp_path: Path) -> Path:
    dummy_bundle(tmp_path)
    dummy_bundle(tmp_path, "other")
    return tmp_path


def test_health_and_metadata_are_what_the_client_asks_for(committed: RunningService) -> None:
    with closing(client_of(committed)) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("cnn")
        assert client.is_model_ready("cnn", "2")
        assert not client.is_model_ready("cnn", "1")
        assert not client.is_model_ready("horse")
        server = client.get_server_metadata()
        assert (server["name"], server["version"]) == ("zero-to-one", __version__)
        assert {"statistics", "model_repository", "model_configuration", "classification"} <= set(server["extensions"])
        assert (
            client.get_model_metadata("cnn", "2")
            == client.get_model_metadata("cnn")
            == {
                "name": "cnn",
                "versions": ["2"],
                "platform": "onnxruntime_onnx",
                "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 28, 28]}],
                "outputs": [
                    {"name": "logits", "datatype": "FP32", "shape": [-1, 10]},
                    {"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]},
                ],
            }
        )
        text = client.get_model_metadata("lstm")
        assert [(i["name"], i["datatype"], i["shape"]) for i in text["inputs"]] == [
            ("tokens", "INT64", [-1, -1]),
            ("lengths", "INT64", [-1]),
        ]


def test_bodies_of_health_are_those_of_the_protocol(committed: RunningService) -> None:
    with httpx.Client(base_url=committed.url) as client:
        assert client.get("/v2/health/live").json() == {"live": True}
        assert client.get("/v2/health/ready").json() == {"ready": True}
        assert client.get("/v2/models/mlp/ready").json() == {"name": "mlp", "ready": True}
        for path in ("health/live", "health/ready", "models/mlp/ready", "models/mlp/versions/2/ready"):
            response = client.head(f"/v2/{path}")
            assert (response.status_code, response.content) == (200, b"")
        assert client.head("/v2/models/horse/ready").status_code == 404


def test_configuration_has_the_shape_of_triton_s_own(committed: RunningService) -> None:
    with closing(client_of(committed)) as client:
        config = client.get_model_config("transformer", "1")
        assert config["max_batch_size"] == 32
        assert {i["name"]: (i["data_type"], i["dims"], i["optional"]) for i in config["input"]} == {
            "tokens": ("TYPE_INT64", [-1], False),
            "lengths": ("TYPE_INT64", [], False),
        }
        assert [o["dims"] for o in config["output"]] == [[2], [2]]
        assert config["parameters"]["labels"] == {"string_value": '["ham", "spam"]'}
        assert config["parameters"]["natural_input"] == {"string_value": "text"}
        picture = client.get_model_config("cnn")
        assert [i["name"] for i in picture["input"]] == ["image"]
        assert picture["parameters"]["natural_input"] == {"string_value": "image"}


@pytest.mark.parametrize(
    ("ask", "status", "message"),
    [
        (lambda c: c.get_model_metadata("horse"), "404", "no model named 'horse'"),
        (lambda c: c.get_model_metadata("cnn", "7"), "404", "model 'cnn' has no version '7'; it has: 2"),
        (lambda c: c.get_model_config("horse"), "404", "no model named 'horse'"),
        (lambda c: c.get_inference_statistics("horse"), "404", "no model named 'horse'"),
        (lambda c: c.get_inference_statistics("cnn", "7"), "404", "has no version '7'"),
        (lambda c: c.get_trace_settings(), "404", "GET /v2/trace/setting"),
        (lambda c: c.get_model_repository_index(), "401", "this needs a key"),
        (lambda c: c.load_model("cnn"), "401", "this needs a key"),
        (lambda c: c.unload_model("cnn", headers={"Authorization": "Bearer x"}), "401", "the key is wrong"),
        (lambda c: c.unload_model("cnn", headers={"Authorization": KEY}), "401", "the key is wrong"),
        (lambda c: c.load_model("horse", headers=ADMIN), "404", "no model named 'horse'"),
        (lambda c: c.unload_model("horse", headers=ADMIN), "404", "no model named 'horse'"),
        (lambda c: c.load_model("%2e%2e", headers=ADMIN), "404", "no model named"),
        (lambda c: c.load_model("cnn", headers=ADMIN, config="{}"), "400", "loaded as they lie in the models folder"),
    ],
    ids=[
        "metadata",
        "metadata of a version",
        "configuration",
        "statistics",
        "statistics of a version",
        "trace settings",
        "index without a key",
        "load without a key",
        "another key",
        "a key without a scheme",
        "load of an unknown model",
        "unload of an unknown model",
        "load of a path",
        "load with a configuration",
    ],
)
def test_errors_are_raised_with_our_words(
    committed: RunningService, ask: Callable[[Any], object], status: str, message: str
) -> None:
    with closing(client_of(committed)) as client:
        found, told = refusal(lambda: ask(client))
        assert (found, message in told) == (status, True), told
        assert client.is_model_ready("cnn")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/nowhere", 404),
        ("DELETE", "/v2/models/cnn", 405),
        ("POST", "/v2/health/live", 405),
        ("GET", "/v2/repository/index", 401),
    ],
)
def test_unknown_paths_and_methods_have_the_protocol_s_errors(
    committed: RunningService, method: str, path: str, status: int
) -> None:
    response = httpx.request(method, committed.url + path)
    assert response.status_code == status
    assert list(response.json()) == ["error"]
    # whoever may not know what is there is asked for a key, and told nothing else
    assert (f"{method} {path}" if status != 401 else "this needs a key") in response.json()["error"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"[]", "expected an object"),
        (b"{", "the body is not JSON"),
        (b'{"ready": 1}', "#/ready: expected true or false, found 1"),
        (b'{"raedy": true}', "#/raedy: nothing of that name is read here; there is: ready, repository_name"),
    ],
)
def test_bodies_of_the_index_that_ask_for_nothing_known_are_refused(
    committed: RunningService, body: bytes, message: str
) -> None:
    response = httpx.post(f"{committed.url}/v2/repository/index", content=body, headers=ADMIN)
    assert response.status_code == 400
    assert message in response.json()["error"]


def test_statistics_count_what_other_doors_were_asked(models: Path) -> None:
    with serve(models, run_on="loop") as running, closing(client_of(running)) as client:
        for _ in range(3):
            assert predict(running).status_code == 200
        twenty = {"instances": IMAGE["instances"] * 20}  # in batches of 8, 8 and 4
        assert httpx.post(f"{running.url}/predict/dummy", json=twenty).status_code == 200
        (told,) = client.get_inference_statistics("dummy", "1")["model_stats"]
        assert (told["inference_count"], told["execution_count"]) == (23, 6)
        assert told["last_inference"] > 1_700_000_000_000
        stages = told["inference_stats"]
        assert {name: stage["count"] for name, stage in stages.items()} == {
            "success": 4, "fail": 0, "queue": 4, "compute_input": 4, "compute_infer": 4, "compute_output": 4,
            "cache_hit": 0, "cache_miss": 0,
        }  # fmt: skip
        assert {b["batch_size"]: b["compute_infer"]["count"] for b in told["batch_stats"]} == {1: 3, 4: 1, 8: 2}
        assert all(stages[name]["ns"] > 0 for name in ("success", "compute_infer"))
        parts = sum(stages[n]["ns"] for n in ("queue", "compute_input", "compute_infer", "compute_output"))
        assert parts <= stages["success"]["ns"] * 1.001
        (other,) = client.get_inference_statistics("other")["model_stats"]
        assert other["inference_stats"]["success"] == {"count": 0, "ns": 0}
        assert len(client.get_inference_statistics()["model_stats"]) == 2


def test_statistics_are_the_sums_of_two_workers(models: Path) -> None:
    with serve(models, workers=2) as running, closing(client_of(running)) as client:
        wait_until_serving(running, times=2)
        for _ in range(20):
            assert predict(running).status_code == 200

        def counted() -> int:
            (told,) = client.get_inference_statistics("dummy")["model_stats"]
            assert sum(b["compute_infer"]["count"] for b in told["batch_stats"]) == told["execution_count"]
            return int(told["inference_stats"]["success"]["count"])

        wait_for(lambda: counted() == 20, running)
