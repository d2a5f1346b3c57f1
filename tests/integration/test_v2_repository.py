"""The repository of the Open Inference Protocol, asked by Triton's own client: it loads, unloads and lets in."""

import json
import os
import shutil
import signal
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path

import httpx
import numpy as np
import pytest
import tritonclient.http as triton

from tests.support.bundles import ARTIFACT_FILE, dummy_bundle, edit_manifest, rewrite_manifest
from tests.support.server import serve
from tests.support.v2_control import ADMIN, IMAGE, KEY, client_of, predict, refusal, states
from tests.support.workers import wait_for, wait_until_read, wait_until_serving, workers_of


@pytest.fixture
def models(tmp_path: Path) -> Path:
    dummy_bundle(tmp_path)
    dummy_bundle(tmp_path, "other")
    return tmp_path


def test_without_an_admin_key_nobody_may_change_anything(models: Path) -> None:
    with serve(models) as running, closing(client_of(running)) as client:
        for headers in (None, ADMIN):
            status, told = refusal(lambda headers=headers: client.unload_model("dummy", headers=headers))
            assert (status, "set ZTO_ADMIN_KEY" in told) == ("403", True)
        assert predict(running).status_code == 200


def test_unloaded_model_is_out_and_the_service_stays_ready(models: Path) -> None:
    with serve(models, admin_key=KEY) as running, closing(client_of(running)) as client:
        client.unload_model("dummy", headers=ADMIN)
        assert states(client) == {("dummy", "1"): "UNAVAILABLE", ("other", "1"): "READY"}
        assert not client.is_model_ready("dummy")
        assert client.is_server_ready()
        ready = httpx.get(f"{running.url}/readyz")
        assert (ready.status_code, ready.json()["models"]["dummy"]["state"]) == (200, "unloaded")
        refused = predict(running)
        assert (refused.status_code, refused.json()["code"]) == (503, "model_not_ready")
        assert "unloaded" in refused.json()["detail"]
        assert predict(running, "other").status_code == 200
        client.unload_model("dummy", headers=ADMIN)  # once more changes nothing
        client.load_model("dummy", headers=ADMIN)
        assert predict(running).status_code == 200
        assert client.get_model_repository_index(headers=ADMIN)[0] == {
            "name": "dummy", "version": "1", "state": "READY", "reason": "",
        }  # fmt: skip
        assert KEY not in running.log()


def test_load_serves_what_has_appeared_and_takes_down_what_has_gone(models: Path) -> None:
    with serve(models, admin_key=KEY) as running, closing(client_of(running)) as client:
        dummy_bundle(models, version=2)
        client.load_model("dummy", headers=ADMIN)
        assert client.get_model_metadata("dummy")["versions"] == ["1", "2"]
        assert predict(running).json()["version"] == "2"
        assert running.log().count("dummy/1 ready") == 1  # it stayed as it was
        shutil.rmtree(models / "dummy" / "2")
        client.load_model("dummy", headers=ADMIN)
        assert client.get_model_metadata("dummy")["versions"] == ["1"]
        assert predict(running).json()["version"] == "1"


def test_bad_bundle_is_refused_and_takes_no_good_one_down(models: Path) -> None:
    with serve(models, admin_key=KEY) as running, closing(client_of(running)) as client:
        bad = dummy_bundle(models, version=2)
        (bad / ARTIFACT_FILE).write_text("{ }")
        status, told = refusal(lambda: client.load_model("dummy", headers=ADMIN))
        assert status == "400"
        assert "dummy/2: dummy.json is not the file that the manifest describes" in told
        assert "it is served as version 1" in told
        assert predict(running).json()["version"] == "1"
        assert client.is_server_ready()
        # changed in place, and for the worse: the one that serves goes on
        edit_manifest(models / "dummy" / "1", lambda document: document["golden"].update(rows=3))
        assert refusal(lambda: client.load_model("dummy", headers=ADMIN))[0] == "400"
        assert predict(running).json()["version"] == "1"
        shutil.rmtree(models / "dummy")
        assert "holds no version any more" in refusal(lambda: client.load_model("dummy", headers=ADMIN))[1]
        assert predict(running).json()["version"] == "1"


