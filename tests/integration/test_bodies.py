"""Bodies in every form that HTTP/1.1 knows: in chunks, pipelined, slow, or not at all."""

import gzip
import json
import random
import re
import socket
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from tests.support.bundles import dummy_bundle
from tests.support.raw_http import BODY, MODEL, PICTURE, chunk, chunked, connected, read_answer, request
from tests.support.server import RunningService, serve

JSON = {"content-type": "application/json"}
MIB = 2**20


@pytest.fixture(scope="module")
def dummies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    models = tmp_path_factory.mktemp("models")
    dummy_bundle(models, "dummy")
    dummy_bundle(models, "slow", behavior={"sleep_s": 0.1}, rows=2)
    with serve(models, default_model="dummy") as running:
        yield running


def refusals(service: RunningService, code: str) -> float:
    found = re.search(rf'zto_refusals_total{{code="{code}"}} (\S+)', httpx.get(f"{service.url}/metrics").text)
    return 0.0 if found is None else float(found[1])


def trickle(sock: socket.socket, answer: bytes, data: bytes) -> tuple[bytes, bool]:
    """Send something; return the answer with what has come, and whether that is all that will ever come."""
    with suppress(OSError):  # one that is closed may have an answer all the same: it was sent before
        sock.send(data)
    try:
        while received := sock.recv(65536):
            answer += received
    except BlockingIOError:
        return answer, False
    except OSError:
        pass
    return answer, True


def test_a_client_that_sends_a_byte_now_and_then_holds_nothing(tmp_path: Path) -> None:
    dummy_bundle(tmp_path)
    dummy_bundle(tmp_path, "slow", behavior={"sleep_s": 0.4}, rows=1, max_rows=1)
    long = request(json.dumps({"instances": [{"image": PICTURE}] * 10}).encode(), path="/predict/slow")
    with serve(tmp_path, head_timeout_s=1, run_on="thread") as service, ExitStack() as stack:
        # each sends what it begins with, and then one byte of the rest at a time
        head = b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Request-Id: mine\r\nX-Slow: "
        too_large = b"POST /predict/dummy HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n"
        begins = {
            "head": (head, b"a"), "silent": (head, b""), "first byte": (b"G", b""),
            "second head": (request() + head, b"a"), "second head, later": (request(), head),
            "empty lines": (b"\r\n", b"\r\n"), "empty lines, later": (request(), b"\r\n"),
            "answered already": (too_large, b"{"),
            "idle": (b"", b""), "kept alive": (request(), b""), "waits": (long, b""),
        }  # fmt: skip
        socks = {name: stack.enter_context(connected(service)) for name in begins}
        answers = dict.fromkeys(begins, b"")
        lasting = {"idle", "kept alive", "waits"}
        for name, (first, _) in begins.items():
            socks[name].sendall(first)
            socks[name].setblocking(False)
        is_open = set(begins)
        for tick in range(200):
            if is_open == lasting:
                break
            time.sleep(0.1)
            for name in sorted(is_open):
                rest = begins[name][1] * 2
                # one byte, or none
                answers[name], ends = trickle(socks[name], answers[name], rest[tick % len(rest) :][:1] if rest else b"")
                is_open -= {name} if ends else set()
        assert is_open == lasting
        for name in ("head", "silent", "first byte", "second head", "second head, later", "empty lines"):
            assert b"HTTP/1.1 408 Request Timeout\r\n" in answers[name], name
            told, _, body = answers[name].rpartition(b"\r\n\r\n")
            assert b"connection: close" in told
            assert json.loads(body)["code"] == "request_timeout"
        assert json.loads(answers["head"].rpartition(b"\r\n\r\n")[2])["request_id"] == "mine"
        assert answers["second head"].count(b"HTTP/1.1") == 2
        assert answers["answered already"].startswith(b"HTTP/1.1 413")
        for name in lasting:
            socks[name].settimeout(60)
        if not answers["waits"]:
            assert read_answer(socks["waits"])[0].status == 200
        for name in lasting:
            socks[name].sendall(request())
            assert read_answer(socks[name])[0].status == 200
        assert refusals(service, "request_timeout") == 6


