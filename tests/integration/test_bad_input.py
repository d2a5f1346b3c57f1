"""Bad input over HTTP: each is refused with its code and place, and the next good request is answered."""

import base64
import io
import json
import select
import socket
import struct
import zlib
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.support.bundles import dummy_bundle, held
from tests.support.server import RunningService, serve
from tests.support.workers import wait_for, wait_until_read

MODEL = "/predict/mlp"
JSON = {"content-type": "application/json"}
ROW = [0] * 28
GOOD = [ROW] * 28


def image_with(y: int, x: int, value: object) -> list[list[object]]:
    image: list[list[object]] = [list(row) for row in GOOD]
    image[y][x] = value
    return image


def body_with(number: str) -> bytes:
    """A good body in which one number, row 3, column 7, stands as the given text."""
    return json.dumps({"instances": [{"image": image_with(3, 7, "@")}]}).replace('"@"', number).encode()


def instances(image: object) -> bytes:
    return json.dumps({"instances": [{"image": image}]}).encode()


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def huge_png(side: int = 20_000) -> bytes:
    """A PNG whose header claims ``side`` x ``side`` pixels, and whose data would inflate to them."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    deflate = zlib.compressobj(9)
    row = bytes(side + 1)
    data = b"".join(deflate.compress(row) for _ in range(side)) + deflate.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


PIXEL = "#/instances/0/image/3/7"
GOOD_BODY = instances(GOOD)

# what, body, status, code, the first fault's pointer and code
BAD_JSON: list[tuple[str, bytes, int, str, str | None, str | None]] = [
    ("nothing at all", b"", 400, "malformed_body", None, None),
    ("not JSON", b"hello", 400, "malformed_body", None, None),
    ("half of JSON", GOOD_BODY[:500], 400, "malformed_body", None, None),
    ("not UTF-8", b'{"instances": "\xff"}', 400, "malformed_body", None, None),
    ("a byte order mark", b"\xef\xbb\xbf" + GOOD_BODY, 400, "malformed_body", None, None),
    ("UTF-16", GOOD_BODY.decode().encode("utf-16"), 400, "malformed_body", None, None),
    ("a repeated key", b'{"instances": [], ' + GOOD_BODY[1:], 400, "malformed_body", None, None),
    ("a repeated key inside", GOOD_BODY.replace(b'{"image"', b'{"image": 1, "image"'), 400, "malformed_body", None,
     None),
    ("nesting without end", b"[" * 20_000, 400, "malformed_body", None, None),
    ("a million brackets", b"[" + b"[]," * 1_000_000 + b"[]]", 413, "too_many_values", None, None),
    ("a million keys", b"{" + b'"a":{},' * 1_000_000 + b'"a":1}', 413, "too_many_values", None, None),
    ("four million numbers", b"[" + b"0," * 4_000_000 + b"0]", 413, "too_many_values", None, None),
    ("a number of 5,000 digits", body_with("1" * 5000), 422, "invalid_input", PIXEL, "not_finite"),
    ("a list", b"[1, 2]", 422, "invalid_input", "#", "model_type"),
    ("a number", b"7", 422, "invalid_input", "#", "model_type"),
    ("another shape", b'{"inputs": []}', 422, "invalid_input", "#/instances", "missing"),
    ("a key too many", GOOD_BODY[:-1] + b', "mode": 1}', 422, "invalid_input", "#/mode", "extra_forbidden"),
    ("a lone surrogate as a key", GOOD_BODY[:-1] + b', "\\ud800": 1}', 422, "invalid_input", None, "string_unicode"),
    ("another model's name", GOOD_BODY[:-1] + b', "model": "cat"}', 422, "invalid_input", "#/model", "literal_error"),
    ("no instances", b'{"instances": []}', 422, "invalid_input", "#/instances", "too_short"),
    ("instances of null", b'{"instances": null}', 422, "invalid_input", "#/instances", "list_type"),
    ("an instance of null", b'{"instances": [null]}', 422, "invalid_input", "#/instances/0", "model_type"),
    ("27 rows", instances(GOOD[:27]), 422, "invalid_input", "#/instances/0/image", "wrong_shape"),
    ("29 rows", instances([*GOOD, ROW]), 422, "invalid_input", "#/instances/0/image", "wrong_shape"),
    ("a ragged row", instances([*GOOD[:27], ROW[:27]]), 422, "invalid_input", "#/instances/0/image/27", "wrong_shape"),
    ("rows that flatten to the right count", instances([*GOOD[:26], ROW[:27], [*ROW, 0]]), 422, "invalid_input",
     "#/instances/0/image/26", "wrong_shape"),
    ("one row of 784", instances([[0] * 784]), 422, "invalid_input", "#/instances/0/image", "wrong_shape"),
    ("a flat list of 784", instances([0] * 784), 422, "invalid_input", "#/instances/0/image", "wrong_shape"),
    ("one level of brackets too many", instances([GOOD]), 422, "invalid_input", "#/instances/0/image", "wrong_shape"),
    ("brackets around every number", instances([[[v] for v in row] for row in GOOD]), 422, "invalid_input",
     "#/instances/0/image/0/0", "wrong_type"),
    ("brackets that move a number", instances([[[], [0, 0], *ROW[2:]], *GOOD[1:]]), 422, "invalid_input",
     "#/instances/0/image/0/0", "wrong_type"),
    ("a string among the numbers", body_with('"1"'), 422, "invalid_input", PIXEL, "wrong_type"),
    ("a boolean among the numbers", body_with("true"), 422, "invalid_input", PIXEL, "wrong_type"),
    ("null among the numbers", body_with("null"), 422, "invalid_input", PIXEL, "wrong_type"),
    ("an object among the numbers", body_with("{}"), 422, "invalid_input", PIXEL, "wrong_type"),
    ("NaN", body_with("NaN"), 422, "invalid_input", PIXEL, "not_finite"),
    ("Infinity", body_with("Infinity"), 422, "invalid_input", PIXEL, "not_finite"),
    ("-Infinity", body_with("-Infinity"), 422, "invalid_input", PIXEL, "not_finite"),
    ("1e400", body_with("1e400"), 422, "invalid_input", PIXEL, "not_finite"),
    ("1e39", body_with("1e39"), 422, "invalid_input", PIXEL, "out_of_range"),
    ("-1", body_with("-1"), 422, "invalid_input", PIXEL, "out_of_range"),
    ("256", body_with("256"), 422, "invalid_input", PIXEL, "out_of_range"),
    ("a hair over 255", body_with("255.00000000001"), 422, "invalid_input", PIXEL, "out_of_range"),
    ("an integer beyond 64 bits", body_with("1" * 400), 422, "invalid_input", PIXEL, "out_of_range"),
    ("not base64", instances("%%%"), 422, "invalid_input", "#/instances/0/image", "not_base64"),
    ("base64 of a text", instances(base64.b64encode(b"hello").decode()), 422, "invalid_input", "#/instances/0/image",
     "not_an_image"),
    ("10,001 instances", json.dumps({"instances": [{}] * 10_001}).encode(), 413, "too_many_instances", None, None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "status", "code", "pointer", "fault"), [pytest.param(*case[1:], id=case[0]) for case in BAD_JSON]
)
@pytest.mark.parametrize("path", [MODEL, "/predict"])
def test_bad_json_is_refused_with_its_place(
    client: httpx.Client, path: str, body: bytes, status: int, code: str, pointer: str | None, fault: str | None
) -> None:
    if path == "/predict" and status != 400 and body.startswith(b"{") and b'"model"' not in body:
        body = b'{"model": "mlp", ' + body[1:]
    response = client.post(path, content=body, headers=JSON)
    if path == "/predict" and code == "invalid_input" and pointer in ("#", "#/model"):
        expect_problem(response, 404 if b'"cat"' in body else 422, None)
    else:
        problem = expect_problem(response, status, code)
        if pointer is not None:
            assert problem["errors"][0]["pointer"] == pointer
        if fault is not None:
            assert problem["errors"][0]["code"] == fault
    expect_good(client)


def expect_problem(response: httpx.Response, status: int, code: str | None) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["status"] == status
    assert problem["request_id"] == response.headers["x-request-id"]
    assert problem["detail"]
    if code is not None:
        assert problem["code"] == code
        assert problem["type"] == f"urn:zero-to-one:problem:{code}"
    return problem


def expect_good(client: httpx.Client) -> None:
    response = client.post(MODEL, content=GOOD_BODY, headers=JSON)
    assert response.status_code == 200
    assert len(response.json()["predictions"]) == 1


def test_every_fault_is_named(client: httpx.Client) -> None:
    broken = image_with(0, 0, -1)
    broken[1][1] = "x"
    body = {"instances": [{"image": broken}, {}, {"image": GOOD, "label": 3}]}
    problem = expect_problem(client.post(MODEL, json=body), 422, "invalid_input")
    assert [(fault["pointer"], fault["code"]) for fault in problem["errors"]] == [
        ("#/instances/0/image/0/0", "out_of_range"),
        ("#/instances/0/image/1/1", "wrong_type"),
        ("#/instances/1/image", "missing"),
        ("#/instances/2/label", "extra_forbidden"),
    ]


def test_a_million_faults_make_a_short_answer(client: httpx.Client) -> None:
    bad = np.full((28, 28), -1).tolist()
    response = client.post(MODEL, json={"instances": [{"image": bad}] * 1000})
    problem = expect_problem(response, 422, "invalid_input")
    assert len(problem["errors"]) == 64
    assert "more)" in problem["detail"]
    assert len(response.content) < 20_000


@pytest.mark.parametrize("path", [MODEL, "/predict", "/models", "/livez", "/nothing/here", "/predict/nobody"])
def test_body_over_the_limit_is_refused_at_every_door_before_it_is_read(service: RunningService, path: str) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000000000\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(head.encode() + b"{")
        answer = read_answer(connection)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"body_too_large" in answer


def test_chunked_body_over_the_limit_is_refused_while_it_comes(service: RunningService) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    head = f"POST {MODEL} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    sent = 0
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(head.encode())
        while sent < 64 * 2**20 and not select.select([connection], [], [], 0)[0]:
            connection.sendall(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
            sent += 0x10000
        answer = read_answer(connection)
    assert answer.startswith(b"HTTP/1.1 413")
    assert sent < 32 * 2**20


def read_answer(connection: socket.socket) -> bytes:
    """Read one whole answer."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(65536)
    head, _, body = answer.partition(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length"))
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/predict/nobody", 404, "unknown_model"),
        (f"{MODEL}?version=99", 404, "unknown_version"),
        (f"{MODEL}?version=", 404, "unknown_version"),
        (f"{MODEL}?version=../1", 404, "unknown_version"),
        (f"{MODEL}?top_k=0", 422, "invalid_input"),
        (f"{MODEL}?top_k=two", 422, "invalid_input"),
        (f"{MODEL}?topk=3", 422, "invalid_input"),
    ],
)
def test_unknown_names_and_impossible_options_are_told(client: httpx.Client, path: str, status: int, code: str) -> None:
    problem = expect_problem(client.post(path, content=GOOD_BODY, headers=JSON), status, code)
    if code == "invalid_input":
        assert problem["errors"][0]["pointer"] == f"query:{path.split('?')[1].split('=')[0]}"
    if code == "unknown_model":
        assert "mlp" in problem["detail"]
    expect_good(client)