def test_version_changed_in_place_replaces_the_one_that_serves(models: Path) -> None:
    with serve(models, admin_key=KEY) as running, closing(client_of(running)) as client:
        rewrite_manifest(models / "dummy" / "1", description="Another one.")
        client.load_model("dummy", headers=ADMIN)
        config = client.get_model_config("dummy")
        assert config["parameters"]["description"] == {"string_value": "Another one."}
        assert predict(running).status_code == 200
        # what its doors were set up for cannot change
        edit_manifest(models / "dummy" / "1", lambda document: document["task"]["labels"].reverse())
        assert "its task is not that of version 1" in refusal(lambda: client.load_model("dummy", headers=ADMIN))[1]
        assert predict(running).status_code == 200


def test_new_model_is_let_in_by_every_door(models: Path) -> None:
    with serve(models, admin_key=KEY) as running, closing(client_of(running)) as client:
        dummy_bundle(models, "newcomer", labels=("x", "y"))
        assert predict(running, "newcomer").status_code == 404
        client.load_model("newcomer", headers=ADMIN)
        assert predict(running, "newcomer").json()["predictions"][0].keys() >= {"label", "probability"}
        named = httpx.post(f"{running.url}/predict", json={"model": "newcomer"} | IMAGE)
        assert named.json()["model"] == "newcomer"
        tensor = triton.InferInput("image", [1, 2, 3], "FP32")
        tensor.set_data_from_numpy(np.ones((1, 2, 3), np.float32))
        assert client.infer("newcomer", [tensor]).as_numpy("probabilities").shape == (1, 2)
        assert client.get_inference_statistics("newcomer")["model_stats"][0]["inference_count"] == 3
        document = httpx.get(f"{running.url}/openapi.json").json()
        assert "/predict/newcomer" in document["paths"]
        assert "newcomer" in document["paths"]["/v2/models/{model}"]["get"]["parameters"][0]["schema"]["enum"]
        assert httpx.get(f"{running.url}/models/newcomer").json()["state"] == "ready"
        assert httpx.get(f"{running.url}/readyz").json()["models"]["newcomer"]["required"] is False


def test_new_model_that_is_not_proven_is_told_and_leaves_the_service_ready(models: Path) -> None:
    with serve(models, admin_key=KEY) as running, closing(client_of(running)) as client:
        dummy_bundle(models, "broken", behavior={"fails_after_calls": 0})
        status, told = refusal(lambda: client.load_model("broken", headers=ADMIN))
        assert (status, "nothing of it is served" in told) == ("400", True)
        assert states(client)["broken", "1"] == "UNAVAILABLE"
        assert client.is_server_ready()
        assert predict(running, "broken").status_code == 503


def test_load_and_unload_under_load_answer_everybody(models: Path) -> None:
    """Eight callers ask all the time; nobody is hung up on, and no answer is wrong or other than 200 and 503."""
    with serve(models, admin_key=KEY) as running, closing(client_of(running)) as client:
        found: Counter[tuple[str, int]] = Counter()
        faults: list[object] = []
        is_over = threading.Event()

        def ask(model: str) -> None:
            with httpx.Client(base_url=running.url, timeout=30) as caller:
                while not is_over.is_set():
                    try:
                        response = caller.post(f"/predict/{model}", json=IMAGE)
                    except httpx.HTTPError as exc:
                        faults.append(exc)
                        continue
                    found[model, response.status_code] += 1
                    if response.status_code == 503 and response.json()["code"] != "model_not_ready":
                        faults.append(response.text)

        callers = [threading.Thread(target=ask, args=(model,)) for model in ("dummy", "other") for _ in range(4)]
        for caller in callers:
            caller.start()
        for _ in range(6):
            client.unload_model("dummy", headers=ADMIN)
            wait_for(lambda before=found["dummy", 503]: found["dummy", 503] > before, running)
            client.load_model("dummy", headers=ADMIN)
            wait_for(lambda before=found["dummy", 200]: found["dummy", 200] > before, running)
        is_over.set()
        for caller in callers:
            caller.join(30)
        assert not faults
        assert set(found) == {("dummy", 200), ("dummy", 503), ("other", 200)}
        assert "Traceback" not in running.log()


