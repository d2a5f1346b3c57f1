"""Rules that hold at every door, those included that nobody has written yet: the doors are found, not listed."""

import http.client
import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import httpx
import pytest

from app.access.roles import Role
from app.protocols.grpc.inference_pb2 import ModelInferRequest, ModelStreamInferResponse
from app.protocols.grpc.server import SERVICE
from tests.support.bundles import dummy_bundle
from tests.support.keys import make_key
from tests.support.server import RunningService, serve

KEY = "a-key-of-the-tests"
LIMIT = 64 * 1024
# what a path is filled with
NAMES = {"model": "dummy", "version": "1"}
JSON = {"content-type": "application/json"}
# whoever has the key may do this; nobody else
OF_OPERATORS = re.compile(r"/v2/repository/|/admin/")


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
            connection.putheader("Authorization", f"Bearer {KEY}")
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


def test_without_keys_only_doors_of_operators_ask_for_one(asking: httpx.Client) -> None:
    for path in doors(asking, "post"):
        for headers in ({}, {"authorization": "Bearer another"}):
            answer = asking.post(path, content=b"{", headers=JSON | headers)
            if OF_OPERATORS.match(path):
                assert answer.status_code == 401, f"{path}: {answer.status_code} {answer.text}"
                assert answer.headers["www-authenticate"] == "Bearer"
                assert "X-API-Key" in answer.text
            else:  # the body is what is wrong
                assert answer.status_code == 400, f"{path}: {answer.status_code} {answer.text}"


def test_service_without_an_admin_key_lets_nobody_in(tmp_path: Path) -> None:
    dummy_bundle(tmp_path)
    with serve(tmp_path) as running, httpx.Client(base_url=running.url) as client:
        guarded = [path for path in doors(client, "post") if OF_OPERATORS.match(path)]
        assert len(guarded) == 7
        for path in guarded:
            answer = client.post(path, headers={"authorization": f"Bearer {KEY}"})
            assert (answer.status_code, "ZTO_ADMIN_KEY" in answer.text) == (403, True), path


