"""Rules that hold at every door, those included that nobody has written yet: the doors are found, not listed."""

import http.client
import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from app.protocols.grpc.server import SERVICE
from tests.support.bundles import dummy_bundle
from tests.support.server import RunningService, serve

KEY = "a-key-of-the-tests"
LIMIT = 64 * 1024
# what a path is filled with
NAMES = {"model": "dummy", "version": "1"}
JSON = {"content-type": "application/json"}
# whoever has the key may do this; nobody else
OF_OPERATORS = re.compile(r"/v2/repository/")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    models = tmp_path_factory.mktemp("models")
    dummy_bundle(models)
    with serve(models, admin_key=KEY, grpc_port=0, max_body_bytes=LIMIT, predict_route="/vertex") as running:
        yield running


@pytest.fixture
def asking(running: RunningService) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url, timeout=30) as client:
        yield client


def doors(client: httpx.Client, method: str) -> list[str]:
    """Return every documented path that takes a method, filled in."""
    document: dict[str, Any] = client.get("/openapi.json").json()
    return [path.format(**NAMES) for path, operations in document["paths"].items() if method in operations]


def test_doors_that_are_known_are_found(asking: httpx.Client) -> None:
    posts = doors(asking, "post")
    assert {
        "/predict", "/predict/dummy", "/v2/models/dummy/infer", "/v2/models/dummy/versions/1/infer",
        "/v2/repository/index", "/v2/repository/models/dummy/load", "/invocations", "/models/dummy/invoke", "/score",
        "/v1/models/dummy:predict", "/vertex",
    } <= set(posts)  # fmt: skip


def test_body_over_the_limit_is_refused_at_every_door_before_a_byte_of_it_is_read(asking: httpx.Client) -> None:
    asked = [(method.upper(), path) for method in ("get", "post") for path in doors(asking, method)]
    assert len(asked) > 30
    for method, path in asked:
        connection = http.client.HTTPConnection(asking.base_url.host, asking.base_url.port, timeout=30)
        with closing(connection):
            connection.putrequest(method, path)
            connection.putheader("Content-Type", "application/json")
            connection.putheader("Content-Length", str(LIMIT + 1))
            connection.endheaders()  # nothing follows, and the answer comes all the same
            answer = connection.getresponse()
            told = answer.read().decode()
        assert (answer.status, str(LIMIT) in told) == (413, True), f"{method} {path}: {answer.status} {told}"
        assert answer.headers["x-request-id"], path


def test_body_that_grows_over_the_limit_is_refused_at_every_door_that_reads_one(asking: httpx.Client) -> None:
    headers = JSON | {"authorization": f"Bearer {KEY}"}
    for path in doors(asking, "post"):
        answer = asking.post(path, content=(b" " * LIMIT for _ in range(2)), headers=headers)
        assert answer.status_code == 413, f"{path}: {answer.status_code} {answer.text}"


def test_doors_of_operators_ask_for_the_admin_key_and_no_other_does(asking: httpx.Client) -> None:
    for path in doors(asking, "post"):
        for headers in ({}, {"authorization": "Bearer another"}):
            answer = asking.post(path, content=b"{", headers=JSON | headers)
            if OF_OPERATORS.match(path):
                assert answer.status_code == 401, f"{path}: {answer.status_code} {answer.text}"
                assert answer.headers["www-authenticate"] == "Bearer"
                assert "the admin key" in answer.json()["error"]
            else:  # the body is what is wrong
                assert answer.status_code == 400, f"{path}: {answer.status_code} {answer.text}"


def test_service_without_an_admin_key_lets_nobody_in(tmp_path: Path) -> None:
    dummy_bundle(tmp_path)
    with serve(tmp_path) as running, httpx.Client(base_url=running.url) as client:
        guarded = [path for path in doors(client, "post") if OF_OPERATORS.match(path)]
        assert len(guarded) == 3
        for path in guarded:
            answer = client.post(path, headers={"authorization": f"Bearer {KEY}"})
            assert (answer.status_code, "ZTO_ADMIN_KEY" in answer.json()["error"]) == (403, True), path


def test_calls_of_operators_over_grpc_ask_for_the_admin_key(running: RunningService) -> None:
    with grpc.insecure_channel(running.grpc_target) as channel:
        for name in ("RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload"):
            for metadata in ((), (("authorization", "Bearer another"),)):
                with pytest.raises(grpc.RpcError) as caught:
                    channel.unary_unary(f"/{SERVICE}/{name}")(b"", metadata=metadata, timeout=30)
                assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED, name


@pytest.mark.parametrize("method", ["get", "post"])
def test_every_door_of_the_open_inference_protocol_writes_errors_in_its_form(asking: httpx.Client, method: str) -> None:
    paths = [path for path in doors(asking, method) if path.startswith("/v2/models/") and path != "/v2/models/stats"]
    assert paths
    for path in paths:
        answer = asking.request(method, path.replace("dummy", "nobody"), headers=JSON)
        assert answer.status_code == 404, path
        assert set(json.loads(answer.text)) == {"error"}, path
        assert "nobody" in answer.json()["error"]
