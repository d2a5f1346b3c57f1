"""Every limit of the card is met once: the answer names it, with the value that the card states."""

import base64
import io
import math
import select
import shutil
import socket
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import numpy as np
import pytest
from PIL import Image

from app.protocols.limits import Limits
from tests.support.bundles import dummy_bundle, edit_manifest, fault
from tests.support.committed import LATEST
from tests.support.kinds import kind_bundle
from tests.support.raw_http import connected, read_answer
from tests.support.server import RunningService, serve
from tests.support.workers import wait_for

SMALL = {"max_body_bytes": 2**20, "max_incoming_bytes": 2**20, "max_instances": 8, "max_queue_rows": 8}
SMALL |= {"max_image_pixels": 70_000, "head_timeout_s": 1, "timeout_ms": 2000}
IMAGE = [[1, 2, 3], [4, 5, 6]]
PICTURE, SERIES, TENSORS, TEXT = "image", "rnn", "tensors", "text_classification"
# met by no single request: a connection is closed, what follows is cut off, or 64 bodies would have to wait at once;
# the numbers of these models are fewer than their rows and lengths allow, and so are the bytes that wait for them
UNMET = {"keep_alive_s", "max_text_chars", "max_text_tokens", "max_pending_bodies", "max_tensor_numbers"}
UNMET |= {"max_queue_bytes"}  # met in tests/unit/app/serving/test_queue_memory.py


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    models = tmp_path_factory.mktemp("models")
    dummy_bundle(models, PICTURE)
    kind_bundle(models, TENSORS)
    edit_manifest(kind_bundle(models, TEXT), lambda manifest: manifest["task"]["text"].update(max_chars=2**17))
    shutil.copytree(LATEST[SERIES].folder, models / SERIES / str(LATEST[SERIES].version))
    with serve(models, **SMALL) as running:
        yield running


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[RunningService]:
    """A service whose model is stuck, so that its queue fills and deadlines pass."""
    folder = dummy_bundle(tmp_path, PICTURE, behavior={"heeds_faults": True}, rows=1)
    with serve(tmp_path, run_on="thread", **SMALL) as running, fault(folder, fault="slow", sleep_s=5):
        yield running


def limits_of(running: RunningService, model: str) -> dict[str, Any]:
    limits: dict[str, Any] = httpx.get(f"{running.url}/models/{model}").json()["limits"]
    return limits


def stated(limits: dict[str, Any], name: str) -> Any:
    value: Any = limits
    for part in name.split("."):
        value = value[part]
    return value


def tensor(name: str, datatype: str, *shape: int) -> dict[str, Any]:
    count = math.prod(shape)
    return {"name": name, "datatype": datatype, "shape": shape, "data": [1] * count}


def answer_of(sock: socket.socket) -> tuple[int, Any]:
    response, document = read_answer(sock)
    return response.status, document


