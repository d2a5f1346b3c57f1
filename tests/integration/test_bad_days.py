"""What hurts a service in a bad hour: bodies made to cost much, runtimes that hang, and an end in the midst of it."""

import base64
import json
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.integration.conftest import MODELS
from tests.integration.test_bad_input import png
from tests.support.bundles import dummy_bundle
from tests.support.server import RunningService, serve
from tests.support.workers import wait_for

JSON = {"content-type": "application/json"}
DUMMY_BODY = {"instances": [{"image": [[1, 2, 3], [4, 5, 6]]}]}
MIB = 2**20

COSTLY = {
    "empty arrays": b'{"instances":[' + b"[]," * 2_700_000 + b"[]]}",
    "numbers": b"[" + b"0," * 4_000_000 + b"0]",
    "keys": b"{" + b",".join(b'"%d":0' % i for i in range(700_000)) + b"}",
    "long integers": b"[" + b",".join([b"9" * 4200] * 1900) + b"]",
}


@pytest.mark.parametrize("kind", COSTLY)
def test_body_made_to_cost_much_leaves_nothing_behind(kind: str) -> None:
    with serve(MODELS) as running, httpx.Client(base_url=running.url, timeout=60) as client:
        before = running.rss_bytes()
        for path in ("/predict/mlp", "/predict/cnn", "/predict"):
            for _ in range(2):
                assert client.post(path, content=COSTLY[kind], headers=JSON).status_code in (413, 422)
        assert running.rss_bytes() - before < 32 * MIB
        assert client.get("/livez").status_code == 200


def test_bodies_on_their_way_are_bounded_together_and_by_their_deadlines() -> None:
    with (
        serve(MODELS, max_incoming_bytes=4 * MIB, timeout_ms=4000) as running,
        slow_bodies(running, count=6, size=MIB) as statuses,
        httpx.Client(base_url=running.url) as client,
    ):
        wait_for(lambda: len(statuses) == 6, running)
        assert sorted(set(statuses)) == [503, 504]
        body = client.get("/models/mlp").json()["example"]
        assert client.post("/predict/mlp", json=body).status_code == 200


@contextmanager
def slow_bodies(running: RunningService, *, count: int, size: int) -> Iterator[list[int]]:
    """Send bodies that never end, and collect the statuses that they are answered with."""
    statuses: list[int] = []
    host, port = running.url.removeprefix("http://").split(":")
    head = b"POST /predict/mlp HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 8000000\r\n\r\n"

    def send() -> None:
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(head + b" " * size)
            statuses.append(int(connection.recv(65536).split()[1]))

    threads = [threading.Thread(target=send) for _ in range(count)]
    for thread in threads:
        thread.start()
    yield statuses
    for thread in threads:
        thread.join()


def test_pictures_beyond_the_decoders_are_refused_and_deadlines_hold_while_they_decode() -> None:

    picture = png(Image.new("RGB", (4000, 4000)))
    with serve(MODELS) as running:
        statuses: list[int] = []

        def send() -> None:
            answer = httpx.post(
                f"{running.url}/predict/mlp",
                content=picture,
                headers={"content-type": "image/png", "x-request-timeout-ms": "400"},
                timeout=60,
            )
            statuses.append(answer.status_code)

        threads = [threading.Thread(target=send) for _ in range(90)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(statuses) <= {200, 503, 504}
        assert 504 in statuses
        assert httpx.get(f"{running.url}/livez").status_code == 200


def test_sigterm_ends_a_service_whose_model_is_still_being_proven(tmp_path: Path) -> None:
    dummy_bundle(tmp_path, "slow", behavior={"sleep_s": 60})
    dummy_bundle(tmp_path, "good")
    with serve(tmp_path, ready=None) as running:
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(20) == 0
        assert "Traceback" not in running.log()


def test_sigterm_ends_a_service_whose_runtime_hangs_and_everybody_is_answered(tmp_path: Path) -> None:
    dummy_bundle(tmp_path, "stuck", behavior={"hangs_on": 254.5}, max_rows=1)
    hang = {"instances": [{"image": [[1, 2, 3], [4, 5, 254.5]]}]}
    with serve(tmp_path, run_on="thread", shutdown_s=1) as running:
        answers: list[httpx.Response] = []

        def ask() -> None:
            answers.append(httpx.post(f"{running.url}/predict/stuck", json=hang, timeout=60))

        threads = [threading.Thread(target=ask) for _ in range(3)]  # whoever comes first, hangs
        for thread in threads:
            thread.start()
        two_wait, url = 'zto_queue_rows{model="stuck",version="1"} 2.0', f"{running.url}/metrics"
        wait_for(lambda: two_wait in httpx.get(url).text, running)
        running.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        assert [answer.status_code for answer in answers] == [503, 503, 503]
        assert {answer.json()["code"] for answer in answers} == {"model_not_ready"}
        assert running.process.wait(20) == 0
        assert "Traceback" not in running.log()


def test_backend_that_panics_is_a_failure_like_any_other(tmp_path: Path) -> None:
    dummy_bundle(tmp_path, "rusty", behavior={"panics_on": 254.5})
    poison = {"instances": [{"image": [[1, 2, 3], [4, 5, 254.5]]}]}
    for run_on in ("loop", "thread"):
        with serve(tmp_path, run_on=run_on) as running, httpx.Client(base_url=running.url) as client:
            assert client.post("/predict/rusty", json=poison).status_code == 422
            assert client.post("/predict/rusty", json=DUMMY_BODY).status_code == 200


def test_large_answer_is_whole(tmp_path: Path) -> None:
    labels = [f"label {i}" for i in range(500)]
    dummy_bundle(tmp_path, "wide", labels=labels)
    with serve(tmp_path) as running:
        answer = httpx.post(
            f"{running.url}/predict/wide", json={"instances": DUMMY_BODY["instances"] * 200}, timeout=60
        )
        assert [len(p["probabilities"]) for p in json.loads(answer.content)["predictions"]] == [500] * 200


def test_pictures_of_one_request_are_bounded_together() -> None:
    large = base64.b64encode(png(Image.new("L", (100, 100)))).decode()
    with serve(MODELS, max_image_pixels=10_000) as running, httpx.Client(base_url=running.url) as client:
        enough = {"instances": [{"image": large}] * 4}
        assert len(client.post("/predict/mlp", json=enough).json()["predictions"]) == 4
        too_many = {"instances": [{"image": large}] * 6}
        response = client.post("/predict/mlp", json=too_many)
        assert response.status_code == 422
        assert [(fault["pointer"], fault["code"]) for fault in response.json()["errors"]] == [
            ("#/instances/4/image", "too_many_pixels"),
            ("#/instances/5/image", "too_many_pixels"),
        ]
