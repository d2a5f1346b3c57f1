"""Bodies that are encoded, and answers that are, as asked: by the short way and the long one, and bombs by none."""

import gzip
import json
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.client import HTTPResponse
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.support.bundles import dummy_bundle
from tests.support.committed import NAMES
from tests.support.raw_http import BODY, MODEL, PICTURE, chunk, chunked, connected, read_answer, request
from tests.support.server import RunningService, serve
from tests.support.workers import wait_for

JSON = {"content-type": "application/json"}
MIB = 2**20


def raw_deflate(data: bytes) -> bytes:
    return zlib.compress(data, 6, -zlib.MAX_WBITS)


def in_two_members(data: bytes) -> bytes:
    return gzip.compress(data[:20]) + gzip.compress(b"") + gzip.compress(data[20:])


ENCODED: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("X-GZip", gzip.compress),
    "several members": ("gzip", in_two_members),
    "zlib": ("deflate", zlib.compress),
    "raw deflate": ("deflate", raw_deflate),
    "not at all": ("identity", bytes),
}


@pytest.fixture(scope="module")
def dummies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    models = tmp_path_factory.mktemp("models")
    dummy_bundle(models, "dummy")
    with serve(models, default_model="dummy") as running:
        yield running


@pytest.fixture(scope="module")
def encoding(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service that encodes every answer where it may."""
    models = tmp_path_factory.mktemp("encoding")
    dummy_bundle(models, "dummy")
    with serve(models, compress_from_bytes=0) as running:
        yield running


def peak_bytes(service: RunningService) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{service.pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


@pytest.mark.parametrize("form", ENCODED)
@pytest.mark.parametrize("path", [MODEL, "/predict"])
@pytest.mark.parametrize("in_chunks", [False, True])
def test_an_encoded_body_is_answered_as_the_plain_one_is(
    dummies: RunningService, form: str, path: str, in_chunks: bool
) -> None:
    coding, encode = ENCODED[form]
    encoded = encode(BODY)
    content = (encoded[i : i + 7] for i in range(0, len(encoded), 7)) if in_chunks else encoded
    with httpx.Client(base_url=dummies.url) as client:
        plain = client.post(path, content=BODY, headers=JSON)
        answer = client.post(path, content=content, headers=JSON | {"content-encoding": coding})
    assert plain.status_code == answer.status_code == 200
    assert answer.json() == plain.json()


@pytest.mark.parametrize("form", ENCODED)
@pytest.mark.parametrize("version", ["", "/versions/1"])
def test_the_open_inference_protocol_reads_and_writes_encoded_bodies_too(
    encoding: RunningService, form: str, version: str
) -> None:
    """The length of the JSON before the bytes of tensors is that of the inflated body, both ways."""
    name = httpx.get(f"{encoding.url}/models/dummy").json()["inputs"][0]["name"]
    raw = np.array(PICTURE, "<f4").tobytes()
    described = {"name": name, "datatype": "FP32", "shape": [1, 2, 3], "parameters": {"binary_data_size": len(raw)}}
    header = json.dumps({"inputs": [described], "parameters": {"binary_data_output": True}}).encode()
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(header))}
    coding, encode = ENCODED[form]
    url = f"{encoding.url}/v2/models/dummy{version}/infer"
    plain = httpx.post(url, content=header + raw, headers=headers | {"accept-encoding": "identity"})
    answer = httpx.post(
        url,
        content=encode(header + raw),
        headers=headers | {"content-encoding": coding, "accept-encoding": "gzip, identity;q=0"},
    )
    assert plain.status_code == answer.status_code == 200, plain.text
    assert "content-encoding" not in plain.headers
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.content == plain.content
    length = "inference-header-content-length"
    assert answer.headers[length] == plain.headers[length]
    for bad, status in ((b"nonsense", 400), (gzip.compress(header + raw)[:-9], 400)):
        refused = httpx.post(url, content=bad, headers=headers | {"content-encoding": "gzip"})
        assert refused.status_code == status
        assert "gzip" in refused.json()["error"]
    refused = httpx.post(url, content=header + raw, headers=headers | {"content-encoding": "br"})
    assert (refused.status_code, refused.headers["accept-encoding"]) == (415, "gzip, deflate")


@pytest.mark.parametrize("rows", [1, 500], ids=["on the loop", "on a thread"])
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_plain_bytes_and_large_bodies_may_be_encoded_too(dummies: RunningService, rows: int, coding: str) -> None:
    # noise, so that the encoded body is large as well
    raw = np.random.default_rng(0).uniform(0, 255, (rows, 2, 3)).astype("<f4").tobytes() * (20 if rows > 1 else 1)
    encode = gzip.compress if coding == "gzip" else zlib.compress
    headers = {"content-type": "application/octet-stream", "accept": "application/octet-stream"}
    url = f"{dummies.url}{MODEL}"
    many = {"instances": [{"image": PICTURE}] * rows * 2}
    with httpx.Client(timeout=30) as client:
        for content, told in ((raw[: 24 * 1000], headers), (json.dumps(many).encode(), JSON)):
            plain = client.post(url, content=content, headers=told)
            answer = client.post(url, content=encode(content), headers=told | {"content-encoding": coding})
            assert plain.status_code == answer.status_code == 200, answer.text
            assert answer.content == plain.content


@pytest.mark.parametrize("name", NAMES)
def test_every_model_reads_its_example_encoded(client: httpx.Client, name: str) -> None:
    body = json.dumps(client.get(f"/models/{name}").json()["example"]).encode()
    plain = client.post(f"/predict/{name}", content=body, headers=JSON)
    answer = client.post(f"/predict/{name}", content=gzip.compress(body), headers=JSON | {"content-encoding": "gzip"})
    assert answer.status_code == 200
    assert answer.json() == plain.json()


@pytest.mark.parametrize(
    ("headers", "body", "status", "code", "told"),
    [
        (b"Content-Encoding: gzip\r\n", gzip.compress(BODY)[:-9], 400, "malformed_body", "cut short"),
        (b"Content-Encoding: gzip\r\n", gzip.compress(BODY) + b"more", 400, "malformed_body", "gzip"),
        (b"Content-Encoding: deflate\r\n", zlib.compress(BODY) + b"more", 400, "malformed_body", "goes on"),
        (b"Content-Encoding: gzip\r\n", gzip.compress(BODY)[:-8] + bytes(8), 400, "malformed_body", "data check"),
        (b"Content-Encoding: gzip\r\n", BODY, 400, "malformed_body", "header check"),
        (b"Content-Encoding: gzip\r\n", b"", 400, "malformed_body", "empty"),
        (b"Content-Encoding: gzip\r\n", gzip.compress(b""), 400, "malformed_body", "JSON"),
        (b"Content-Encoding: gzip\r\n", gzip.compress(gzip.compress(BODY)), 400, "malformed_body", "UTF-8"),
        (b"Content-Encoding: gzip, gzip\r\n", gzip.compress(gzip.compress(BODY)), 415, None, "2 times"),
        (b"Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n", gzip.compress(BODY), 415, None, "more than one"),
        (b"Content-Encoding: br\r\n", BODY, 415, None, "'br'; gzip and deflate are read"),
        (b"Content-Encoding: zstd\r\n", BODY, 415, None, "gzip and deflate are read"),
    ],
    ids=[
        "cut short", "garbage behind gzip", "garbage behind deflate", "wrong sums", "no gzip", "empty",
        "nothing, encoded", "encoded twice and said once", "encoded twice", "in two headers", "br", "zstd",
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", [MODEL, "/predict"])
def test_a_bad_encoding_is_told_and_the_connection_goes_on(
    dummies: RunningService, path: str, headers: bytes, body: bytes, status: int, code: str | None, told: str
) -> None:
    in_chunks = chunked(*(chunk(body[i : i + 5]) for i in range(0, len(body), 5)), headers=headers, path=path)
    with connected(dummies) as sock:
        for data in (request(body, headers=headers, path=path), in_chunks):
            sock.sendall(data)
            response, problem = read_answer(sock)
            assert response.status == problem["status"] == status, problem
            assert problem["code"] == (code or "unsupported_content_encoding")
            assert told in problem["detail"]
            assert response.headers["accept-encoding"] == (None if code else "gzip, deflate")
            sock.sendall(request())
            assert read_answer(sock)[0].status == 200


def bomb(num_bytes: int, form: str) -> bytes:
    """A body of a thousandth of the bytes that it inflates to; the same full block again and again."""
    stream = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    block = stream.compress(bytes(MIB)) + stream.flush(zlib.Z_FULL_FLUSH)
    blocks = block * (num_bytes // MIB) + raw_deflate(b"")
    if form == "gzip":
        return gzip.compress(b"")[:10] + blocks + struct.pack("<II", 0, num_bytes & 0xFFFFFFFF)
    return blocks if form == "raw deflate" else b"\x78\xda" + blocks + b"\0\0\0\0"


@pytest.mark.parametrize("form", ["gzip", "zlib", "raw deflate"])
def test_a_bomb_is_refused_and_never_takes_the_memory(dummies: RunningService, form: str) -> None:
    body = bomb(1024 * MIB, form)
    assert len(body) < 1.2 * MIB
    headers = b"Content-Encoding: %b\r\n" % (b"gzip" if form == "gzip" else b"deflate")
    with ExitStack() as stack:
        socks = [stack.enter_context(connected(dummies)) for _ in range(6)]
        for attempt in range(2):
            rss, peak = dummies.rss_bytes(), peak_bytes(dummies)
            for sock in socks:
                sock.sendall(request(body, headers=headers))
            for sock in socks:
                response, problem = read_answer(sock)
                assert (response.status, problem["code"]) == (413, "body_too_large")
                assert "inflates" in problem["detail"]
            if attempt:
                # the encoded bodies, and on each of two threads no more than the largest body that is taken
                assert peak_bytes(dummies) - peak < len(socks) * 2 * len(body) + 2 * 9 * MIB
                wait_for(lambda: dummies.rss_bytes() - rss < 4 * MIB, dummies)  # noqa: B023  now, not later
        for sock in socks:
            sock.sendall(request())
            assert read_answer(sock)[0].status == 200


def test_what_bodies_inflate_to_is_counted_with_all_that_come_in(tmp_path: Path) -> None:
    dummy_bundle(tmp_path)
    with serve(tmp_path, max_incoming_bytes=MIB) as service, httpx.Client(base_url=service.url) as client:

        def ask(num_bytes: int) -> httpx.Response:
            headers = JSON | {"content-encoding": "gzip"}
            return client.post(MODEL, content=gzip.compress(BODY.ljust(num_bytes)), headers=headers)

        for _ in range(3):
            refused = ask(2 * MIB)
            assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
            assert int(refused.headers["retry-after"]) >= 1
            assert ask(MIB * 9 // 10).status_code == 200  # what was refused has given back all


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        ("gzip", "gzip"), ("deflate", "deflate"), ("gzip, deflate, br", "gzip"), ("*", "gzip"),
        ("gzip;q=0.1, deflate;q=0.9", "deflate"), ("gzip;q=0", None), ("br", None), ("", None), ("identity", None),
        ("identity;q=0, deflate", "deflate"), ("*;q=0", None),
    ],
)  # fmt: skip
def test_answers_are_encoded_as_the_client_likes_on_every_way(
    encoding: RunningService, accept: str, coding: str | None
) -> None:
    big = json.dumps({"instances": [{"image": PICTURE}] * 3}).encode()
    asked = [
        ("POST", MODEL, big, JSON), ("POST", f"{MODEL}?version=1", big, JSON), ("GET", "/openapi.json", None, {}),
        ("GET", "/models", None, {}), ("GET", "/models/dummy", None, {}), ("GET", "/metrics", None, {}),
        ("GET", "/", None, {}), ("GET", "/nowhere", None, {}), ("POST", "/predict/nobody", big, JSON),
    ]  # fmt: skip
    with httpx.Client(base_url=encoding.url) as client:
        for method, path, content, headers in asked:
            ask = client.build_request(method, path, content=content, headers=headers | {"accept-encoding": accept})
            response = client.send(ask, stream=True)
            raw = b"".join(response.iter_raw())
            plain = client.request(method, path, content=content, headers=headers | {"accept-encoding": "identity"})
            assert int(response.headers["content-length"]) == len(raw)
            assert response.status_code == plain.status_code
            assert response.headers["content-type"] == plain.headers["content-type"]
            assert response.headers.get("content-encoding") == coding
            assert plain.headers.get("content-encoding") is None
            if coding is not None:
                raw = gzip.decompress(raw) if coding == "gzip" else zlib.decompress(raw)
            if coding is not None or method == "GET":
                assert response.headers["vary"] == "accept-encoding"
            if path != "/metrics" and response.status_code == 200:
                assert raw == plain.content
            assert raw.startswith(plain.content[:10])


def test_encoded_answers_of_the_short_and_the_long_way_have_the_same_headers(encoding: RunningService) -> None:
    headers = JSON | {"accept-encoding": "gzip"}
    short = httpx.post(f"{encoding.url}{MODEL}", content=BODY, headers=headers)
    long = httpx.post(f"{encoding.url}{MODEL}?version=1", content=BODY, headers=headers)
    assert sorted(name for name, _ in short.headers.raw) == sorted(name for name, _ in long.headers.raw)
    assert short.headers["content-encoding"] == long.headers["content-encoding"] == "gzip"
    assert short.json() == long.json()


def test_bytes_are_encoded_only_where_they_shrink(client: httpx.Client) -> None:
    body = np.zeros((600, 28, 28), "<f4").tobytes()
    headers = {"content-type": "application/octet-stream", "accept": "application/octet-stream"}
    zeros = client.post("/predict/cnn", content=body, headers=headers | {"accept-encoding": "gzip"})
    assert zeros.headers["content-encoding"] == "gzip"  # the same row 600 times
    assert len(zeros.content) == 600 * 10 * 4
    noise = np.random.default_rng(0).uniform(0, 255, (600, 28, 28)).astype("<f4").tobytes()
    noisy = client.post("/predict/autoencoder?tensor=code", content=noise, headers=headers)
    assert noisy.status_code == 200
    assert "content-encoding" not in noisy.headers


def test_small_answers_go_as_they_are_unless_that_is_refused(client: httpx.Client) -> None:
    body = json.dumps(client.get("/models/cnn").json()["example"]).encode()
    for accept, coding in (("gzip, deflate", None), ("gzip, identity;q=0", "gzip"), ("gzip, *;q=0", "gzip")):
        for path in ("/predict/cnn", "/predict/cnn?version=2", "/livez"):
            method = "GET" if path == "/livez" else "POST"
            content = None if method == "GET" else body
            response = client.request(method, path, content=content, headers=JSON | {"accept-encoding": accept})
            assert response.status_code == 200
            assert response.headers.get("content-encoding") == coding
    assert client.get("/openapi.json", headers={"accept-encoding": "gzip"}).headers["content-encoding"] == "gzip"


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_an_answer_without_a_body_is_not_encoded(encoding: RunningService, path: str) -> None:
    response = httpx.head(f"{encoding.url}{path}", headers={"accept-encoding": "gzip, identity;q=0"})
    assert response.status_code == 200
    assert "content-encoding" not in response.headers


def test_http_1_0_may_send_encoded_bodies_and_is_answered_encoded(encoding: RunningService) -> None:
    headers = b"Content-Encoding: gzip\r\nAccept-Encoding: gzip\r\nConnection: keep-alive\r\n"
    with connected(encoding) as sock:
        sock.sendall(request(gzip.compress(BODY), headers=headers, version=b"1.0"))
        response = HTTPResponse(sock)
        response.begin()
        assert response.status == 200
        assert response.headers["connection"] == "close"
        assert json.loads(gzip.decompress(response.read()))["model"] == "dummy"
        assert sock.recv(1) == b""
