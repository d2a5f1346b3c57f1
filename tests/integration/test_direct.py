"""The short way of plain predictions: what goes it is answered as any other request is, however its bytes come."""

import contextlib
import socket
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import httpx
import numpy as np
import pytest

from app.admission import Admission
from app.direct import PATIENCE_S, DirectCycle
from app.main import create_app
from app.metrics import Metrics
from app.protocols.direct import MAX_BODY_BYTES
from app.server import Server
from app.serving.jobs import Job
from app.settings import Settings
from tests.support.bundles import dummy_bundle, held
from tests.support.committed import LATEST, NAMES
from tests.support.raw_http import BODY, PICTURE, connected, read_answer, request
from tests.support.server import RunningService, serve
from tests.support.workers import wait_for

RAW = np.array(PICTURE, "<f4").tobytes()
POISON, HANGS = 77, 99


@pytest.fixture(scope="module")
def dummies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    models = tmp_path_factory.mktemp("models")
    dummy_bundle(models, "dummy", behavior={"raise_on": POISON})
    dummy_bundle(models, "slow", behavior={"sleep_s": 0.1}, rows=2)
    with serve(models) as running:
        yield running


def requests_of(service: RunningService, model: str) -> dict[str, float]:
    """Return how many requests of a model were answered, by status."""
    lines = httpx.get(f"{service.url}/metrics").text.splitlines()
    found = [line for line in lines if line.startswith("zto_requests_total{") and f'model="{model}"' in line]
    return {line.partition('status="')[2][:3]: float(line.rpartition(" ")[2]) for line in found}


@pytest.mark.parametrize("name", NAMES)
def test_the_short_way_and_the_long_one_answer_alike(client: httpx.Client, name: str) -> None:
    body = client.get(f"/models/{name}").json()["example"]
    short = client.post(f"/predict/{name}", json=body)
    # another version than the default goes the long way, even if it is the same
    long = client.post(f"/predict/{name}?version={LATEST[name].version}", json=body)
    assert short.status_code == long.status_code == 200
    assert short.json() == long.json()
    assert [name for name, _ in short.headers.raw] == [name for name, _ in long.headers.raw]
    for header in ("content-type", "content-length", "x-model-version"):
        assert short.headers[header] == long.headers[header]


@pytest.mark.parametrize(
    "cuts",
    [(), (40,), (-len(BODY),), (-3,), (-len(BODY), -10), tuple(range(1, len(request())))],
    ids=["whole", "head in two", "head and body", "body in two", "three", "byte by byte"],
)
@pytest.mark.parametrize("pause_s", [0, 2 * PATIENCE_S])
def test_a_request_is_answered_however_its_bytes_come(
    dummies: RunningService, cuts: Sequence[int], pause_s: float
) -> None:
    data = request()
    ends = [cut % len(data) for cut in cuts]
    with connected(dummies) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(2):  # the connection goes on
            for start, end in zip((0, *ends), (*ends, len(data)), strict=True):
                sock.sendall(data[start:end])
                if pause_s and len(ends) < 5:
                    time.sleep(pause_s)
            response, document = read_answer(sock)
            assert response.status == 200
            assert document["model"] == "dummy"
            assert response.headers["connection"] is None


def test_short_and_long_ways_keep_their_order_on_one_connection(dummies: RunningService) -> None:
    kinds = {
        "/predict/slow": 200, "/predict/dummy": 200, "/predict/dummy?top_k=1": 200, "/livez": 405, "/predict": 422,
        "/predict/nobody": 404,
    }  # fmt: skip
    paths = ["/predict/dummy", *kinds, "/predict/dummy", "/predict/dummy?top_k=1", "/predict/dummy"]
    data = b"".join(request(path=path, headers=b"X-Request-Id: r%d\r\n" % i) for i, path in enumerate(paths))
    with connected(dummies) as sock:
        sock.sendall(data)
        answers = [read_answer(sock)[0] for _ in paths]
        assert [answer.headers["x-request-id"] for answer in answers] == [f"r{i}" for i in range(len(paths))]
        assert [answer.status for answer in answers] == [kinds[path] for path in paths]
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):  # not one answer more, and no end
            sock.recv(1)


