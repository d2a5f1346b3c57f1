"""Several workers: all answer, what one has counted every one tells, and all end together."""

import json
import os
import signal
import socket
import time
from collections import Counter
from pathlib import Path

import pytest

from app.cpus import num_cores
from tests.container.load import Client
from tests.support.bundles import dummy_bundle
from tests.support.server import RunningService, serve, start
from tests.support.workers import BODY, ask, client_of, owner, told, wait_for, wait_until_serving, workers_of


def test_both_workers_answer_and_connections_are_dealt_out(tmp_path: Path) -> None:
    dummy_bundle(tmp_path)
    with serve(tmp_path, workers=2) as running:
        wait_until_serving(running, times=2)

        def is_dealt_out() -> bool:
            owners = owners_of_a_burst(running)
            # less than ten of 64 has odds of one to 10^8; but whoever came first serves for the other until it notices
            return set(owners) == set(workers_of(running)) and len(owners) == 2 and min(owners.values()) >= 10

        wait_for(is_dealt_out, running)
        for _ in range(3):  # and from then on every time
            assert is_dealt_out()


def owners_of_a_burst(running: RunningService) -> Counter[int | None]:
    """Open many connections at once, as a proxy does, and return how many of them each worker has accepted."""
    host, port = "127.0.0.1", int(running.url.rpartition(":")[2])
    connections = [socket.create_connection((host, port)) for _ in range(64)]
    for connection in connections:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
    owners = Counter(owner(running, connection.getsockname()[1]) for connection in connections)
    for connection in connections:
        connection.close()
    return owners


def test_one_worker_is_watched_by_a_parent_that_has_imported_next_to_nothing(tmp_path: Path) -> None:
    dummy_bundle(tmp_path)
    with serve(tmp_path, workers=1) as running:
        (worker,) = workers_of(running)
        assert worker != running.process.pid
        assert ask(running.url).status_code == 200
        loaded = Path(f"/proc/{running.process.pid}/maps").read_text()
        assert "numpy" not in loaded
        assert "uvloop" not in loaded
        assert "numpy" in Path(f"/proc/{worker}/maps").read_text()


def test_one_worker_without_a_watchdog_is_a_single_process(tmp_path: Path) -> None:
    dummy_bundle(tmp_path)
    with serve(tmp_path, workers=1, watchdog=0) as running:
        assert workers_of(running) == []
        assert ask(running.url).status_code == 200
        assert running.stop() == 0


def test_every_worker_tells_the_sum_of_all_to_the_request(tmp_path: Path) -> None:
    dummy_bundle(tmp_path)
    with serve(tmp_path, workers=2) as running:
        wait_until_serving(running, times=2)
        clients = [client_of(running, pid) for pid in workers_of(running)]
        for client, count in zip(clients, (3, 5), strict=True):
            for _ in range(count):
                assert client.post("/predict/dummy", json=BODY).status_code == 200
            assert client.post("/predict/nobody", json=BODY).status_code == 404
        labels = 'door="predict",model="dummy",status="200",version="1"'
        for client in clients:
            wait_for(lambda client=client: f"zto_requests_total{{{labels}}} 8.0" in told(client), running)  # type: ignore[misc]
            text = told(client)
            assert 'zto_refusals_total{code="unknown_model"} 2.0' in text
            assert 'zto_batch_rows_count{model="dummy"} 8.0' in text
            assert 'zto_batch_rows_bucket{le="1.0",model="dummy"} 8.0' in text
            assert 'zto_queue_rows{model="dummy",version="1"} 0.0' in text
            assert 'zto_model_ready{model="dummy",version="1"} 1.0' in text  # the least of both, not the sum
            assert 'zto_model_state{model="dummy",state="ready",version="1"} 1.0' in text
            for worker in (0, 1):
                assert f'zto_process_resident_memory_bytes{{worker="{worker}"}} ' in text
        for client in clients:
            client.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_under_load_loses_no_request(tmp_path: Path, number: signal.Signals) -> None:
    dummy_bundle(tmp_path)
    for _ in range(3):
        with serve(tmp_path, workers=2, drain_s=0.5) as running:
            wait_until_serving(running, times=2)
            address = ("127.0.0.1", int(running.url.rpartition(":")[2]))
            clients = [Client(address, "/predict/dummy", json.dumps(BODY).encode(), is_kept=index % 3 != 0)
                       for index in range(12)]  # fmt: skip
            for client in clients:
                client.start()
            for client in clients:
                client.has_begun.wait()
            running.process.send_signal(number)
            for client in clients:
                client.join()
            assert running.process.wait(30) == 0
            outcomes = sum((client.outcomes for client in clients), Counter[str]())
            assert set(outcomes) == {"200", "told to close", "refused"}
            assert outcomes["refused"] == len(clients)
            assert "Traceback" not in running.log()
            assert "Warning" not in running.log()


