"""Access, as callers of a running service meet it: keys that come and go, rates, ports, TLS, origins, connections."""

import http.client
import json
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import httpx
import pytest

from app.access import key_file
from app.access.key_file import KeyFile
from app.protocols.grpc.server import SERVICE
from tests.support.bundles import dummy_bundle
from tests.support.certificates import RSA, certificate
from tests.support.keys import make_key
from tests.support.server import COMMAND, RunningService, serve, start
from tests.support.workers import wait_for

BODY = json.dumps({"instances": [{"image": [[1, 2, 3], [4, 5, 6]]}]}).encode()
JSON = {"content-type": "application/json"}
PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    dummy_bundle(folder)
    return folder


# Keys, rates and a port for operators; two workers count together


class Guarded(NamedTuple):
    """A service with keys; some of them were there at its start."""

    running: RunningService
    file: Path
    operator: str
    seldom: str


@pytest.fixture(scope="module")
def guarded(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    operator = make_key(file, "operator", "admin")
    seldom = make_key(file, "seldom", "predict", rate="3 per 10 hours")
    with serve(
        models, workers=2, api_keys_file=file, admin_port=0, grpc_port=0, rate_limit="4000000/hour"
    ) as running:  # fmt: skip
        wait_for(lambda: running.log().count("operators ask on") == 2, running)
        yield Guarded(running, file, operator, seldom)
        assert running.stop() == 0


def request(method: str, url: str, *, key: str = "", **more: Any) -> httpx.Response:
    """Ask over a connection of its own, so that any worker may answer."""
    headers = JSON | ({"x-api-key": key} if key else {}) | more.pop("headers", {})
    return httpx.request(method, url, headers=headers, timeout=PATIENCE_S, **more)


def statuses(guarded: Guarded, key: str) -> set[int]:
    url = f"{guarded.running.url}/predict/dummy"
    return {request("POST", url, key=key, content=BODY).status_code for _ in range(10)}


def replace(path: Path, content: bytes) -> None:
    """Write a file anew, in one step."""
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.replace(path)


def test_new_key_is_good_and_a_revoked_one_is_not_in_every_worker_without_a_restart(guarded: Guarded) -> None:
    key = make_key(guarded.file, "late", "predict")
    wait_for(lambda: statuses(guarded, key) == {200}, guarded.running)
    key_file.change(guarded.file, lambda old: KeyFile(keys=tuple(each for each in old.keys if each.name != "late")))
    wait_for(lambda: statuses(guarded, key) == {401}, guarded.running)


def test_broken_file_leaves_the_keys_good_and_is_told(guarded: Guarded) -> None:
    whole = guarded.file.read_bytes()
    replace(guarded.file, b"{")
    try:
        url, told = f"{guarded.running.url}/metrics", 'zto_key_reads_total{outcome="broken"} 2.0'
        wait_for(lambda: told in request("GET", url, key=guarded.operator).text, guarded.running)
        assert statuses(guarded, guarded.operator) == {200}
    finally:
        replace(guarded.file, whole)
    assert guarded.running.log().count("the keys that were read before stay good") == 2


def test_rate_of_a_key_is_that_of_all_workers_and_is_told_with_each_answer(guarded: Guarded) -> None:
    url = guarded.running.url
    answers = [request("POST", f"{url}/predict/dummy", key=guarded.seldom, content=BODY) for _ in range(12)]
    assert [answer.status_code for answer in answers] == [200] * 3 + [429] * 9
    assert {answer.headers["ratelimit-policy"] for answer in answers} == {'"10-hours";q=3;w=36000'}
    assert [answer.headers["ratelimit"].partition(";t=")[0] for answer in answers[:4]] == [
        f'"10-hours";r={left}' for left in (2, 1, 0, 0)
    ]
    refused = answers[-1]
    assert refused.json()["code"] == "rate_limited"
    assert refused.headers["content-type"] == "application/problem+json"
    assert int(refused.headers["retry-after"]) > 0
    infer = request("POST", f"{url}/v2/models/dummy/infer", key=guarded.seldom, content=b"{}")
    assert (infer.status_code, set(infer.json())) == (429, {"error"})
    with grpc.insecure_channel(guarded.running.grpc_target) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"/{SERVICE}/ModelInfer")(b"", metadata=(("x-api-key", guarded.seldom),), timeout=30)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert int(dict(caught.value.trailing_metadata())["retry-after"]) > 0