def refused(channel: grpc.Channel, method: str, *metadata: tuple[str, str]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(method)(b"", metadata=metadata, timeout=30)
    code = caught.value.code()
    assert isinstance(code, grpc.StatusCode)
    return code


def test_calls_of_operators_over_grpc_ask_for_the_admin_key(running: RunningService) -> None:
    with grpc.insecure_channel(running.grpc_target) as channel:
        for name in ("RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload"):
            for metadata in ((), (("authorization", "Bearer another"),)):
                assert refused(channel, f"/{SERVICE}/{name}", *metadata) is grpc.StatusCode.UNAUTHENTICATED, name


class Guarded(NamedTuple):
    """A service with keys, and a key of each role alone."""

    running: RunningService
    client: httpx.Client
    key: dict[Role, str]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    dummy_bundle(folder / "models")
    key = {role: make_key(folder / "keys.json", role, role) for role in Role}
    limits: dict[str, Any] = {"max_body_bytes": LIMIT, "predict_route": "/vertex", "health_route": "/healthy"}
    with (
        serve(folder / "models", api_keys_file=folder / "keys.json", grpc_port=0, **limits) as running,
        httpx.Client(base_url=running.url, timeout=30) as client,
    ):
        yield Guarded(running, client, key)


# the paths that anybody may ask
PROBES = {
    "/livez", "/startupz", "/readyz", "/ping", "/healthy", "/v2/health/live", "/v2/health/ready",
    "/v2/models/dummy/ready", "/v2/models/dummy/versions/1/ready",
}  # fmt: skip


def asked_paths(guarded: Guarded) -> list[tuple[str, str, Role]]:
    """Return every documented method and path but the probes, more that nobody documents, and the role of each."""
    document = guarded.client.get("/openapi.json", headers={"x-api-key": guarded.key[Role.READ]}).json()
    asked = [
        (method.upper(), path.format(**NAMES)) for path, methods in document["paths"].items() for method in methods
    ]
    asked += [("GET", "/"), ("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/nowhere"), ("POST", "/nowhere"),
              ("GET", "/admin/models/dummy"), ("POST", "/admin/nowhere"), ("POST", "/predict/nobody"),
              ("DELETE", "/predict/dummy"), ("OPTIONS", "/predict/dummy"), ("GET", "/admin")]  # fmt: skip
    assert len(asked) > 40
    roles = [
        (method, path, Role.ADMIN if re.match("/admin|/v2/repository/", path)
         else Role.PREDICT if method == "POST" else Role.READ)
        for method, path in asked if path not in PROBES
    ]  # fmt: skip
    assert {role for _, _, role in roles} == set(Role)
    return roles


def guesses(guarded: Guarded) -> float:
    told = guarded.client.get("/metrics", headers={"x-api-key": guarded.key[Role.READ]}).text
    found = re.search(r'zto_refusals_total\{code="wrong_key"\} (\S+)', told)
    return 0.0 if found is None else float(found[1])


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer zto_guessed"}, {"x-api-key": "zto_guessed"}])
def test_nothing_but_probes_answers_without_a_good_key(guarded: Guarded, headers: dict[str, str]) -> None:
    asked, before = asked_paths(guarded), guesses(guarded)
    for method, path, _ in asked:
        answer = guarded.client.request(method, path, headers=JSON | headers, content=b" " * (2 * LIMIT))
        assert answer.status_code == 401, f"{method} {path}: {answer.status_code} {answer.text}"
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["x-request-id"]
        form = (
            {"error"} if re.match("/v[12]/|/v2$", path) else {"type", "title", "status", "detail", "code", "request_id"}
        )
        assert set(answer.json()) == form, path
    assert guesses(guarded) - before == len(asked)  # whoever guesses keys is seen, whatever path that is tried on
    for path in PROBES:
        assert guarded.client.get(path, headers=headers).status_code == 200, path
        # a platform may be pointed at one path for both, and then it predicts by POST
        assert guarded.client.post(path, headers=JSON | headers, content=b"{").status_code == 401, path


def test_key_of_another_role_is_refused_and_told_which_one_it_needs(guarded: Guarded) -> None:
    for method, path, role in asked_paths(guarded):
        for other in {Role.PREDICT, Role.READ} - {role}:
            headers = JSON | {"authorization": f"Bearer {guarded.key[other]}"}
            answer = guarded.client.request(method, path, headers=headers, content=b"{")
            assert answer.status_code == 403, f"{method} {path}: {answer.status_code} {answer.text}"
            assert f"role {role}; the key {str(other)!r}" in answer.text


def test_key_of_the_right_role_or_of_an_admin_is_let_on(guarded: Guarded) -> None:
    for method, path, role in asked_paths(guarded):
        for key in (guarded.key[role], guarded.key[Role.ADMIN]):
            answer = guarded.client.request(method, path, headers=JSON | {"x-api-key": key}, content=b"{")
            assert answer.status_code not in (401, 403), f"{method} {path}: {answer.status_code} {answer.text}"


def test_openapi_says_of_each_path_what_key_it_needs(guarded: Guarded) -> None:
    document = guarded.client.get("/openapi.json", headers={"x-api-key": guarded.key[Role.READ]}).json()
    assert {"bearer", "api_key"} <= set(document["components"]["securitySchemes"])
    roles = {(method, path): role for method, path, role in asked_paths(guarded)}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            role = roles.get((method.upper(), path.format(**NAMES)))
            assert ("401" in operation["responses"]) == (role is not None), path
            assert (f"the role `{role}`" in operation.get("description", "")) == (role is not None), path


def test_the_fast_way_asks_for_a_key_as_the_long_one_does(guarded: Guarded) -> None:
    body = json.dumps({"instances": [{"image": [[0] * 3] * 2}]}).encode()

    def pieces() -> Iterator[bytes]:  # of no stated length, so it goes the long way
        yield body[:9]
        yield body[9:]

    for content in (lambda: body, pieces):
        for headers, status in (
            ({}, 401),
            ({"x-api-key": guarded.key[Role.READ]}, 403),
            ({"x-api-key": guarded.key[Role.PREDICT]}, 200),
        ):
            answer = guarded.client.post("/predict/dummy", content=content(), headers=JSON | headers)
            assert answer.status_code == status, answer.text


def test_no_call_over_grpc_but_health_answers_without_a_good_key(guarded: Guarded) -> None:
    service: Any = ModelInferRequest.DESCRIPTOR.file.services_by_name["GRPCInferenceService"]
    names = [method.name for method in service.methods]
    assert len(names) > 10
    with grpc.insecure_channel(guarded.running.grpc_target) as channel:
        for name in set(names) - {"ModelStreamInfer"}:
            method = f"/{SERVICE}/{name}"
            if name in ("ServerLive", "ServerReady", "ModelReady"):
                channel.unary_unary(method)(b"", timeout=30)
                continue
            assert refused(channel, method) is grpc.StatusCode.UNAUTHENTICATED, name
            assert refused(channel, method, ("x-api-key", "zto_guessed")) is grpc.StatusCode.UNAUTHENTICATED, name
            role = Role.ADMIN if "Repository" in name else Role.PREDICT if name == "ModelInfer" else Role.READ
            other = Role.READ if role is Role.PREDICT else Role.PREDICT
            metadata = ("authorization", f"Bearer {guarded.key[other]}")
            assert refused(channel, method, metadata) is grpc.StatusCode.PERMISSION_DENIED, name
        channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=30)
        stream = channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")
        (answer,) = [ModelStreamInferResponse.FromString(data) for data in stream(iter([b""]), timeout=30)]
        assert "needs a key" in answer.error_message


@pytest.mark.parametrize("method", ["get", "post"])
def test_every_door_of_the_open_inference_protocol_writes_errors_in_its_form(asking: httpx.Client, method: str) -> None:
    paths = [path for path in doors(asking, method) if path.startswith("/v2/models/") and path != "/v2/models/stats"]
    assert paths
    for path in paths:
        answer = asking.request(method, path.replace("dummy", "nobody"), headers=JSON)
        assert answer.status_code == 404, path
        assert set(json.loads(answer.text)) == {"error"}, path
        assert "nobody" in answer.json()["error"]