@pytest.mark.parametrize("delay_s", [0.3, 0.6, 0.9, 1.2])
def test_sigterm_while_the_workers_start_is_heard(tmp_path: Path, delay_s: float) -> None:
    dummy_bundle(tmp_path)
    with start({"ZTO_MODELS_DIR": str(tmp_path), "WORKERS": "2"}) as running:
        time.sleep(delay_s)
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(30) in (0, -signal.SIGTERM)  # the latter before any code of ours has run
        assert "Traceback" not in running.log()


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"ZTO_MODELS_DIR": "/nowhere/models"}, "the models folder /nowhere/models cannot be read"),
        ({"ZTO_REQUIRED_MODELS": "cat"}, "['cat']"),
        ({"WORKERS": "0"}, "WORKERS='0'"),
        ({"WORKERS": "many"}, "WORKERS='many'"),
        ({"ZTO_WORKERS": "1000"}, "ZTO_WORKERS='1000'"),
        ({"ZTO_THREADS": "few"}, "ZTO_THREADS='few'"),
    ],
)
def test_impossible_settings_are_told_once_before_any_worker_starts(
    tmp_path: Path, environ: dict[str, str], message: str
) -> None:
    dummy_bundle(tmp_path)
    with start({"ZTO_MODELS_DIR": str(tmp_path), "WORKERS": "2"} | environ) as running:
        assert running.process.wait(30) == 2
        assert running.log().count("error: ") == 1
        assert running.log().count(message) == 1
        assert "Traceback" not in running.log()


def test_port_that_is_taken_ends_the_start(tmp_path: Path) -> None:
    dummy_bundle(tmp_path)
    with serve(tmp_path, workers=2) as first:
        port = first.url.rpartition(":")[2]
        with start({"ZTO_MODELS_DIR": str(tmp_path), "ZTO_PORT": port, "WORKERS": "2"}) as second:
            assert second.process.wait(30) == 3
            assert "address already in use" in second.log().lower()


@pytest.mark.parametrize("workers", [1, 2])
def test_service_whose_workers_never_come_up_ends_with_their_status(tmp_path: Path, workers: int) -> None:
    dummy_bundle(tmp_path / "models")
    broken = tmp_path / "httptools.py"  # which uvicorn imports when it starts, before the real one on every path
    broken.write_text("raise RuntimeError('broken on purpose')\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    environ = {"ZTO_MODELS_DIR": str(tmp_path / "models"), "WORKERS": str(workers), "PYTHONPATH": path}
    with start(environ) as running:
        assert running.process.wait(30) == 1
        assert "broken on purpose" in running.log()


@pytest.mark.parametrize("workers", [1, 2])
def test_more_threads_than_cores_are_cut_down_and_told(tmp_path: Path, workers: int) -> None:
    dummy_bundle(tmp_path)
    cores = num_cores()
    share = max(1, cores // workers)
    with serve(tmp_path, threads=1000, workers=workers) as running:
        assert f"ZTO_THREADS=1000 is cut down to {share}: there are {cores} cores" in running.log()
        told = f"workers: 2, threads of each: {share}, cores: {cores}"
        assert (told in running.log()) == (workers == 2)
