"""What arrives byte by byte: upgrades, heads without end, trailers, and answers to what is no HTTP."""

import json
import signal
import socket
import time
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.wire import MAX_HEAD_BYTES, MAX_HEADERS
from tests.support.bundles import dummy_bundle, fault
from tests.support.raw_http import BODY, connected, read_answer, request
from tests.support.server import RunningService, serve
from tests.support.workers import wait_until_read

H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
WEBSOCKET = (
    b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
PROBLEM_FIELDS = {"type", "title", "status", "detail", "code", "request_id"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    models = tmp_path_factory.mktemp("models")
    dummy_bundle(models, "dummy")
    dummy_bundle(models, "slow", behavior={"sleep_s": 0.1}, rows=2)
    with serve(models) as running:
        yield running


def ask(sock: socket.socket, data: bytes) -> tuple[HTTPResponse, Any]:
    sock.sendall(data)
    return read_answer(sock)


def assert_refused(sock: socket.socket, status: int, code: str) -> None:
    """The next answer is a whole problem, and the last of its connection."""
    response, document = read_answer(sock)
    assert response.status == document["status"] == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["connection"] == "close"
    assert response.headers["x-request-id"] == document["request_id"]
    assert set(document) == PROBLEM_FIELDS | ({"limit"} if status in (408, 431) else set())
    assert document["code"] == code
    assert document["type"] == f"urn:zero-to-one:problem:{code}"
    assert sock.recv(1) == b""


def flood(sock: socket.socket, piece: bytes, pieces: int) -> None:
    """Send the same bytes again and again, until the other side has had enough."""
    for _ in range(pieces):
        try:
            sock.sendall(piece)
        except OSError:
            return


@pytest.mark.parametrize("upgrade", [H2C, H2C.replace(b"Upgrade: h2c", b"uPGRADE:\th2c"), WEBSOCKET], ids=str)
def test_upgrade_is_ignored_and_its_body_read_in_one_packet_or_many(service: RunningService, upgrade: bytes) -> None:
    data = request(headers=upgrade)
    with connected(service) as sock:
        for cuts in ((), (data.index(b"\r\n\r\n") + 4,), (data.index(b"Upgrade"), len(data) - 7), range(1, len(data))):
            for start, end in zip((0, *cuts), (*cuts, len(data)), strict=True):
                sock.sendall(data[start:end])
                if 0 < len(cuts) < 5:
                    time.sleep(0.05)
            response, document = read_answer(sock)
            assert response.status == 200, document
            assert response.headers["connection"] is None


def test_chunked_body_behind_an_upgrade_is_read(service: RunningService) -> None:
    half = len(BODY) // 2
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (BODY[:half], BODY[half:], b""))
    head = b"POST /predict/dummy HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + H2C
    with connected(service) as sock:
        sock.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks[:20])
        time.sleep(0.05)
        response, _ = ask(sock, chunks[20:])
        assert response.status == 200


def test_pipelined_requests_with_upgrades_are_answered_once_each_in_their_order(service: RunningService) -> None:
    data = b"".join(
        request(headers=upgrade + b"X-Request-Id: r%d\r\n" % i, path=path)
        for i, (upgrade, path) in enumerate(
            [(H2C, "/predict/slow"), (b"", "/predict/dummy"), (H2C, "/predict/dummy"), (WEBSOCKET, "/nowhere")]
        )
    )
    with connected(service) as sock:
        sock.sendall(data)
        answers = [read_answer(sock)[0] for _ in range(4)]
        assert [answer.headers["x-request-id"] for answer in answers] == ["r0", "r1", "r2", "r3"]
        assert [answer.status for answer in answers] == [200, 200, 200, 404]
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):  # no fifth answer, and no end
            sock.recv(1)


@pytest.mark.parametrize(("path", "status"), [(b"/predict/dummy", 405), (b"/nowhere", 404), (b"/livez", 200)])
def test_websocket_gets_a_plain_answer_and_the_connection_goes_on(
    service: RunningService, path: bytes, status: int
) -> None:
    with connected(service) as sock:
        response, _ = ask(sock, b"GET %b HTTP/1.1\r\nHost: x\r\n%b\r\n" % (path, WEBSOCKET))
        assert response.status == status
        assert ask(sock, request())[0].status == 200


