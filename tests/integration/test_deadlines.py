"""Deadlines: what could not be known to be late is answered with 504, what can be known is refused at the door."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.serving.forecast import TRUST_S
from tests.support.bundles import dummy_bundle
from tests.support.server import RunningService, serve

PICTURE = {"image": [[1, 2, 3], [4, 5, 6]]}
HANGS = {"instances": [{"image": [[1, 2, 3], [4, 5, 99]]}]}
SOON = {"x-request-timeout-ms": "100"}


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    models = tmp_path_factory.mktemp("slow")
    dummy_bundle(models, "slow", behavior={"sleep_s": 0.2}, rows=2, max_rows=1)
    with serve(models) as running:
        yield running


def batches_of(client: httpx.Client) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("zto_batch_rows_count"))


def test_deadline_is_answered_with_504_and_the_next_request_served(slow: RunningService) -> None:
    body = {"instances": [PICTURE] * 3}
    with httpx.Client(base_url=slow.url, timeout=30) as client:
        time.sleep(1.5 * TRUST_S)  # what the model cost before that refuses nobody
        late = client.post("/predict/slow", json=body, headers=SOON)
        assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")
        assert client.post("/predict/slow", json=body).status_code == 200


def test_deadline_that_cannot_be_met_is_refused_before_it_costs_anything(slow: RunningService) -> None:
    body = {"instances": [PICTURE] * 6}
    with httpx.Client(base_url=slow.url, timeout=30) as client:
        asked_anew_s = TRUST_S
        while asked_anew_s >= TRUST_S:  # or what six batches of 0.2 s cost is not believed any more
            before = batches_of(client)
            assert client.post("/predict/slow", json=body).status_code == 200
            answered_at = time.monotonic()
            refused = client.post("/predict/slow", json=body, headers=SOON)
            asked_anew_s = time.monotonic() - answered_at
        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        assert batches_of(client) == before + 6
        assert client.post("/predict/slow", json=body).status_code == 200


def test_deadline_holds_while_the_model_hangs(tmp_path: Path) -> None:
    dummy_bundle(tmp_path, "hangs", behavior={"hangs_on": 99}, rows=2)
    with serve(tmp_path, run_on="thread") as service, httpx.Client(base_url=service.url, timeout=30) as client:
        assert client.post("/predict/hangs", json={"instances": [PICTURE]}).status_code == 200
        late = client.post("/predict/hangs", json=HANGS, headers=SOON)
        assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")
        assert client.get("/livez").status_code == 200
