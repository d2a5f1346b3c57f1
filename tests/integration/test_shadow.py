"""A shadow in a real service: figures over two workers, promotion, and faults that nobody notices."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.bundles import INPUT_NAME, dummy_bundle, dummy_outputs, predict
from tests.support.server import RunningService, serve
from tests.support.workers import owner, wait_for, wait_until_serving, workers_of

KEY = "open-sesame-1"
ADMIN = {"Authorization": f"Bearer {KEY}"}
ODD, BAD, STUCK = 7.0, 8.0, 9.0


def picture(first: float) -> list[list[float]]:
    return [[first, 1, 1], [1, 1, 1]]


def ask(running: RunningService, *firsts: float, client: httpx.Client | None = None, **query: str) -> httpx.Response:
    """Ask over a connection of its own, or over a client's."""
    body = {"instances": [{INPUT_NAME: picture(first)} for first in firsts]}
    return (client or httpx).post(f"{running.url}/predict/dummy", json=body, params=query, timeout=30)


def expect_answer(response: httpx.Response, version: str, *firsts: float) -> None:
    """Hold an answer against arithmetic."""
    assert response.status_code == 200, response.text
    assert response.json()["version"] == version
    expected = predict(np.array([picture(first) for first in firsts], np.float32))
    for found, right in zip(response.json()["predictions"], expected, strict=True):
        assert found["label"] == right["label"]


def admin(running: RunningService, method: str, path: str, **body: Any) -> httpx.Response:
    return httpx.request(
        method, f"{running.url}/admin/models/dummy{path}", json=body or None, headers=ADMIN, timeout=60
    )


def shadow_of(running: RunningService) -> Any:
    return httpx.get(f"{running.url}/models/dummy", timeout=30).json()["shadow"]


def compared(running: RunningService) -> int:
    rows = shadow_of(running)["rows"]
    return int(rows["agreed"] + rows["disagreed"] + rows["failed"])


def samples(running: RunningService, name: str) -> dict[str, float]:
    """Return the samples of a metric of version 2, by their last label."""
    families = text_string_to_metric_families(httpx.get(f"{running.url}/metrics", timeout=30).text)
    return {
        sample.labels.get("outcome", sample.labels.get("of", "")): sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and sample.labels["model"] == "dummy" and sample.labels["version"] == "2"
    }


def client_of_each(running: RunningService) -> list[httpx.Client]:
    """Return one client for each worker, whose kept connection that worker has accepted."""
    clients: dict[int, httpx.Client] = {}
    for _ in range(200):
        client = httpx.Client(timeout=30)
        stream = client.get(f"{running.url}/livez").extensions["network_stream"]
        worker = owner(running, stream.get_extra_info("client_addr")[1])
        if worker is None or worker in clients:
            client.close()
        else:
            clients[worker] = client
        if len(clients) == len(workers_of(running)):
            return list(clients.values())
    raise AssertionError("200 connections did not reach every worker")