def png(width: int, height: int) -> str:
    """Return a picture whose header is all that is true of it: what is too large is not decoded."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    return base64.b64encode(data).decode()


def real_png(side: int) -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((side, side), np.uint8)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def series(steps: int) -> list[dict[str, Any]]:
    return [{"sequence": [[0.0] * 12] * steps}]


def matrix(rows: int) -> list[dict[str, Any]]:
    return [{"inputs": {"matrix": [[0.0, 0.0]] * rows, "count": 1, "flags": [True] * 3}}]


MET = [
    (PICTURE, [{"image": IMAGE}] * 9, 413, "max_instances"),
    (PICTURE, [{"image": png(300, 300)}], 422, "max_image_pixels"),
    (PICTURE, [{"image": png(65_536, 1)}], 422, "max_image_side"),
    (PICTURE, [{"image": real_png(264)}] * 6, 422, "max_request_pixels"),
    (PICTURE, ["x" * 2**20], 413, "max_body_bytes"),
    (PICTURE, [0] * 70_000, 413, "max_json.values"),
    (PICTURE, [[]] * 70_000, 413, "max_json.arrays"),
    (SERIES, series(1), 422, "min_length"),
    (SERIES, series(30), 422, "max_length"),
    (TENSORS, matrix(5), 422, "max_lengths.rows"),
    (TEXT, [{"text": "a" * 2**17}] * 3, 422, "max_request_chars"),
]


@pytest.mark.parametrize(("model", "instances", "status", "name"), MET, ids=[met[3] for met in MET])
def test_a_request_beyond_a_limit_is_told_its_name_and_value(
    running: RunningService, model: str, instances: Any, status: int, name: str
) -> None:
    response = httpx.post(f"{running.url}/predict/{model}", json={"instances": instances}, timeout=30)
    value = stated(limits_of(running, model), name)
    problem = response.json()
    assert (response.status_code, problem.get("limit")) == (status, {"name": name, "value": value}), problem["detail"]


# inputs, status and limit, by the Open Inference Protocol
TENSORS_MET: list[tuple[str, list[dict[str, Any]], int, str]] = [
    (SERIES, [tensor("sequence", "FP32", 1, 3, 12), tensor("lengths", "INT64", 1)], 400, "min_lengths.time"),
    (SERIES, [tensor("sequence", "FP32", 1, 30, 12), tensor("lengths", "INT64", 1)], 400, "max_lengths.time"),
    (PICTURE, [tensor("image", "FP32", 9, 2, 3)], 413, "max_instances"),
    (PICTURE, [tensor("image", "FP32", 13_000, 2, 3)], 413, "max_tensor_json.values"),
]


@pytest.mark.parametrize(("model", "inputs", "status", "name"), TENSORS_MET, ids=[met[3] for met in TENSORS_MET])
def test_the_form_of_one_sentence_names_limit_and_value_too(
    running: RunningService, model: str, inputs: list[dict[str, Any]], status: int, name: str
) -> None:
    response = httpx.post(f"{running.url}/v2/models/{model}/infer", json={"inputs": inputs}, timeout=30)
    value = stated(limits_of(running, model), name)
    assert (response.status_code, list(response.json())) == (status, ["error"])
    assert response.json()["error"].endswith(f" (limit {name}: {value})")


# what stands behind the first two headers, status and limit
HEADS_MET = [
    (b"X-Request-Timeout-Ms: 3600001\r\nContent-Length: 2\r\n\r\n{}", 422, "max_timeout_ms"),
    (b"X-Long: %b\r\n\r\n" % (b"v" * 70_000), 431, "max_header_bytes"),
    (b"".join(b"X-%d: 1\r\n" % i for i in range(130)) + b"\r\n", 431, "max_headers"),
    (b"X-Never", 408, "head_timeout_s"),
    (b"Content-Length: 1048577\r\n\r\n", 413, "max_body_bytes"),
    (b"Content-Length: 9\r\n\r\n{", 504, "default_timeout_ms"),
]


@pytest.mark.parametrize(
    ("door", "head", "status", "name"),
    [("/predict/image", *met) for met in HEADS_MET] + [("/v2/models/image/infer", *met) for met in HEADS_MET[1:3]],
    ids=[met[2] for met in HEADS_MET] + [f"V2 {met[2]}" for met in HEADS_MET[1:3]],
)
def test_what_the_wire_and_the_admission_refuse_names_its_limit(
    running: RunningService, door: str, head: bytes, status: int, name: str
) -> None:
    with connected(running) as sock:
        sock.sendall(b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n%b" % (door.encode(), head))
        code, answer = answer_of(sock)
    value = stated(limits_of(running, PICTURE), name)
    assert code == status
    if door.startswith("/v2"):
        assert answer["error"].endswith(f" (limit {name}: {value})")
    else:
        assert answer["limit"] == {"name": name, "value": value}


def test_a_deadline_of_the_caller_s_own_is_no_limit_of_the_service(running: RunningService) -> None:
    with connected(running) as sock:
        sock.sendall(b"POST /predict/image HTTP/1.1\r\nHost: x\r\nX-Request-Timeout-Ms: 50\r\n")
        sock.sendall(b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{")
        code, answer = answer_of(sock)
    assert (code, answer.get("limit")) == (504, None)


def test_bodies_that_come_in_together_name_what_they_may_hold(running: RunningService) -> None:
    head = (
        b"POST /predict/image HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 900000\r\n\r\n"
    )
    with connected(running) as first, connected(running) as second:
        for sock in (first, second):
            sock.sendall(head + b" " * 800_000)
        ready, _, _ = select.select([first, second], [], [], 30)
        code, answer = answer_of(ready[0])
    assert (code, answer["code"]) == (503, "overloaded")
    value = stated(limits_of(running, PICTURE), "max_incoming_bytes")
    assert answer["limit"] == {"name": "max_incoming_bytes", "value": value}


def test_a_rate_is_named_as_the_card_has_it(tmp_path: Path) -> None:
    """In a service of its own: everybody here has one address."""
    dummy_bundle(tmp_path, PICTURE, rows=1)
    with serve(tmp_path, rate_limit="9/hour") as running:
        card = limits_of(running, PICTURE)["rate_limit"]
        asked = [httpx.get(f"{running.url}/models/{PICTURE}") for _ in range(9)]
        told = httpx.get(f"{running.url}/v2/models/{PICTURE}")
    assert card == "9 in 3600 s"
    assert [answer.status_code for answer in asked] == [200] * 8 + [429]
    assert asked[-1].json()["limit"] == {"name": "rate_limit", "value": card}
    assert told.json()["error"].endswith(f" (limit rate_limit: {card})")


def hold(running: RunningService, address: str, opened: ExitStack) -> None:
    """Keep a connection open that is answered; those that were closed just now may still be counted."""

    def is_let_in() -> bool:
        with ExitStack() as tried:
            sock = tried.enter_context(connected(running, address))
            sock.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            status, _ = answer_of(sock)
            if status != 200:
                return False
            opened.push(tried.pop_all())
            return True

    wait_for(is_let_in, running)


def test_too_many_connections_are_told_how_many_there_may_be(tmp_path: Path) -> None:
    dummy_bundle(tmp_path, PICTURE, rows=1)
    with serve(tmp_path, max_connections=3, max_connections_per_address=2) as running, ExitStack() as opened:
        card = limits_of(running, PICTURE)
        hold(running, "127.0.0.1", opened)
        hold(running, "127.0.0.1", opened)
        with connected(running, "127.0.0.1") as one_more:
            status, told = answer_of(one_more)
        name = "max_connections_per_address"
        assert (status, told["limit"]) == (429, {"name": name, "value": card[name]})
        hold(running, "127.0.0.2", opened)
        with connected(running, "127.0.0.3") as one_more:
            status, told = answer_of(one_more)
        name = "max_connections"
        assert (status, told["limit"]) == (503, {"name": name, "value": card[name]})


def test_a_full_queue_and_a_deadline_that_passes_in_it_name_their_limits(slow: RunningService) -> None:
    """One batch runs and is slow; eight rows wait, and the next one finds no room."""
    limits = limits_of(slow, PICTURE)
    with ThreadPoolExecutor(16) as pool:
        asked = [
            pool.submit(httpx.post, f"{slow.url}/predict/image", json={"instances": [{"image": IMAGE}] * 8}, timeout=30)
            for _ in range(6)
        ]
        answers = [each.result() for each in asked]
    told = {(answer.status_code, *answer.json().get("limit", {}).items()) for answer in answers}
    name = "default_timeout_ms"
    assert (504, ("name", name), ("value", limits[name])) in told
    name = "max_queue_rows"
    assert (503, ("name", name), ("value", limits[name])) in told


def test_no_limit_of_the_card_is_left_out_here(running: RunningService) -> None:
    met = {name.partition(".")[0] for *_, name in (*MET, *TENSORS_MET)}
    met |= {name for *_, name in HEADS_MET} | {"max_incoming_bytes", "max_queue_rows", "rate_limit"}
    met |= {"max_connections", "max_connections_per_address"}
    assert set(Limits.model_fields) == met | UNMET


def test_limits_and_what_an_answer_says_of_them_are_in_the_schema(running: RunningService) -> None:
    schemas = httpx.get(f"{running.url}/openapi.json").json()["components"]["schemas"]
    assert set(schemas["Problem"]["properties"]["limit"]["anyOf"][0]) == {"$ref"}
    assert set(schemas["LimitBody"]["properties"]) == {"name", "value"}
    for model in (PICTURE, SERIES, TENSORS, TEXT):
        jsonschema.validate(
            limits_of(running, model), {"$ref": "#/s/Limits", "s": schemas} | {"components": {"schemas": schemas}}
        )
    assert all(field.get("description") for field in schemas["Limits"]["properties"].values())
