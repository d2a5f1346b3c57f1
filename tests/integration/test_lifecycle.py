"""From start to end: what is damaged fails alone and says why; what leaves answers what it has taken."""

import json
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from shutil import copytree

import httpx
import pytest

from tests.integration.conftest import MODELS
from tests.support.bundles import dummy_bundle, edit_manifest, fault, golden_images, golden_rows, held, write_golden
from tests.support.committed import copy_as_first
from tests.support.server import serve, start
from tests.support.workers import wait_for

JSON = {"content-type": "application/json"}
DUMMY_BODY = {"instances": [{"image": [[1, 2, 3], [4, 5, 6]]}]}


def flip_a_byte(folder: Path) -> None:
    data = bytearray((folder / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.onnx").write_bytes(data)


def swap_golden_outputs(folder: Path) -> None:
    """A golden file whose digest is right and whose numbers are another network's."""
    images = golden_images(16, 28, 28)
    labels = json.loads((folder / "manifest.json").read_text())["task"]["labels"]
    write_golden(folder, golden_rows(images, labels))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a flipped byte": (flip_a_byte, "model.onnx is not the file that the manifest describes"),
    "a wrong golden file": (swap_golden_outputs, "golden"),
    "a missing field": (lambda f: edit_manifest(f, lambda m: m.pop("task")), "task: Field required"),
    "a path outside": (
        lambda f: edit_manifest(f, lambda m: m["artifacts"][0].update(path="../../mlp/1/model.onnx")),
        "must be a relative path inside the bundle folder",
    ),
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "manifest.json cannot be read"),
    "a missing artifact": (lambda f: (f / "model.onnx").unlink(), "model.onnx cannot be read"),
    "another version's manifest": (lambda f: edit_manifest(f, lambda m: m.update(version=7)), "lies in broken/1"),
    "tensors of another task": (
        lambda f: edit_manifest(f, lambda m: m["inputs"][0].update(shape=["batch", 32, 32])),
        "takes one input of shape",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_bundle_fails_with_its_reason_and_the_others_serve(tmp_path: Path, damage: str) -> None:
    copy_as_first("mlp", tmp_path)
    copytree(tmp_path / "mlp", tmp_path / "broken")
    edit_manifest(tmp_path / "broken" / "1", lambda manifest: manifest.update(name="broken"))
    harm, reason = DAMAGES[damage]
    harm(tmp_path / "broken" / "1")
    with serve(tmp_path, ready=503) as running, httpx.Client(base_url=running.url) as client:
        report = client.get("/readyz").json()
        assert report["status"] == "not_ready"
        assert report["models"]["mlp"]["state"] == "ready"
        assert report["models"]["broken"]["state"] == "failed"
        assert reason in report["models"]["broken"]["reason"]
        assert reason in running.log()
        body = client.get("/models/mlp").json()["example"]
        assert client.post("/predict/mlp", json=body).status_code == 200
        refused = client.post("/predict/broken", json=body)
        assert refused.status_code == 503
        assert refused.json()["code"] == "model_not_ready"
        assert reason in refused.json()["detail"]
        assert int(refused.headers["retry-after"]) >= 1
        assert client.get("/models/broken").json()["reason"] == report["models"]["broken"]["reason"]
        assert client.get("/openapi.json").status_code == 200
        assert client.get("/livez").json() == {"status": "live"}


def test_readiness_waits_for_the_required_models_only(tmp_path: Path) -> None:
    dummy_bundle(tmp_path, "good")
    flawed = dummy_bundle(tmp_path, "flawed")
    (flawed / "dummy.json").write_text("{ }")
    with serve(tmp_path, required_models="good") as running:
        report = httpx.get(f"{running.url}/readyz").json()
        assert report["status"] == "ready"
        assert report["models"]["flawed"]["state"] == "failed"
        assert [report["models"][name]["required"] for name in ("good", "flawed")] == [True, False]


def test_highest_ready_version_answers_and_each_can_be_asked(tmp_path: Path) -> None:
    for version in (1, 2, 10):
        dummy_bundle(tmp_path, "dummy", version)
    (tmp_path / "dummy" / "10" / "dummy.json").write_text("{ }")
    with serve(tmp_path) as running, httpx.Client(base_url=running.url) as client:
        assert client.post("/predict/dummy", json=DUMMY_BODY).headers["x-model-version"] == "2"
        assert client.post("/predict/dummy?version=1", json=DUMMY_BODY).json()["version"] == "1"
        assert client.post("/predict/dummy?version=10", json=DUMMY_BODY).status_code == 503
        states = client.get("/readyz").json()["models"]["dummy"]
        assert states["version"] == "2"
        assert {number: v["state"] for number, v in states["versions"].items()} == {
            "1": "ready", "2": "ready", "10": "failed",
        }  # fmt: skip


def test_version_with_another_contract_fails_and_says_so(tmp_path: Path) -> None:
    dummy_bundle(tmp_path, "dummy", 1)
    dummy_bundle(tmp_path, "dummy", 2, labels=("x", "y", "z"))
    with serve(tmp_path) as running, httpx.Client(base_url=running.url) as client:
        versions = client.get("/readyz").json()["models"]["dummy"]["versions"]
        assert "package it under another name" in versions["2"]["reason"]
        assert client.post("/predict/dummy", json=DUMMY_BODY).json()["version"] == "1"


def test_model_that_breaks_while_serving_leaves_rotation_and_comes_back_and_the_others_go_on(tmp_path: Path) -> None:
    folder = dummy_bundle(tmp_path, "fragile", behavior={"heeds_faults": True})
    dummy_bundle(tmp_path, "sturdy")
    with serve(tmp_path) as running, httpx.Client(base_url=running.url) as client:

        def statuses() -> list[int]:
            return [client.post("/predict/fragile", json=DUMMY_BODY).status_code for _ in range(2)]

        assert client.get("/startupz").json() == {"status": "started"}
        assert statuses() == [200, 200]
        with fault(folder, fault="raise"):
            assert statuses() == [503, 503]
            assert client.post("/predict/sturdy", json=DUMMY_BODY).status_code == 200
            report = client.get("/readyz")
            assert report.status_code == 503
            assert report.json()["models"]["fragile"]["state"] == "sick"
            assert "golden rows fail" in report.json()["models"]["fragile"]["reason"]
            assert client.get("/startupz").status_code == 200
        running.wait_until(200)
        assert statuses() == [200, 200]


def test_wrong_answers_are_seen_without_a_client_and_the_metric_tells_them(tmp_path: Path) -> None:
    folder = dummy_bundle(tmp_path, "fragile", behavior={"heeds_faults": True})
    with serve(tmp_path, canary_s=0.2) as running, httpx.Client(base_url=running.url) as client:
        with fault(folder, fault="wrong"):
            report = running.wait_until(503)
            assert "a golden row: output 'logits' differs by" in report.json()["models"]["fragile"]["reason"]
        running.wait_until(200)
        assert 'zto_canary_total{model="fragile",outcome="wrong",version="1"} 1.0' in client.get("/metrics").text


def test_poison_item_is_told_by_its_place_and_its_neighbors_are_answered(tmp_path: Path) -> None:
    dummy_bundle(tmp_path, "picky", behavior={"raise_on": 254.5})
    poison = {"image": [[1, 2, 3], [4, 5, 254.5]]}
    with serve(tmp_path) as running, httpx.Client(base_url=running.url) as client:
        good = client.post("/predict/picky", json=DUMMY_BODY)
        bad = client.post("/predict/picky", json={"instances": [*DUMMY_BODY["instances"], poison]})
        assert bad.status_code == 422
        assert bad.json()["code"] == "model_rejected_input"
        assert [fault["pointer"] for fault in bad.json()["errors"]] == ["#/instances/1"]
        assert 'zto_rejected_rows_total{model="picky"} 1.0' in client.get("/metrics").text
        assert client.post("/predict/picky", json=DUMMY_BODY).json() == good.json()


@pytest.mark.parametrize("run_on", ["loop", "thread"])
def test_batches_run_where_they_are_told_to(tmp_path: Path, run_on: str) -> None:
    dummy_bundle(tmp_path, "dummy")
    with serve(tmp_path, run_on=run_on) as running, httpx.Client(base_url=running.url) as client:
        card = client.get("/models/dummy").json()["versions"][0]
        assert card["runs_on"] == run_on
        assert card["predicted_row_ms"] > 0
        assert card["predicted_batch_ms"] > 0
        assert client.post("/predict/dummy", json=DUMMY_BODY).status_code == 200


def ask(connection: HTTPConnection) -> None:
    connection.request("POST", "/predict/slow", json.dumps(DUMMY_BODY), JSON)


def test_slow_model_runs_on_a_thread_and_the_doors_stay_open(tmp_path: Path) -> None:
    folder = dummy_bundle(tmp_path, "slow", behavior={"sleep_s": 0.05, "heeds_faults": True}, rows=2)
    with serve(tmp_path) as running, httpx.Client(base_url=running.url) as client:
        assert client.get("/models/slow").json()["versions"][0]["runs_on"] == "thread"
        with running.connections(1) as (connection,):
            with held(folder) as is_waiting:
                ask(connection)
                wait_for(is_waiting, running)
                assert client.get("/livez").status_code == 200
                assert select.select([connection.sock], [], [], 0)[0] == []
            assert connection.getresponse().status == 200


def test_full_queue_is_refused_with_a_time_to_come_back(tmp_path: Path) -> None:
    folder = dummy_bundle(tmp_path, "slow", behavior={"heeds_faults": True}, rows=2, max_rows=1)
    with (
        serve(tmp_path, max_queue_rows=2, max_instances=2, run_on="thread") as running,
        running.connections(6) as (first, *others),
    ):
        with held(folder) as is_waiting:
            ask(first)
            wait_for(is_waiting, running)
            for connection in others:
                ask(connection)
            refused, url = 'zto_refusals_total{code="overloaded"} 3.0', f"{running.url}/metrics"
            wait_for(lambda: refused in httpx.get(url).text, running)
        answers = [connection.getresponse() for connection in (first, *others)]
        assert sorted(answer.status for answer in answers) == [200] * 3 + [503] * 3  # one runs, two wait
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers if answer.status == 503)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"ZTO_MODELS_DIR": "/nowhere/models"}, "the models folder /nowhere/models cannot be read"),
        ({"MODELS_DIR": "/nowhere/models"}, "set ZTO_MODELS_DIR (or MODELS_DIR)"),
        ({"ZTO_MODEL_DIR": "models"}, "unknown setting ZTO_MODEL_DIR; did you mean ZTO_MODELS_DIR?"),
        ({"ZTO_PORT": "http"}, "ZTO_PORT='http'"),
        ({"ZTO_REQUIRED_MODELS": "mlp,cat"}, "['cat']"),
        ({"ZTO_DEFAULT_MODEL": "cat"}, "['cat']"),
        ({"ZTO_MAX_QUEUE_ROWS": "10"}, "ZTO_MAX_QUEUE_ROWS"),
    ],
)
def test_impossible_settings_end_the_start_with_a_clear_message(environ: dict[str, str], message: str) -> None:
    with start({"ZTO_MODELS_DIR": str(MODELS)} | environ) as running:
        if "MODELS_DIR" in environ:
            running.stop()
            with start(environ) as without:
                assert without.process.wait(30) == 2
                assert message in without.log()
            return
        assert running.process.wait(30) == 2
        assert running.log().startswith("error: ")
        assert message in running.log()
        assert "Traceback" not in running.log()


