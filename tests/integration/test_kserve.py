"""KServe speaks to the service as it does in a cluster: where it mounts models, what it lists, asks and is told."""

import shutil
from collections.abc import Iterator

import httpx
import pytest

from benchmarks.servers import free_ports
from tests.support.committed import LATEST
from tests.support.platforms import example, started_as


@pytest.fixture(scope="module")
def kserve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """KServe: Knative sets PORT, and the storage initializer has put <name>/<version> below the models folder."""
    mounted = tmp_path_factory.mktemp("mnt") / "models"
    for name in ("cnn", "mlp"):
        ref = LATEST[name]
        shutil.copytree(ref.folder, mounted / name / str(ref.version))
    (mounted / "mlp" / str(LATEST["mlp"].version) / "manifest.json").write_text("{}")
    (port,) = free_ports(1)
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