@pytest.mark.parametrize(
    ("data", "closes"),
    [
        (request(version=b"1.0"), True),
        (request(headers=b"Connection: close\r\n"), True),
        (request(headers=b"Connection: keep-alive\r\n"), False),
        (request(headers=b"Expect: 100-continue\r\n"), False),
    ],
)
def test_the_connection_ends_where_its_client_says_so(dummies: RunningService, data: bytes, closes: bool) -> None:
    with connected(dummies) as sock:
        sock.sendall(data)
        response, _ = read_answer(sock)
        assert response.status == 200
        assert (response.headers["connection"] == "close") == closes
        if closes:
            assert sock.recv(1) == b""
        else:
            sock.sendall(request())
            assert read_answer(sock)[0].status == 200


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (BODY[:-2], b"", 400, "malformed_body"),
        (BODY.replace(b"6", b"600"), b"", 422, "invalid_input"),
        (BODY.replace(b"6", b"%d" % POISON), b"", 422, "model_rejected_input"),
        (BODY, b"Content-Encoding: gzip\r\n", 400, "malformed_body"),
        (BODY, b"Content-Encoding: br\r\n", 415, "unsupported_content_encoding"),
        (BODY, b"X-Request-Timeout-Ms: 0\r\n", 422, "invalid_input"),
        (BODY, b"X-Request-Timeout-Ms: -1\r\n", 422, "invalid_input"),
        (BODY, b"X-Request-Timeout-Ms: soon\r\n", 422, "invalid_input"),
        (BODY.ljust(MAX_BODY_BYTES + 1), b"", 200, None),
        (b"", b"", 400, "malformed_body"),
    ],
)
def test_faults_are_told_as_ever(
    dummies: RunningService, body: bytes, headers: bytes, status: int, code: str | None
) -> None:
    with connected(dummies) as sock:
        sock.sendall(request(body, headers=headers + b"X-Request-Id: mine\r\n"))
        response, document = read_answer(sock)
        assert response.status == status
        assert response.headers["x-request-id"] == "mine"
        if code is not None:
            assert response.headers["content-type"] == "application/problem+json"
            assert document["code"] == code


def test_a_caller_who_leaves_is_dropped_before_the_model_runs(tmp_path: Path) -> None:
    folder = dummy_bundle(tmp_path, "slow", behavior={"heeds_faults": True}, rows=2, max_rows=1)
    with serve(tmp_path, run_on="thread") as service:

        def rows() -> float:
            text = httpx.get(f"{service.url}/metrics").text
            return float(text.partition('zto_batch_rows_sum{model="slow"}')[2].split()[0])

        before = rows() if "zto_batch_rows_sum" in httpx.get(f"{service.url}/metrics").text else 0.0
        with connected(service) as first:
            with held(folder) as is_waiting:
                first.sendall(request(path="/predict/slow"))
                wait_for(is_waiting, service)
                with contextlib.ExitStack() as stack:
                    leavers = [stack.enter_context(connected(service)) for _ in range(5)]
                    for leaver in leavers:
                        leaver.sendall(request(path="/predict/slow"))
                    wait_for(lambda: queue_rows(service) == 5, service)
                gone, url = 'zto_refusals_total{code="client_gone"} 5.0', f"{service.url}/metrics"
                wait_for(lambda: gone in httpx.get(url).text, service)
            assert read_answer(first)[0].status == 200
            first.sendall(request(path="/predict/slow"))
            assert read_answer(first)[0].status == 200
        assert rows() - before == 2


def queue_rows(service: RunningService) -> float:
    text = httpx.get(f"{service.url}/metrics").text
    return float(text.partition('zto_queue_rows{model="slow",version="1"}')[2].split()[0])


def test_a_batch_shared_by_both_ways_gives_each_its_own(dummies: RunningService) -> None:
    """What is worked out once for a batch is handed to the right rows."""
    answers: dict[int, Any] = {}

    def ask(number: int) -> None:
        query = "?top_k=1" if number % 3 == 0 else ""
        pictures = [{"image": [[number, 0, 0], [0, 0, row]]} for row in range(number % 2 + 1)]
        answers[number] = httpx.post(f"{dummies.url}/predict/dummy{query}", json={"instances": pictures}).json()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, answer in answers.items():
        assert len(answer["predictions"]) == number % 2 + 1
        for row, prediction in enumerate(answer["predictions"]):
            scores = np.exp((number + row) * np.arange(1, 4) / 1000)
            assert prediction["probability"] == pytest.approx((scores / scores.sum()).max(), abs=1e-6)
            assert len(prediction["probabilities"]) == (1 if number % 3 == 0 else 3)