@pytest.mark.parametrize("path", [MODEL, "/predict"])
def test_a_body_that_does_not_come_in_time_is_504(dummies: RunningService, path: str) -> None:
    before = refusals(dummies, "deadline_exceeded")
    with connected(dummies) as sock:
        sock.sendall(request(path=path, headers=b"X-Request-Timeout-Ms: 300\r\n")[:-10])
        response, problem = read_answer(sock)
        assert (response.status, problem["code"]) == (504, "deadline_exceeded")
    assert refusals(dummies, "deadline_exceeded") - before == 1


def test_a_body_in_single_bytes_is_read_where_its_deadline_allows(dummies: RunningService) -> None:
    encoded = gzip.compress(BODY)
    with connected(dummies) as sock:
        sock.sendall(request(encoded, headers=b"Content-Encoding: gzip\r\n")[: -len(encoded)])
        for byte in encoded:
            sock.sendall(bytes([byte]))
            time.sleep(0.002)
        assert read_answer(sock)[0].status == 200


def test_pipelined_bodies_of_every_form_are_answered_in_order_behind_a_slow_one(dummies: RunningService) -> None:
    encoded = gzip.compress(BODY)
    forms = [
        (request(path="/predict/slow", headers=b"X-Request-Id: r0\r\n"), 200),
        (request(encoded, headers=b"Content-Encoding: gzip\r\nX-Request-Id: r1\r\n"), 200),
        (chunked(chunk(BODY), headers=b"X-Request-Id: r2\r\n"), 200),
        (
            chunked(chunk(encoded[:9]), chunk(encoded[9:]), headers=b"Content-Encoding: gzip\r\nX-Request-Id: r3\r\n"),
            200,
        ),
        (request(b"nonsense", headers=b"Content-Encoding: gzip\r\nX-Request-Id: r4\r\n"), 400),
        (request(headers=b"Content-Encoding: br\r\nX-Request-Id: r5\r\n"), 415),
        (request(path="/predict/slow", headers=b"X-Request-Id: r6\r\n"), 200),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Request-Id: r7\r\n\r\n", 200),
        (request(headers=b"X-Request-Id: r8\r\n"), 200),
    ]
    data = b"".join(form for form, _ in forms)
    for step in (len(data), 100):
        with connected(dummies) as sock:
            for start in range(0, len(data), step):
                sock.sendall(data[start : start + step])
            answers = [read_answer(sock)[0] for _ in forms]
            assert [answer.headers["x-request-id"] for answer in answers] == [f"r{i}" for i in range(len(forms))]
            assert [answer.status for answer in answers] == [status for _, status in forms]


@pytest.mark.parametrize("extension", [b";name", b";name=value", b';name="quoted; value"', b";a=1;b=2"], ids=str)
def test_extensions_of_chunks_are_passed_over(dummies: RunningService, extension: bytes) -> None:
    with connected(dummies) as sock:
        for _ in range(2):
            last = b"0%b\r\nX-Trailer: 1\r\n\r\n" % extension
            sock.sendall(chunked(chunk(BODY[:9], extension), chunk(BODY[9:], extension), last=last))
            assert read_answer(sock)[0].status == 200