def test_empty_models_folder_ends_the_start(tmp_path: Path) -> None:
    with start({"MODELS_DIR": str(tmp_path)}) as running:
        assert running.process.wait(30) == 2
        assert "holds no bundle" in running.log()


def test_port_that_is_taken_ends_the_start() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        start({"ZTO_MODELS_DIR": str(MODELS), "ZTO_PORT": str(taken.getsockname()[1])}) as running,
    ):
        assert running.process.wait(30) == 3
        assert "address already in use" in running.log().lower()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_makes_unready_closes_politely_and_exits_with_0(tmp_path: Path, number: signal.Signals) -> None:
    folder = dummy_bundle(tmp_path, "slow", behavior={"heeds_faults": True}, rows=2)
    with (
        serve(tmp_path, drain_s=2.0, run_on="thread") as running,
        running.connections(2) as (asked, looking),
    ):
        with held(folder) as is_waiting:
            ask(asked)
            looking.request("GET", "/livez")
            assert looking.getresponse().read()
            wait_for(is_waiting, running)
            running.process.send_signal(number)
            wait_for(lambda: "draining for" in running.log(), running)
            looking.request("GET", "/readyz")
            report = looking.getresponse()
            assert report.status == 503
            assert json.loads(report.read())["status"] == "draining"
            assert report.headers["connection"] == "close"
        answer = asked.getresponse()
        assert answer.status == 200
        assert answer.headers["connection"] == "close"
        assert running.process.wait(30) == 0
        assert "Traceback" not in running.log()