def test_two_workers_find_a_known_disagreement_together_and_promotion_waits_for_it(tmp_path: Path) -> None:
    dummy_bundle(tmp_path, version=1)
    dummy_bundle(tmp_path, version=2, behavior={"reverses_on": ODD})
    with serve(tmp_path, workers=2, admin_key=KEY, state_dir=tmp_path.parent / f"{tmp_path.name}-state") as running:
        wait_until_serving(running, times=2)
        assert shadow_of(running) is None
        assert admin(running, "PUT", "/policy", default=1).status_code == 200
        wish = {"version": 2, "share": 1.0, "cpu_share": 1.0, "min_rows": 41}
        assert admin(running, "PUT", "/shadow", **wish).status_code == 200
        # whichever worker answers
        wait_for(lambda: all(shadow_of(running)["waits_because"] is None for _ in range(8)), running)

        first, second = client_of_each(running)
        for _ in range(10):
            expect_answer(ask(running, 1, client=first), "1", 1)
            expect_answer(ask(running, 2, 3, ODD, client=second), "1", 2, 3, ODD)
        wait_for(lambda: compared(running) == 40, running)

        odd = dummy_outputs(np.array([picture(ODD)], np.float32), 3)["probabilities"][0]
        apart = float(np.abs(odd - odd[::-1]).max())
        for client in (first, second):  # whoever is asked
            card = client.get(f"{running.url}/models/dummy").json()["shadow"]
            assert card["rows"] == {"agreed": 30, "disagreed": 10, "failed": 0, "over_budget": 0, "dropped": 0}
            assert (card["version"], card["compared_with"], card["agreement"]) == ("2", "1", 0.75)
            assert card["max_difference"] == pytest.approx(apart, rel=1e-5)
            assert card["mean_difference"] == pytest.approx(apart / 4, rel=1e-5)
            assert min(card["serving_row_ms"], card["shadow_row_ms"]) > 0
        assert samples(running, "zto_shadow_rows_total") == {"agreed": 30, "disagreed": 10}
        assert samples(running, "zto_shadow_seconds_count") == {"serving": 20, "shadow": 20}
        assert samples(running, "zto_shadow_max_difference")[""] == pytest.approx(apart, rel=1e-5)

        for asked, told in (
            ({}, "40 rows of version 2 were compared with version 1, and 41 are asked for"),
            ({"min_rows": 40}, "agrees with version 1 on 30 of 40 rows, 0.75, and 0.99 is asked for"),
        ):
            refused = admin(running, "POST", "/promote", **asked)
            assert (refused.status_code, refused.json()["code"]) == (409, "not_promotable")
            assert refused.headers["content-type"] == "application/problem+json"
            assert told in refused.json()["detail"]
        expect_answer(ask(running, 1, client=first), "1", 1)

        assert admin(running, "PUT", "/shadow", **wish | {"min_agreement": 0.75}).status_code == 200
        wait_for(lambda: shadow_of(running)["waits_because"] is None and compared(running) == 41, running)  # went on
        promoted = admin(running, "POST", "/promote")
        assert promoted.status_code == 200, promoted.text
        for client in (first, second):
            expect_answer(ask(running, 1, client=client), "2", 1)
            client.close()
        assert shadow_of(running) is None
        assert admin(running, "POST", "/rollback").status_code == 200
        expect_answer(ask(running, 1), "1", 1)


@pytest.fixture
def troubled(tmp_path: Path) -> Iterator[RunningService]:
    """A service whose shadow fails on bad pictures, and never comes back from others."""
    dummy_bundle(tmp_path, version=1)
    dummy_bundle(tmp_path, version=2, behavior={"raise_on": BAD, "hangs_on": STUCK})
    with serve(tmp_path, admin_key=KEY, state_dir=tmp_path.parent / f"{tmp_path.name}-state") as running:
        assert admin(running, "PUT", "/policy", default=1, shadow={"version": 2, "cpu_share": 1.0}).status_code == 200
        yield running


def test_a_shadow_that_fails_and_then_hangs_is_noticed_by_nobody_but_the_operator(troubled: RunningService) -> None:
    expect_answer(ask(troubled, 1, BAD, 2), "1", 1, BAD, 2)
    wait_for(lambda: compared(troubled) == 3, troubled)
    card = shadow_of(troubled)
    assert (card["rows"]["agreed"], card["rows"]["failed"]) == (2, 1)
    refused = admin(troubled, "POST", "/promote", min_rows=1)
    assert (refused.status_code, refused.json()["code"]) == (409, "not_promotable")
    assert "version 2 had no answer for 1 of 3 rows" in refused.json()["detail"]

    expect_answer(ask(troubled, STUCK), "1", STUCK)
    for _ in range(50):
        expect_answer(ask(troubled, 1, 2), "1", 1, 2)
    assert httpx.get(f"{troubled.url}/readyz").status_code == 200
    assert troubled.stop() == 0