@pytest.mark.parametrize(
    "data",
    [
        chunked(b"%x\r\n%b\r\n" % (len(BODY) - 5, BODY)),
        chunked(b"-5\r\n%b\r\n" % BODY),
        chunked(b"0x20\r\n%b\r\n" % BODY),
        chunked(b"ffffffffffffffffff\r\n%b\r\n" % BODY),
        chunked(b"\r\n%b\r\n" % BODY),
        chunked(b"%x\r\n%b" % (len(BODY), BODY)),
        chunked(chunk(BODY), headers=b"Content-Length: %d\r\n" % len(BODY)),
        request(headers=b"Transfer-Encoding: gzip\r\n"),
        request(headers=b"Content-Length: 3\r\n"),
        chunked(chunk(BODY)).replace(b"chunked", b"chunked, chunked"),
    ],
    ids=[
        "shorter than it says", "negative", "hexadecimal as in C", "beyond 64 bits", "no size", "no end", "two lengths",
        "no chunks", "two stated lengths", "chunked twice",
    ],
)  # fmt: skip
def test_chunks_and_lengths_that_lie_are_refused_and_end_the_connection(dummies: RunningService, data: bytes) -> None:
    with connected(dummies) as sock:
        sock.sendall(data)
        response, problem = read_answer(sock)
        assert response.status == problem["status"] == 400, problem
        assert response.headers["connection"] == "close"
        assert sock.recv(1) == b""
    assert httpx.post(f"{dummies.url}{MODEL}", content=BODY, headers=JSON).status_code == 200


def test_a_chunk_that_promises_more_than_it_has_waits_for_the_deadline_alone(dummies: RunningService) -> None:
    before = dummies.rss_bytes()
    with connected(dummies) as sock:
        # a quintillion bytes are promised: nothing is set aside for them
        sock.sendall(chunked(b"fffffffffffffff\r\n", BODY, headers=b"X-Request-Timeout-Ms: 300\r\n", last=b""))
        assert read_answer(sock)[0].status == 504
    assert dummies.rss_bytes() - before < 4 * MIB


def test_whoever_asks_before_sending_is_told_to_go_on_or_refused_at_once(dummies: RunningService) -> None:
    def ask(headers: bytes, length: int) -> bytes:
        expects = headers + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % length
        return request(headers=headers).split(b"Content-Length")[0].replace(headers, b"") + expects

    encoded = gzip.compress(BODY)
    with connected(dummies) as sock:
        sock.sendall(ask(b"Content-Encoding: gzip\r\n", len(encoded)))
        goes_on = b"HTTP/1.1 100 Continue\r\n\r\n"
        assert sock.recv(len(goes_on), socket.MSG_WAITALL) == goes_on
        sock.sendall(encoded)
        assert read_answer(sock)[0].status == 200
    for headers, length, status in ((b"Content-Encoding: br\r\n", 10, 415), (b"", 10**9, 413)):
        with connected(dummies) as sock:
            sock.sendall(ask(headers, length))
            line = b"HTTP/1.1 %d" % status
            assert sock.recv(len(line), socket.MSG_PEEK | socket.MSG_WAITALL) == line
            assert read_answer(sock)[0].status == status


def test_hundreds_of_requests_of_every_size_and_fault_share_one_connection(dummies: RunningService) -> None:
    rng = random.Random(0)
    with connected(dummies) as sock:
        for number in range(300):
            padded = BODY.ljust(rng.choice([len(BODY), 500, 4000, 70_000, 200_000]))
            coding, encode = rng.choice([(b"gzip", gzip.compress), (b"deflate", zlib.compress), (b"identity", bytes)])
            headers = b"X-Request-Id: r%d\r\nContent-Encoding: %b\r\n" % (number, coding)
            fault, status = rng.choice([("", 200)] * 3 + [("cut", 400), ("unknown", 415), ("json", 400)])
            body = encode(b"[" + padded if fault == "json" else padded)
            if fault == "cut":
                body = body[:10]
            if fault == "unknown":
                headers = headers.replace(coding, b"br")
            path = rng.choice([MODEL, "/predict", f"{MODEL}?top_k=1"])
            if rng.random() < 0.3:
                cuts = sorted(rng.sample(range(len(body) + 1), 2))
                parts = [part for part in (body[: cuts[0]], body[cuts[0] : cuts[1]], body[cuts[1] :]) if part]
                data = chunked(*map(chunk, parts), headers=headers, path=path)
            else:
                data = request(body, headers=headers, path=path)
            sock.sendall(data)
            response, document = read_answer(sock)
            assert response.status == status, document
            assert response.headers["x-request-id"] == f"r{number}"
            assert response.headers["connection"] is None
