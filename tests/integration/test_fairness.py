"""Who shares a queue with whom, at every door."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.support.bundles import INPUT_NAME, dummy_bundle, held
from tests.support.open_inference import json_body
from tests.support.raw_http import BODY, PICTURE, connected, read_answer, request
from tests.support.server import RunningService, serve
from tests.support.workers import wait_for

WAITING = 4
TENSOR = {INPUT_NAME: np.array([PICTURE], np.float32)}
DOORS = {
    "predict": ("/predict/slow", BODY),
    "predict, the long way": ("/predict/slow?version=1", BODY),
    "V2": ("/v2/models/slow/infer", json_body(TENSOR)),
    "V2 of a version": ("/v2/models/slow/versions/1/infer", json_body(TENSOR)),
    "V2, the long way": (
        "/v2/models/slow/infer",
        json_body(TENSOR, outputs=[{"name": "probabilities", "parameters": {"classification": 1}}]),
    ),
}


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningService, Path]]:
    models = tmp_path_factory.mktemp("models")
    folder = dummy_bundle(models, "slow", behavior={"heeds_faults": True}, rows=2, max_rows=1)
    limits: dict[str, Any] = {
        "run_on": "thread",
        "max_queue_rows": WAITING,
        "max_instances": 1,
        "client_header": "X-Client",
        "hung_s": 60.0,
    }
    with serve(models, **limits) as running:
        yield running, folder


@pytest.mark.parametrize(("path", "body"), DOORS.values(), ids=DOORS)
def test_addresses_of_one_ipv6_network_share_one_part_of_the_queue(
    slow: tuple[RunningService, Path], path: str, body: bytes
) -> None:
    service, folder = slow

    def sent_by(client: str) -> bytes:
        return request(body, path=path, headers=f"X-Client: {client}\r\n".encode())

    def told() -> str:
        return httpx.get(f"{service.url}/metrics").text

    def refused() -> float:
        lines = [line for line in told().splitlines() if line.startswith('zto_refusals_total{code="overloaded"}')]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    with contextlib.ExitStack() as stack:
        first, other, *many = [stack.enter_context(connected(service)) for _ in range(2 + WAITING)]
        before = refused()
        with held(folder) as is_waiting:
            first.sendall(sent_by("198.51.100.1"))
            wait_for(is_waiting, service)
            for number, sock in enumerate(many):
                sock.sendall(sent_by(f"2001:db8:1:2::{number:x}"))
            wait_for(lambda: f'zto_queue_rows{{model="slow",version="1"}} {WAITING}.0' in told(), service)
            other.sendall(sent_by("198.51.100.2"))
            wait_for(lambda: refused() == before + 1, service)
        assert [read_answer(sock)[0].status for sock in (first, other)] == [200, 200]
        assert sorted(read_answer(sock)[0].status for sock in many) == [200] * (WAITING - 1) + [503]