def test_what_waits_when_a_model_is_unloaded_is_still_answered(tmp_path: Path) -> None:
    dummy_bundle(tmp_path, max_wait_ms=2000)  # so long a batch waits for company, which does not come
    with serve(tmp_path, admin_key=KEY) as running, closing(client_of(running)) as client:
        with running.connections(4) as connections:
            for connection in connections:
                connection.request("POST", "/predict/dummy", json.dumps(IMAGE), {"content-type": "application/json"})
            wait_until_read(running, *(connection.sock for connection in connections))
            client.unload_model("dummy", headers=ADMIN)
            assert [connection.getresponse().status for connection in connections] == [200] * 4
        assert predict(running).status_code == 503


def test_command_that_takes_too_long_goes_on_after_its_caller_was_told(tmp_path: Path) -> None:
    dummy_bundle(tmp_path, behavior={"sleep_s": 0.05})
    with serve(tmp_path, admin_key=KEY) as running, closing(client_of(running)) as client:
        client.unload_model("dummy", headers=ADMIN)
        hurried = ADMIN | {"X-Request-Timeout-Ms": "20"}
        status, told = refusal(lambda: client.load_model("dummy", headers=hurried))
        assert (status, "goes on" in told) == ("504", True)
        wait_for(lambda: client.is_model_ready("dummy"), running)


def test_two_workers_load_and_unload_together(models: Path) -> None:
    with serve(models, admin_key=KEY, workers=2) as running:
        wait_until_serving(running, times=2)
        for wish, state, status in (("unload", "UNAVAILABLE", 503), ("load", "READY", 200)):
            answer = httpx.post(f"{running.url}/v2/repository/models/dummy/{wish}", headers=ADMIN)
            versions = ["1"] if wish == "load" else []
            assert answer.json() == {
                "name": "dummy", "state": state, "workers": [{"worker": n, "versions": versions} for n in (0, 1)],
            }  # fmt: skip
            assert {predict(running).status_code for _ in range(12)} == {status}  # each on a connection of its own
        bad = dummy_bundle(models, version=2)
        (bad / ARTIFACT_FILE).write_text("{ }")
        refused = httpx.post(f"{running.url}/v2/repository/models/dummy/load", headers=ADMIN)
        assert refused.status_code == 400
        assert "worker 0: dummy/2: " in refused.json()["error"]
        assert "worker 1: dummy/2: " in refused.json()["error"]
        assert {predict(running).json()["version"] for _ in range(12)} == {"1"}


def test_replaced_worker_begins_with_what_is_wished(models: Path) -> None:
    with serve(models, admin_key=KEY, workers=2) as running:
        wait_until_serving(running, times=2)
        httpx.post(f"{running.url}/v2/repository/models/dummy/unload", headers=ADMIN).raise_for_status()
        killed = workers_of(running)[0]
        os.kill(killed, signal.SIGKILL)
        wait_until_serving(running, times=3)
        assert killed not in workers_of(running)
        assert {predict(running).status_code for _ in range(12)} == {503}
        assert {predict(running, "other").status_code for _ in range(4)} == {200}
        answer = httpx.post(f"{running.url}/v2/repository/models/dummy/load", headers=ADMIN)
        assert [worker["versions"] for worker in answer.json()["workers"]] == [["1"], ["1"]]
        assert {predict(running).status_code for _ in range(12)} == {200}


def test_worker_that_is_killed_in_the_middle_of_a_load_loses_nothing(tmp_path: Path) -> None:
    dummy_bundle(tmp_path, behavior={"sleep_s": 0.05})
    with serve(tmp_path, admin_key=KEY, workers=2) as running:
        wait_until_serving(running, times=2)
        httpx.post(f"{running.url}/v2/repository/models/dummy/unload", headers=ADMIN).raise_for_status()
        for pid in workers_of(running):  # whichever was asked: it is wished before it is carried out
            url = f"{running.url}/v2/repository/models/dummy/load"
            hurried = httpx.post(url, headers=ADMIN | {"X-Request-Timeout-Ms": "150"})
            assert hurried.status_code in (200, 504)
            os.kill(pid, signal.SIGKILL)
        wait_until_serving(running, times=4)
        assert {predict(running).status_code for _ in range(12)} == {200}