def test_requests_are_counted_whichever_way_they_go(dummies: RunningService) -> None:
    before = requests_of(dummies, "dummy")
    with httpx.Client(base_url=dummies.url) as client:
        for query in ("", "?top_k=1"):
            assert client.post(f"/predict/dummy{query}", content=BODY, headers={"content-type": "application/json"})
            client.post(
                f"/predict/dummy{query}",
                content=BODY.replace(b"6", b"%d" % POISON),
                headers={"content-type": "application/json"},
            )
    after = requests_of(dummies, "dummy")
    assert after["200"] - before.get("200", 0) == 2
    assert after["422"] - before.get("422", 0) == 2


def test_full_queue_is_refused_on_the_short_way_too(tmp_path: Path) -> None:
    folder = dummy_bundle(tmp_path, "slow", behavior={"heeds_faults": True}, rows=2, max_rows=1)
    with (
        serve(tmp_path, run_on="thread", max_queue_rows=1, max_instances=1) as service,
        contextlib.ExitStack() as stack,
    ):
        first, *others = [stack.enter_context(connected(service)) for _ in range(6)]
        with held(folder) as is_waiting:
            first.sendall(request(path="/predict/slow"))
            wait_for(is_waiting, service)
            for sock in others:
                sock.sendall(request(path="/predict/slow"))
            told, url = 'zto_refusals_total{code="overloaded"} 4.0', f"{service.url}/metrics"
            wait_for(lambda: told in httpx.get(url).text, service)
        answers = [read_answer(sock) for sock in (first, *others)]
        refused = [(response, document) for response, document in answers if response.status == 503]
        assert [response.status for response, _ in answers].count(200) == 2  # one ran, and one waited
        assert len(refused) == 4
        for response, document in refused:
            assert int(response.headers["retry-after"]) >= 1
            assert document["code"] == "overloaded"
            assert response.headers["x-request-id"] == document["request_id"]


def test_an_idle_connection_keeps_nothing_of_its_last_request() -> None:
    """Many of them would hold the memory of many batches."""

    class Connection:
        def write(self, *_: object, keep_alive: bool) -> None:
            assert keep_alive

    tensors = {"x": np.zeros(1)}
    cycle = DirectCycle(cast(Any, Connection()), cast(Any, None), cast(Any, None), keep_alive=True)
    cycle.job = Job(tensors, 1, deadline=0.0, on_done=lambda outcome: None)
    kept = weakref.ref(tensors["x"])
    del tensors
    assert kept() is not None
    cycle.respond(200, b"", b"")
    assert kept() is None


def test_a_client_that_pipelines_without_end_is_read_no_faster_than_it_is_served(tmp_path: Path) -> None:
    dummy_bundle(tmp_path, "slow", behavior={"sleep_s": 0.05}, rows=2)
    data = request(path="/predict/slow") * 400
    with serve(tmp_path, run_on="thread") as service, connected(service) as sock:
        before = service.rss_bytes()
        sock.settimeout(1.0)
        sent = 0
        with contextlib.suppress(TimeoutError):  # the service reads no more, and the kernel keeps no more
            while sent < 64 * 2**20:
                sent += sock.send(data)
        assert sent < 64 * 2**20
        assert service.rss_bytes() - before < 32 * 2**20
        sock.settimeout(60)
        for _ in range(20):
            assert read_answer(sock)[0].status == 200


def test_a_client_is_whom_the_connection_or_the_nearest_proxy_names() -> None:
    def client_of(header: str | None, *values: bytes) -> str:
        admission = Admission(Settings(client_header=header), Metrics())
        headers = [(b"x-forwarded-for", value) for value in values]
        return admission.admit({"headers": headers, "client": ("10.0.0.9", 1234)}).client

    assert client_of(None, b"1.2.3.4") == "10.0.0.9"
    assert client_of("X-Forwarded-For") == "10.0.0.9"
    assert client_of("X-Forwarded-For", b"1.2.3.4") == "1.2.3.4"
    assert client_of("X-Forwarded-For", b"spoofed, " * 50 + b"1.2.3.4") == "1.2.3.4"


def test_no_other_header_names_a_client_on_the_long_way(tmp_path: Path) -> None:
    dummy_bundle(tmp_path)
    settings = Settings(models_dir=tmp_path)
    assert not Server(create_app(settings), settings).config.proxy_headers
