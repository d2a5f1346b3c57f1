"""Which versions of a model answer, over HTTP: policies, labels, weights, rollback, and swaps under load."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.bundles import ARTIFACT_FILE, dummy_bundle
from tests.support.server import RunningService, serve
from tests.support.workers import wait_for, wait_until_serving, workers_of

KEY = "open-sesame-1"
ADMIN = {"Authorization": f"Bearer {KEY}"}
IMAGE = {"instances": [{"image": [[1, 2, 3], [4, 5, 6]]}]}
TENSORS = {"inputs": [{"name": "image", "shape": [1, 2, 3], "datatype": "FP32", "data": [1, 2, 3, 4, 5, 6]}]}
LATEST = {"default": "latest", "labels": {}, "weights": {}, "keep": "all", "shadow": None}


def predict(running: RunningService, query: str = "") -> httpx.Response:
    return httpx.post(f"{running.url}/predict/dummy{query}", json=IMAGE, timeout=30)


def versions(running: RunningService, requests: int = 8) -> set[str]:
    """Return who has answered some requests, each on a connection of its own."""
    answers = [predict(running) for _ in range(requests)]
    assert {answer.status_code for answer in answers} == {200}
    assert all(answer.json()["version"] == answer.headers["x-model-version"] for answer in answers)
    return {answer.headers["x-model-version"] for answer in answers}


def admin(running: RunningService, method: str, path: str = "", body: Any = None, status: int = 200) -> Any:
    """Return the answer to an admin call, once its status is the one expected."""
    url = f"{running.url}/admin/models/dummy{path}"
    # escaped: some bodies are not to be written as UTF-8
    content = None if body is None else json.dumps(body)
    answer = httpx.request(method, url, headers=ADMIN, content=content, timeout=60)
    assert answer.status_code == status, answer.text
    return answer.json()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    dummy_bundle(folder)
    dummy_bundle(folder, version=2)
    return folder


@pytest.fixture(scope="module")
def started(models: Path) -> Iterator[RunningService]:
    with serve(models, admin_key=KEY) as running:
        yield running


@pytest.fixture
def running(started: RunningService) -> RunningService:
    admin(started, "PUT", "/policy", {})
    return started


def test_labels_are_asked_for_as_numbers_are(running: RunningService) -> None:
    told = admin(running, "PUT", "/policy", {"default": 1, "labels": {"canary": 2}})
    assert told["versions"]["2"] == {"state": "ready", "reason": None, "labels": ["canary"]}
    assert predict(running).json()["version"] == "1"
    assert predict(running, "?version=canary").json()["version"] == "2"
    inferred = httpx.post(f"{running.url}/v2/models/dummy/versions/canary/infer", json=TENSORS)
    assert inferred.json()["model_version"] == "2"
    assert httpx.get(f"{running.url}/v2/models/dummy/versions/canary/ready").status_code == 200
    counted = httpx.get(f"{running.url}/v2/models/dummy/versions/canary/stats").json()["model_stats"]
    assert [each["version"] for each in counted] == ["2"]
    unknown = predict(running, "?version=stable")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_version")
    assert "canary" in unknown.json()["detail"]


def test_requests_without_a_version_are_dealt_out_by_weight_on_every_door(running: RunningService) -> None:
    policy = {"default": 1, "labels": {"canary": 2}, "weights": {"canary": 0.5}}
    admin(running, "PUT", "/policy", policy)
    with httpx.Client(base_url=running.url, timeout=60) as client:
        plain = Counter(client.post("/predict/dummy", json=IMAGE).json()["version"] for _ in range(60))
        named = Counter(client.post("/predict", json={"model": "dummy"} | IMAGE).json()["version"] for _ in range(60))
        infer = Counter(client.post("/v2/models/dummy/infer", json=TENSORS).json()["model_version"] for _ in range(60))
        for dealt in (plain, named, infer):
            assert min(dealt["1"], dealt["2"]) > 5, dealt  # fewer than one in a hundred thousand times
        asked = {client.post("/predict/dummy?version=1", json=IMAGE).json()["version"] for _ in range(20)}
        assert asked == {"1"}
        # what a model is like is told of its default
        told = {str(client.get("/v2/models/dummy/config").json()) for _ in range(20)}
        assert len(told) == 1


def test_the_card_the_list_and_the_admin_answer_tell_the_policy(running: RunningService) -> None:
    policy = {"default": 1, "labels": {"stable": 1, "canary": 2}, "weights": {"canary": 0.25}, "keep": "all"}
    told = admin(running, "PUT", "/policy", policy)["policy"]
    card = httpx.get(f"{running.url}/models/dummy").json()
    (listed,) = httpx.get(f"{running.url}/models").json()["models"]
    assert told == policy | {"shadow": None} == card["policy"] == listed["policy"]
    assert [version["labels"] for version in card["versions"]] == [["stable"], ["canary"]]
    assert card["version"] == "1"
    assert admin(running, "GET")["policy"] == told


def test_one_call_rolls_back(running: RunningService) -> None:
    admin(running, "PUT", "/policy", {"default": 1})
    assert versions(running) == {"1"}
    told = admin(running, "POST", "/rollback")
    assert told["policy"] == LATEST
    assert told["workers"] == [{"worker": 0, "versions": ["1", "2"], "default": "2", "error": None}]
    assert (told["kept"], told["not_kept_because"]) == (False, "ZTO_STATE_DIR is not set")
    assert versions(running) == {"2"}


def test_only_what_serves_is_held_and_loaded_again_when_it_is_wanted(running: RunningService) -> None:
    told = admin(running, "PUT", "/policy", {"default": 1, "keep": "served"})
    assert [version["state"] for version in told["versions"].values()] == ["ready", "unloaded"]
    refused = predict(running, "?version=2")
    assert (refused.status_code, refused.json()["detail"]) == (503, "dummy/2 is unloaded")
    told = admin(running, "PUT", "/policy", {"default": 2, "keep": "served"})
    assert [version["state"] for version in told["versions"].values()] == ["unloaded", "ready"]


def test_a_shadow_is_set_ended_and_never_the_latest(running: RunningService) -> None:
    told = admin(running, "PUT", "/shadow", {"version": 2, "share": 0.5})
    assert told["policy"]["shadow"]["version"] == 2
    assert versions(running) == {"1"}
    assert admin(running, "DELETE", "/shadow")["policy"]["shadow"] is None
    assert versions(running) == {"2"}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "told"),
    [
        ("PUT", "/policy", {"defaul": 1}, 422, "#/defaul: Extra inputs are not permitted"),
        ("PUT", "/policy", {"default": 1.5}, 422, "#/default: expected 'latest' or the number of a version, from 1 to"),
        ("PUT", "/policy", {"weights": {"x": 0.1}}, 422, "#: weights of labels that are not there: x"),
        ("PUT", "/policy", [], 422, "expected an object"),
        ("PUT", "/policy", {"default": 10**25}, 422, "from 1 to 999999999"),
        ("PUT", "/policy", {"labels": {"\ud800": 1}}, 422, "Invalid JSON"),
        ("PUT", "/policy", {"default": True}, 422, "#/default: expected 'latest' or"),
        ("PUT", "/policy", {"labels": {"Stable": 1}}, 422, "#/labels: 'Stable' is no label: a label is a small letter"),
        ("PUT", "/policy", {"labels": {"stable": True}}, 422, "#/labels/stable: Input should be a valid integer"),
        ("PUT", "/policy", {"default": 9}, 400, "dummy/9: it is not in the models folder"),
        ("PUT", "/policy", {str(n): 1 for n in range(30)}, 422, "at most 16 members"),
        ("PUT", "/shadow", {}, 422, "Field required"),
        ("POST", "/promote", {"version": 0}, 422, "greater than or equal to 1"),
        ("POST", "/rollback", {"to": 1}, 422, "#/to"),
        ("POST", "/load", {"x": "y"}, 422, "#/x"),
        ("GET", "/policy", None, 405, "Method Not Allowed"),
    ],
)
def test_what_cannot_be_asked_is_a_problem_that_names_the_fault(
    running: RunningService, method: str, path: str, body: Any, status: int, told: str
) -> None:
    answer = admin(running, method, path, body, status)
    assert answer["type"].startswith("urn:zero-to-one:problem:")
    assert told in answer["detail"]
    assert admin(running, "GET")["policy"] == LATEST


def test_nobody_is_let_in_without_the_key_and_unknown_models_are_told(running: RunningService) -> None:
    for method, path in [
        ("GET", ""), ("PUT", "/policy"), ("POST", "/load"), ("POST", "/unload"), ("POST", "/rollback"),
        ("POST", "/promote"), ("PUT", "/shadow"), ("DELETE", "/shadow"),
    ]:  # fmt: skip
        answer = httpx.request(method, f"{running.url}/admin/models/dummy{path}")
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    for method, path in [
        ("GET", ""),
        ("PUT", "/policy"),
        ("POST", "/load"),
        ("POST", "/unload"),
        ("POST", "/rollback"),
    ]:
        answer = httpx.request(method, f"{running.url}/admin/models/nobody{path}", headers=ADMIN)
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_model")


def test_the_command_says_and_tells_it(running: RunningService) -> None:
    def run(*words: str, key: str = KEY) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "app", "admin", "--url", running.url, *words],
            capture_output=True, text=True, env={**os.environ, "ZTO_ADMIN_KEY": key},
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    status, told = run("policy", "dummy", "--default", "1", "--label", "canary=2", "--weight", "canary=0.1")
    assert status == 0
    assert told.splitlines()[:2] == ["dummy: version 1 answers", "  canary = version 2, 0.1 of the requests"]
    assert versions(running, 1) <= {"1", "2"}
    status, told = run("--json", "rollback", "dummy")
    assert (status, json.loads(told)["policy"]) == (0, LATEST)
    assert run("unload", "nobody") == (1, "error: 404: no model named 'nobody'; this service has: dummy\n")
    assert run("status", key="another-key")[0] == 1


def test_swaps_under_load_fail_nobody_and_mix_no_answer(running: RunningService) -> None:
    stop = threading.Event()
    answered: Counter[str] = Counter()
    wrong: list[str] = []

    def ask(path: str, body: Any, member: str) -> None:
        with httpx.Client(base_url=running.url, timeout=60) as client:
            while not stop.is_set():
                answer = client.post(path, json=body)
                if answer.status_code != 200 or answer.json()[member] != answer.headers["x-model-version"]:
                    wrong.append(answer.text)
                answered[answer.headers.get("x-model-version", "")] += 1

    threads = [
        threading.Thread(target=ask, args=args)
        for args in (
            ("/predict/dummy", IMAGE, "version"),
            ("/predict/dummy", IMAGE, "version"),
            ("/predict", {"model": "dummy"} | IMAGE, "version"),
            ("/v2/models/dummy/infer", TENSORS, "model_version"),
        )
    ]
    for thread in threads:
        thread.start()
    try:
        for turn in range(12):
            admin(running, "PUT", "/policy", {"default": 1 + turn % 2, "keep": "served"})
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert min(answered["1"], answered["2"]) > 0
    assert sum(answered.values()) == answered["1"] + answered["2"]


def test_two_workers_swap_what_polling_finds_keep_what_is_good_and_begin_again_with_what_was_rolled_back(
    tmp_path: Path,
) -> None:
    models, away, state = tmp_path / "models", tmp_path / "away", tmp_path / "state"
    dummy_bundle(models)
    settings = {"admin_key": KEY, "workers": 2, "state_dir": state}
    with serve(models, poll_s=0.1, **settings) as running:
        wait_until_serving(running, times=2)
        dummy_bundle(away, version=2).rename(models / "dummy" / "2")
        wait_for(lambda: versions(running) == {"2"}, running)

        broken = dummy_bundle(away, version=3)
        (broken / ARTIFACT_FILE).write_text("[]")
        broken.rename(models / "dummy" / "3")

        def state_of_three() -> Any:
            told = httpx.get(f"{running.url}/readyz", timeout=30).json()
            return told["models"]["dummy"]["versions"].get("3", {})

        def is_told() -> bool:  # by either worker, whoever answers
            reasons = [state_of_three().get("reason") or "" for _ in range(8)]
            return all("is not the file that the manifest describes" in reason for reason in reasons)

        wait_for(is_told, running)
        assert state_of_three()["state"] == "failed"
        assert versions(running) == {"2"}
        wait_for(lambda: 'zto_swaps_total{model="dummy",outcome="refused"} 2.0' in metrics(running), running)
        assert httpx.get(f"{running.url}/readyz", timeout=30).status_code == 200

        told = admin(running, "POST", "/rollback")
        assert [(worker["worker"], worker["default"]) for worker in told["workers"]] == [(0, "1"), (1, "1")]
        assert (told["policy"]["default"], told["kept"]) == (1, True)
        os.kill(workers_of(running)[0], signal.SIGKILL)
        wait_until_serving(running, times=3)
        assert versions(running, 12) == {"1"}
        shutil.rmtree(broken, ignore_errors=True)
    shutil.rmtree(models / "dummy" / "3")
    with serve(models, **settings) as running:
        wait_until_serving(running, times=2)
        assert versions(running, 12) == {"1"}
        assert admin(running, "GET")["history"] == []


def metrics(running: RunningService) -> str:
    return httpx.get(f"{running.url}/metrics", timeout=30).text


def test_a_setting_pins_the_version_of_the_start(tmp_path: Path) -> None:
    dummy_bundle(tmp_path)
    dummy_bundle(tmp_path, version=2)
    with serve(tmp_path, version_policy="dummy=1", keep_versions="served") as running:
        assert versions(running, 2) == {"1"}
        told = httpx.get(f"{running.url}/readyz").json()["models"]["dummy"]["versions"]
        assert {number: version["state"] for number, version in told.items()} == {"1": "ready", "2": "unloaded"}