def test_body_that_names_no_model_is_told_which_there_are(client: httpx.Client) -> None:
    problem = expect_problem(client.post("/predict", content=GOOD_BODY, headers=JSON), 422, "invalid_input")
    assert problem["errors"][0]["pointer"] == "#/model"
    assert "mlp" in problem["errors"][0]["detail"]
    wrong = GOOD_BODY[:-1] + b', "model": 3}'
    problem = expect_problem(client.post("/predict", content=wrong, headers=JSON), 422, "invalid_input")
    assert problem["errors"][0]["code"] == "wrong_type"


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "image/gif", "nonsense"])
def test_other_media_types_are_refused_and_the_right_ones_named(client: httpx.Client, media_type: str) -> None:
    response = client.post(MODEL, content=GOOD_BODY, headers={"content-type": media_type})
    problem = expect_problem(response, 415, "unsupported_media_type")
    assert "application/json" in problem["detail"]
    assert "image/png" in problem["detail"]
    expect_good(client)


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("a truncated PNG", png(Image.effect_noise((28, 28), 50))[:300], "damaged_image"),
        ("a text file called PNG", b"dear reader", "not_an_image"),
        ("a GIF called PNG", b"GIF89a" + bytes(50), "not_an_image"),
        ("nothing", b"", "not_an_image"),
        ("20,000 x 20,000", huge_png(), "too_many_pixels"),
    ],
)
@pytest.mark.parametrize("way", ["raw", "upload", "base64"])
def test_bad_pictures_are_refused_whichever_way_they_come(
    client: httpx.Client, service: RunningService, way: str, name: str, content: bytes, code: str
) -> None:
    expect_good(client)
    before = service.rss_bytes()
    if way == "raw":
        response = client.post(MODEL, content=content, headers={"content-type": "image/png"})
    elif way == "upload":
        response = client.post(MODEL, files={"file": ("shoe.png", content, "image/png")})
    else:
        response = client.post(MODEL, json={"instances": [{"image": base64.b64encode(content).decode()}]})
    problem = expect_problem(response, 422, "invalid_input")
    assert problem["errors"][0]["code"] == code
    assert problem["errors"][0]["pointer"] == ("#/instances/0/image" if way == "base64" else "#")
    assert service.rss_bytes() - before < 20 * 2**20  # its pixels alone would be 400 MB
    expect_good(client)