@pytest.mark.slow
def test_sigterm_under_load_loses_no_request() -> None:
    body = json.dumps({"instances": [{"image": [[0] * 28] * 28}]}).encode()
    for _ in range(5):
        with serve(MODELS, drain_s=0.3) as running:
            lost: list[str] = []
            answered = [0] * 16
            threads = [threading.Thread(target=_ask_until_refused, args=(running.url, body, lost, answered, i))
                       for i in range(16)]  # fmt: skip
            for thread in threads:
                thread.start()
            wait_for(lambda: min(answered) > 0 or bool(lost), running)  # noqa: B023  now, not later
            running.process.send_signal(signal.SIGTERM)
            for thread in threads:
                thread.join(30)
            assert running.process.wait(30) == 0
            assert lost == []
            assert min(answered) > 0


def _ask_until_refused(url: str, body: bytes, lost: list[str], answered: list[int], index: int) -> None:
    """Send one request after the other, as a keep-alive client does, until no connection can be made any more."""
    while True:
        try:
            client = httpx.Client(base_url=url, timeout=30)
            while True:
                response = client.post("/predict/mlp", content=body, headers=JSON)
                if response.status_code != 200:
                    lost.append(f"status {response.status_code}")
                answered[index] += 1
        except httpx.ConnectError:
            return  # the port is closed: nobody took the request
        except httpx.HTTPError as exc:
            lost.append(f"{type(exc).__name__}: {exc}")
            return
        finally:
            client.close()


def test_start_without_torch_names_the_extra_for_its_backend(tmp_path: Path) -> None:
    """A ``torch`` that cannot be imported stands before the real one on the path."""
    copytree(MODELS / "mlp", tmp_path / "models" / "mlp")
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')\n")
    import os

    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with start(
        {"ZTO_MODELS_DIR": str(tmp_path / "models"), "ZTO_BACKEND": "state_dict", "PYTHONPATH": path}
    ) as running:
        wait_for(lambda: "failed: the state_dict backend needs torch" in running.log(), running)
        assert "pip install 'zero-to-one[torch]'" in running.log()


@pytest.mark.parametrize("delay_s", [0.2, 0.35, 0.5, 0.7])
def test_sigterm_while_it_starts_is_heard_too(delay_s: float) -> None:
    with start({"ZTO_MODELS_DIR": str(MODELS)}) as running:
        time.sleep(delay_s)
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(30) in (0, -signal.SIGTERM)  # the latter before any code of ours has run
        assert "Traceback" not in running.log()