def test_operators_have_a_port_of_their_own_and_ask_nowhere_else(guarded: Guarded) -> None:
    key, url, admin_url = guarded.operator, guarded.running.url, guarded.running.admin_url
    port = admin_url.rpartition(":")[2]
    index = "/v2/repository/index"
    assert request("POST", admin_url + index, key=key, content=b"").status_code == 200
    for path in (index, "/admin/models/dummy", "/v2/repository/models/dummy/load"):
        for sent in ("", key):
            answer = request("POST", url + path, key=sent)
            assert (answer.status_code, f"port {port}" in answer.text) == (403, True), answer.text
        assert request("POST", admin_url + path).status_code == 401
    for method, path in (("POST", "/predict/dummy"), ("GET", "/models"), ("GET", "/metrics"), ("GET", "/nowhere")):
        answer = request(method, admin_url + path, key=key, content=BODY)
        assert (answer.status_code, "for operators alone" in answer.text) == (403, True), path
    assert request("GET", f"{admin_url}/readyz").status_code == 200
    with grpc.insecure_channel(guarded.running.grpc_target) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"/{SERVICE}/RepositoryIndex")(b"", metadata=(("x-api-key", key),), timeout=30)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


# TLS, pages of other origins, and a bound on connections


MOST = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def encrypted(models: Path, folder: Path) -> Iterator[RunningService]:
    cert, key = certificate(folder, "serving")
    (folder / "first.pem").write_bytes(cert.read_bytes())
    with serve(
        models, verify=ssl.create_default_context(cafile=folder / "first.pem"), tls_cert=cert, tls_key=key, grpc_port=0,
        admin_port=0, admin_key="a-long-admin-key", cors_origins="https://good.example, https://b.example:8443",
        max_connections_per_address=MOST,
    ) as running:  # fmt: skip
        yield running
        assert running.stop() == 0
        foreign = [line for line in running.log().splitlines() if not re.match(r"\d{4}-\d\d-\d\d \d\d:|    ", line)]
        assert foreign == []


def test_every_port_speaks_tls_and_nothing_else(encrypted: RunningService, folder: Path) -> None:
    assert encrypted.url.startswith("https://")
    with httpx.Client(verify=encrypted.verify, timeout=PATIENCE_S) as client:
        answer = client.post(f"{encrypted.url}/predict/dummy", content=BODY, headers=JSON)
        assert answer.status_code == 200
        operators = {"authorization": "Bearer a-long-admin-key"}
        assert client.post(f"{encrypted.admin_url}/v2/repository/index", headers=operators).status_code == 200
        broken = client.get(f"{encrypted.url}/livez", headers={"x-long": "x" * 100_000})
        assert broken.status_code == 431  # what is refused on the wire is told over TLS too
    trusted = grpc.ssl_channel_credentials((folder / "first.pem").read_bytes())
    with grpc.secure_channel(encrypted.grpc_target, trusted) as channel:
        channel.unary_unary(f"/{SERVICE}/ServerLive")(b"", timeout=30)
    for target in (encrypted.url, encrypted.admin_url):
        with pytest.raises(httpx.TransportError):
            request("GET", target.replace("https", "http") + "/livez")
    host, port = encrypted.grpc_target.split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert plain.recv(1) == b""


def test_health_command_knows_tls_and_needs_no_key(encrypted: RunningService, folder: Path) -> None:
    environ = {"ZTO_PORT": encrypted.url.rpartition(":")[2], "ZTO_TLS_CERT": str(folder / "serving.pem"),
               "ZTO_TLS_KEY": str(folder / "serving.key"), "ZTO_API_KEYS_FILE": "keys.json"}  # fmt: skip
    done = subprocess.run([sys.executable, "-m", "app", "health"], env=environ, capture_output=True, text=True)
    assert (done.returncode, '"ready"' in done.stdout) == (0, True), done.stderr


def preflight(running: RunningService, origin: str, method: str = "POST") -> httpx.Response:
    headers = {"origin": origin, "access-control-request-method": method,
               "access-control-request-headers": "content-type,x-api-key"}  # fmt: skip
    return request("OPTIONS", f"{running.url}/predict/dummy", headers=headers, verify=running.verify)


def test_pages_of_origins_that_are_named_may_ask_and_of_others_may_not(encrypted: RunningService) -> None:
    for origin in ("https://good.example", "https://b.example:8443"):
        allowed = preflight(encrypted, origin)
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (204, origin)
        assert "POST" in allowed.headers["access-control-allow-methods"]
        assert {"content-type", "x-api-key"} <= set(allowed.headers["access-control-allow-headers"].split(", "))
        assert allowed.headers["vary"] == "origin"
        assert "access-control-allow-credentials" not in allowed.headers
    other = preflight(encrypted, "https://evil.example")
    assert other.status_code == 405
    assert "access-control-allow-origin" not in other.headers


def test_every_door_tells_a_browser_whose_page_may_read_the_answer(encrypted: RunningService) -> None:
    with httpx.Client(base_url=encrypted.url, verify=encrypted.verify, timeout=PATIENCE_S) as client:
        for origin, told in (("https://good.example", "https://good.example"), ("https://evil.example", None)):
            headers = JSON | {"origin": origin}
            answers = [
                client.post("/predict/dummy", content=BODY, headers=headers),  # the fast way
                client.post("/predict/dummy", content=iter([BODY]), headers=headers),
                client.post("/predict/dummy", content=b"{", headers=headers),
                client.get("/models", headers=headers),
                client.get("/nowhere", headers=headers),
                client.post("/v2/repository/index", headers=headers),
            ]
            assert [answer.status_code for answer in answers] == [200, 200, 400, 200, 404, 403]
            assert {answer.headers.get("access-control-allow-origin") for answer in answers} == {told}
            assert all("origin" in answer.headers["vary"] for answer in answers)