@pytest.mark.parametrize(
    ("headers", "content", "code"),
    [
        ({"content-type": "multipart/form-data"}, b"--x", "malformed_body"),
        ({"content-type": "multipart/form-data; boundary=x"}, b"not parts", "malformed_body"),
        ({"content-type": "multipart/form-data; boundary=x"}, b"--x--\r\n", "invalid_input"),
    ],
)
def test_bad_uploads_are_refused(client: httpx.Client, headers: dict[str, str], content: bytes, code: str) -> None:
    expect_problem(client.post(MODEL, content=content, headers=headers), 400 if code == "malformed_body" else 422, code)
    expect_good(client)


def test_upload_in_another_field_or_of_two_files_is_refused(client: httpx.Client) -> None:
    picture = png(Image.new("L", (28, 28)))
    other = client.post(MODEL, files={"picture": ("a.png", picture, "image/png")})
    assert expect_problem(other, 422, "invalid_input")["errors"][0]["pointer"] == "#/file"
    two = client.post(
        MODEL, files=[("file", ("a.png", picture, "image/png")), ("file", ("b.png", picture, "image/png"))]
    )
    expect_problem(two, 400, "malformed_body")


@pytest.mark.parametrize("value", ["0", "-1", "soon", "1e3", "99999999999", ""])
def test_impossible_deadlines_are_refused(client: httpx.Client, value: str) -> None:
    response = client.post(MODEL, content=GOOD_BODY, headers=JSON | {"x-request-timeout-ms": value})
    assert expect_problem(response, 422, "invalid_input")["errors"][0]["pointer"] == "header:X-Request-Timeout-Ms"