def test_endless_header_is_refused_before_it_takes_memory(service: RunningService) -> None:
    before = service.rss_bytes()
    with connected(service) as sock:
        sock.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Long: ")
        flood(sock, b"a" * 2**20, 100)
        assert service.rss_bytes() - before < 8 * 2**20
    with connected(service) as sock:
        sock.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * (2 * MAX_HEAD_BYTES))
        assert_refused(sock, 431, "request_header_fields_too_large")
    assert 'zto_refusals_total{code="request_header_fields_too_large"}' in httpx.get(f"{service.url}/metrics").text


@pytest.mark.parametrize(
    "head",
    [
        b"GET /livez HTTP/1.1\r\n" + b"".join(b"X-%d: 1\r\n" % i for i in range(MAX_HEADERS + 1)),
        b"GET /livez HTTP/1.1\r\n" + b"".join(b"X-%d: %b\r\n" % (i, b"v" * 8192) for i in range(8)),
        b"GET /livez?%b HTTP/1.1\r\n" % (b"q" * MAX_HEAD_BYTES),
        b"GET /livez HTTP/1.1\r\n" + H2C + b"".join(b"X-%d: 1\r\n" % i for i in range(MAX_HEADERS)),
        b"\r\n" * MAX_HEAD_BYTES,
    ],
    ids=["many headers", "large headers", "a long target", "many headers and an upgrade", "empty lines"],
)
def test_head_beyond_its_limits_is_refused(service: RunningService, head: bytes) -> None:
    with connected(service) as sock:
        sock.sendall(head + b"\r\n")
        assert_refused(sock, 431, "request_header_fields_too_large")


def test_head_within_its_limits_is_taken(service: RunningService) -> None:
    with connected(service) as sock:
        for headers in (
            b"".join(b"X-%d: 1\r\n" % i for i in range(MAX_HEADERS - 3)),
            b"X-Long: %b\r\n" % (b"v" * (MAX_HEAD_BYTES - 200)),
            b"X-Long: %b\r\n" % (b"v" * (MAX_HEAD_BYTES - 400)) + H2C,
        ):
            assert ask(sock, request(headers=headers))[0].status == 200


@pytest.mark.parametrize(
    "piece", [b"X: 1\r\n", b"X: " + b"a" * 2**20 + b"\r\n", b"a" * 2**20], ids=["many", "large", "one"]
)
def test_trailers_without_end_are_refused(service: RunningService, piece: bytes) -> None:
    before = service.rss_bytes()
    with connected(service) as sock:
        sock.sendall(request().split(b"Content-Length")[0] + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\nX: ")
        flood(sock, piece, 3 * 2**20 // len(piece) + 1)
        assert_refused(sock, 431, "request_header_fields_too_large")
    assert service.rss_bytes() - before < 8 * 2**20


@pytest.mark.parametrize("path", ["/predict/dummy", "/v1/models/dummy:predict"], ids=["the short way", "the long way"])
def test_trailer_is_no_header(service: RunningService, path: str) -> None:
    data = b"%x\r\n%b\r\n0\r\nX-Request-Id: trailer\r\nX-Request-Timeout-Ms: nonsense\r\n\r\n" % (len(BODY), BODY)
    with connected(service) as sock:
        head = request(path=path).split(b"Content-Length")[0]
        response, _ = ask(sock, head + b"Transfer-Encoding: chunked\r\n\r\n" + data)
        assert response.status == 200
        assert response.headers["x-request-id"] != "trailer"


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "bad_request"),
        (b"hello\r\n\r\n", 400, "bad_request"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "bad_request"),
        (b"GET /\xff\xfe HTTP/1.1\r\n\r\n", 400, "bad_request"),
        (request().replace(b"Content-Length: ", b"Content-Length: x"), 400, "bad_request"),
        (b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n", 501, "not_implemented"),
    ],
    ids=["TLS", "no HTTP", "HTTP/2", "a target that is no ASCII", "a length that is no number", "CONNECT"],
)
def test_what_cannot_be_read_is_answered_with_a_problem(
    service: RunningService, data: bytes, status: int, code: str
) -> None:
    with connected(service) as sock:
        sock.sendall(data)
        assert_refused(sock, status, code)