def connect(url: str, running: RunningService) -> ssl.SSLSocket:
    assert isinstance(running.verify, ssl.SSLContext)
    host, _, port = url.removeprefix("https://").rpartition(":")
    plain = socket.create_connection((host, int(port)), timeout=PATIENCE_S)
    return running.verify.wrap_socket(plain, server_hostname=host)


def lives(connection: socket.socket) -> bool:
    try:
        connection.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        answer.read()
    except (OSError, http.client.HTTPException):
        return False
    return answer.status == 200


def test_connections_of_one_address_are_bounded_and_those_that_are_open_go_on(encrypted: RunningService) -> None:
    with ExitStack() as opened:
        kept: list[socket.socket] = []

        def is_full() -> bool:  # once the connections of the tests before are gone
            new = connect(encrypted.url, encrypted)
            if lives(new):
                kept.append(opened.enter_context(closing(new)))
            else:
                new.close()
            return len(kept) == MOST

        wait_for(is_full, encrypted)
        beyond = opened.enter_context(closing(connect(encrypted.url, encrypted)))
        answer = http.client.HTTPResponse(beyond)
        answer.begin()
        told = json.loads(answer.read())
        assert (answer.status, told["code"]) == (429, "too_many_connections")
        assert answer.headers["retry-after"] == "1"
        assert beyond.recv(1) == b""
        assert all(map(lives, kept))

    def is_told() -> bool:
        try:
            text = request("GET", f"{encrypted.url}/metrics", verify=encrypted.verify).text
        except httpx.TransportError:  # the service still counts the connections that were closed just now
            return False
        return 'zto_refusals_total{code="too_many_connections"}' in text

    wait_for(is_told, encrypted)


def test_certificate_that_is_renewed_is_taken_and_one_that_is_no_good_is_not(
    encrypted: RunningService, folder: Path
) -> None:
    cert, key = certificate(folder, "renewed", RSA)  # of another kind than the one before
    new = ssl.create_default_context(cafile=cert)

    def is_new() -> bool:
        try:
            return request("GET", f"{encrypted.url}/livez", verify=new).status_code == 200
        except httpx.ConnectError:
            return False

    assert not is_new()
    (folder / "serving.pem").write_bytes(cert.read_bytes())  # of another key
    wait_for(lambda: "is no good, so the one before serves on" in encrypted.log(), encrypted)
    assert request("GET", f"{encrypted.url}/livez", verify=encrypted.verify).status_code == 200
    (folder / "serving.key").write_bytes(key.read_bytes())
    wait_for(is_new, encrypted)
    trusted = grpc.ssl_channel_credentials(cert.read_bytes())
    with grpc.secure_channel(encrypted.grpc_target, trusted) as channel:
        channel.unary_unary(f"/{SERVICE}/ServerLive")(b"", timeout=30)


def test_handshake_that_never_ends_keeps_no_service_from_leaving(models: Path, folder: Path) -> None:
    cert, key = certificate(folder, "leaving")
    environ = {"ZTO_MODELS_DIR": str(models), "ZTO_TLS_CERT": str(cert), "ZTO_TLS_KEY": str(key), "ZTO_ADMIN_PORT": "0"}
    # as it is run: with -W error, uvloop does not close a connection that it warns of
    with start(environ, command=(sys.executable, "-m", "app", "serve")) as running:
        wait_for(lambda: "operators ask on" in running.log(), running)
        host, _, port = running.admin_url.removeprefix("https://").rpartition(":")
        with socket.create_connection((host, int(port)), timeout=PATIENCE_S):
            assert running.stop() == 0  # long before ZTO_SHUTDOWN_S, or this would have given up


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"ZTO_HOST": "0.0.0.0"}, "ZTO_ALLOW_ANONYMOUS=1"),
        ({"ZTO_API_KEYS_FILE": "/nowhere/keys.json"}, "ZTO_API_KEYS_FILE"),
        ({"ZTO_TLS_CERT": "/nowhere/cert", "ZTO_TLS_KEY": "/nowhere/key"}, "ZTO_TLS_CERT"),
        ({"ZTO_RATE_LIMIT": "often"}, "ZTO_RATE_LIMIT"),
    ],
)
def test_service_that_cannot_be_guarded_as_asked_does_not_start_and_says_why(
    models: Path, settings: dict[str, str], told: str
) -> None:
    with start({"ZTO_MODELS_DIR": str(models)} | settings, command=COMMAND) as running:
        assert running.process.wait(PATIENCE_S) == 2
        (line,) = running.log().splitlines()
        assert line.startswith("error: ")
        assert told in line