@pytest.mark.parametrize("value", ["a b", "x" * 129, 'id"quoted"', "<script>"])
def test_malformed_request_ids_are_replaced(client: httpx.Client, value: str) -> None:
    response = client.post(MODEL, content=GOOD_BODY, headers=JSON | {"x-request-id": value})
    assert response.status_code == 200
    assert response.headers["x-request-id"] != value


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [("GET", MODEL, 405, "method_not_allowed"), ("GET", "/nowhere", 404, "not_found"),
     ("DELETE", "/models", 405, "method_not_allowed"), ("GET", "/models/nobody", 404, "unknown_model")],
)  # fmt: skip
def test_what_the_router_refuses_is_a_problem_too(
    client: httpx.Client, method: str, path: str, status: int, code: str
) -> None:
    expect_problem(client.request(method, path), status, code)


def test_client_that_hangs_up_in_the_body_leaves_the_service_well(
    service: RunningService, client: httpx.Client
) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    head = f"POST {MODEL} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n"
    for _ in range(20):
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(head.encode() + GOOD_BODY[:100])
    wait_for(lambda: metric(client, 'zto_refusals_total{code="client_gone"}') >= 20, service)
    expect_good(client)
    assert "Traceback" not in service.log()


def test_request_of_a_client_that_hangs_up_while_it_waits_is_never_run(tmp_path: Path) -> None:
    folder = dummy_bundle(tmp_path, "slow", behavior={"heeds_faults": True}, rows=2, max_rows=1)
    body = json.dumps({"instances": [{"image": [[1, 2, 3], [4, 5, 6]]}]}).encode()
    head = b"POST /predict/slow HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    with serve(tmp_path, run_on="thread") as slow, httpx.Client(base_url=slow.url) as client:
        host, port = slow.url.removeprefix("http://").split(":")
        before = metric(client, "zto_batch_rows_count")
        with held(folder) as is_waiting:
            connections = [socket.create_connection((host, int(port)), timeout=30) for _ in range(6)]
            for connection in connections:
                connection.sendall(head % len(body) + body)
            wait_until_read(slow, *connections)
            wait_for(is_waiting, slow)  # the first one runs, for as long as this takes
            for connection in connections:
                connection.close()
            wait_for(lambda: metric(client, 'zto_refusals_total{code="client_gone"}') == 6, slow)
        response = client.post("/predict/slow", content=body, headers=JSON)
        assert response.status_code == 200
        assert metric(client, "zto_batch_rows_count") - before == 2


def metric(client: httpx.Client, start: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(start))