@pytest.mark.parametrize("path", [b"/v2/models/dummy/infer", b"/v1/models/dummy:predict?x=1"])
@pytest.mark.parametrize(
    "rest",
    [
        b"Transfer-Encoding: chunked\r\n\r\nno size\r\n",
        b"Content-Length: -5\r\n\r\n",
        b"X: " + b"a" * (MAX_HEAD_BYTES + 1),
    ],
)
def test_what_cannot_be_read_is_answered_in_the_form_of_the_open_inference_protocol_at_its_doors(
    service: RunningService, path: bytes, rest: bytes
) -> None:
    with connected(service) as sock:
        response, told = ask(sock, b"POST %b HTTP/1.1\r\nHost: x\r\n%b" % (path, rest))
        assert response.status in (400, 431)
        assert response.headers["content-type"] == "application/json"
        assert response.headers["connection"] == "close"
        assert set(told) == {"error"}
        assert told["error"]


def test_who_is_refused_is_not_told_to_go_on_with_its_body(service: RunningService) -> None:
    head = request().split(b"Content-Length")[0] + b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
    with connected(service) as sock:
        sock.sendall(head + b"no size\r\n")  # in one packet: refused before the application has looked for a body
        assert_refused(sock, 400, "bad_request")
    assert "Traceback" not in service.log()


def test_refusal_comes_behind_the_answers_to_what_was_read_before(service: RunningService) -> None:
    good = request(path="/predict/slow")
    with connected(service) as sock:
        sock.sendall(good + request() + b"nonsense\r\n\r\n")
        assert [read_answer(sock)[0].status for _ in range(2)] == [200, 200]
        assert_refused(sock, 400, "bad_request")
    chunked = request().split(b"Content-Length")[0] + b"Transfer-Encoding: chunked\r\n\r\n"
    for before in ([], [good]):
        with connected(service) as sock:
            sock.sendall(b"".join(before) + chunked + b"1\r\n{\r\nzz\r\n")
            assert [read_answer(sock)[0].status for _ in before] == [200 for _ in before]
            assert_refused(sock, 400, "bad_request")


def test_what_still_waits_at_the_end_is_answered_with_503(tmp_path: Path) -> None:
    # one is partly run when the time is over, one waits in the queue, and of one the body never comes
    folder = dummy_bundle(tmp_path, "slow", behavior={"heeds_faults": True}, rows=1, max_rows=1)
    many = json.dumps({"instances": json.loads(BODY)["instances"] * 20}).encode()
    with (
        serve(tmp_path, shutdown_s=1, run_on="thread", drain_s=0) as running,
        fault(folder, fault="slow", sleep_s=0.5),
    ):
        url = httpx.URL(running.url)
        with connected(running) as runs, connected(running) as waits, connected(running) as uploads:
            runs.sendall(request(body=many, path="/predict/slow"))
            wait_until_read(running, runs)
            waits.sendall(request(body=many, path="/predict/slow"))
            uploads.sendall(request(path="/predict/slow")[:-1])
            wait_until_read(running, waits, uploads)
            running.process.send_signal(signal.SIGTERM)
            for sock in (runs, waits, uploads):
                response, document = read_answer(sock)
                assert response.status == document["status"] == 503
                assert response.headers["content-type"] == "application/problem+json"
                assert response.headers["connection"] == "close"
                assert int(response.headers["retry-after"]) >= 1
                assert "shutting down" in document["detail"]
        assert running.process.wait(30) == 0
        assert "Traceback" not in running.log()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((url.host, url.port or 80))


def test_leaving_takes_its_time_by_the_clock_where_batches_block_the_loop(tmp_path: Path) -> None:
    folder = dummy_bundle(tmp_path, "slow", behavior={"heeds_faults": True}, rows=1, max_rows=1)
    rows = 60  # 24 s of batches, each of which blocks the loop
    body = json.dumps({"instances": json.loads(BODY)["instances"] * rows}).encode()
    with (
        serve(tmp_path, run_on="loop", drain_s=0, shutdown_s=1) as running,
        fault(folder, fault="slow", sleep_s=0.4),
        connected(running) as sock,
    ):
        sock.sendall(request(body=body, path="/predict/slow"))
        wait_until_read(running, sock)
        running.process.send_signal(signal.SIGTERM)
        assert read_answer(sock)[0].status == 503  # 200 were it to stay for all batches
        assert running.process.wait(30) == 0
