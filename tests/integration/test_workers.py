"""Several workers: all answer, what one has counted every one tells, and nothing is lost but what a killed one held."""

import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.cpus import num_cores
from tests.container.load import Client
from tests.support.bundles import dummy_bundle, fault
from tests.support.server import RunningService, serve, start
from tests.support.workers import owner, unread, wait_for, wait_until_serving, workers_of

BODY = {"instances": [{"image": [[1, 2, 3], [4, 5, 6]]}]}


def ask(url: str) -> httpx.Response:
    """Ask over a connection of its own."""
    return httpx.post(f"{url}/predict/dummy", json=BODY, timeout=30)


def figure(url: str, name: str, **labels: str) -> float:
    """Return the sum of the samples of a name that have these labels, as one worker tells it."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(httpx.get(f"{url}/metrics", timeout=30).text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def client_of(running: RunningService, pid: int) -> httpx.Client:
    """Return a client whose kept connection a given worker has accepted."""
    for _ in range(200):
        client = httpx.Client(base_url=running.url, timeout=30)
        stream = client.get("/livez").extensions["network_stream"]
        port = stream.get_extra_info("client_addr")[1]
        if owner(running, port) == pid:
            return client
        client.close()
    raise AssertionError(f"process {pid} took none of 200 connections")


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


def told(client: httpx.Client) -> str:
    """Return the figures, each sample's labels in the order of the alphabet."""
    lines = []
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            lines.append(f"{sample.name}{{{labels}}} {sample.value}")
    return "\n".join(lines)


def test_killed_worker_takes_only_its_own_requests_along_and_is_replaced(tmp_path: Path) -> None:
    dummy_bundle(tmp_path, behavior={"sleep_s": 0.02}, rows=2)
    with serve(tmp_path, workers=2) as running:
        wait_until_serving(running, times=2)
        victim, survivor = workers_of(running)
        stop, outcomes = threading.Event(), {victim: Counter[str](), survivor: Counter[str]()}
        asked = Counter[int]()

        def keep_asking(pid: int) -> None:
            with closing(client_of(running, pid)) as client:
                while not stop.is_set():
                    asked[pid] += 1
                    try:
                        outcomes[pid][str(client.post("/predict/dummy", json=BODY).status_code)] += 1
                    except httpx.TransportError as exc:
                        outcomes[pid][type(exc).__name__] += 1
                        return

        fresh: Counter[str] = Counter()

        def keep_coming() -> None:
            while not stop.is_set():
                try:
                    fresh[str(ask(running.url).status_code)] += 1
                except httpx.TransportError as exc:
                    fresh[type(exc).__name__] += 1

        threads = [
            threading.Thread(target=keep_asking, args=(pid,), daemon=True)
            for pid in (victim, survivor)
            for _ in range(3)
        ]
        threads.append(threading.Thread(target=keep_coming, daemon=True))
        for thread in threads:
            thread.start()
        wait_for(lambda: min(count["200"] for count in outcomes.values()) > 20, running)
        before = figure(running.url, "zto_requests_total", status="200")
        os.kill(victim, signal.SIGSTOP)  # so that each of its clients waits: one between two requests would lose none
        wait_for(lambda: asked[victim] - sum(outcomes[victim].values()) == 3, running)
        wait_for(lambda: unread(running, victim) >= 3, running)  # what is counted as asked is sent
        os.kill(victim, signal.SIGKILL)
        wait_until_serving(running, times=3)
        answered = outcomes[survivor]["200"], fresh["200"]
        wait_for(lambda: outcomes[survivor]["200"] > answered[0] + 20 and fresh["200"] > answered[1] + 20, running)
        stop.set()
        for thread in threads:
            thread.join()
        assert set(outcomes[survivor]) == {"200"}
        assert sum(outcomes[victim].values()) - outcomes[victim]["200"] == 3  # of three clients, one request each
        assert set(fresh) <= {"200", "ReadError", "RemoteProtocolError"}
        assert sum(fresh.values()) - fresh["200"] <= 1  # the one that was in flight, if it was the victim's
        pids = workers_of(running)
        assert len(pids) == 2
        assert victim not in pids
        assert survivor in pids
        assert f"(process {victim}) was ended by SIGKILL" in running.log()
        for pid in pids:
            with closing(client_of(running, pid)) as client:
                assert client.post("/predict/dummy", json=BODY).status_code == 200
                assert figure(running.url, "zto_requests_total", status="200") >= before
        assert running.stop() == 0


def test_model_that_ends_its_process_takes_one_worker_along_and_the_service_goes_on(tmp_path: Path) -> None:
    dummy_bundle(tmp_path, behavior={"exits_on": 99})
    fatal = {"instances": [{"image": [[1, 2, 3], [4, 5, 99]]}]}
    with serve(tmp_path, workers=2) as running:
        wait_until_serving(running, times=2)
        before = workers_of(running)
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.post(f"{running.url}/predict/dummy", json=fatal, timeout=30)
        assert ask(running.url).status_code == 200  # by the sibling, or whoever has come by then
        wait_until_serving(running, times=3)
        assert len(set(workers_of(running)) & set(before)) == 1
        assert running.stop() == 0


def test_counters_stand_when_the_worker_that_counted_is_replaced(tmp_path: Path) -> None:
    dummy_bundle(tmp_path)
    with serve(tmp_path, workers=2) as running:
        wait_until_serving(running, times=2)
        victim, survivor = workers_of(running)
        with closing(client_of(running, victim)) as client:
            for _ in range(7):
                client.post("/predict/dummy", json=BODY)
            assert "} 7.0" in told(client)
        with closing(client_of(running, survivor)) as client:
            os.kill(victim, signal.SIGKILL)
            wait_for(lambda: victim not in workers_of(running), running)
            label = 'zto_requests_total{door="predict",model="dummy",status="200",version="1"} 7.0'
            assert label in told(client)
            wait_until_serving(running, times=3)
            assert label in told(client)
            (successor,) = set(workers_of(running)) - {survivor}
            with closing(client_of(running, successor)) as anew:
                assert label in told(anew)
                anew.post("/predict/dummy", json=BODY)
            wait_for(lambda: label.replace("7.0", "8.0") in told(client), running)


def test_connections_that_wait_for_a_killed_worker_are_served(tmp_path: Path) -> None:
    """Both are stopped, so that what is opened meanwhile waits in the kernel; then one is killed."""
    dummy_bundle(tmp_path)
    with serve(tmp_path, workers=2) as running:
        wait_until_serving(running, times=2)
        victim, survivor = workers_of(running)
        for pid in (victim, survivor):
            os.kill(pid, signal.SIGSTOP)
        port = int(running.url.rpartition(":")[2])
        connections = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(32)]
        for connection in connections:
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        os.kill(victim, signal.SIGKILL)
        os.kill(survivor, signal.SIGCONT)
        for connection in connections:
            with connection:
                assert connection.recv(4096).startswith(b"HTTP/1.1 200")


def test_worker_that_cannot_start_again_is_told_and_not_retried_without_pause(tmp_path: Path) -> None:
    models = tmp_path / "models"
    dummy_bundle(models)
    with serve(models, workers=2) as running:
        wait_until_serving(running, times=2)
        victim, survivor = workers_of(running)
        models.rename(tmp_path / "away")
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: "the next starts in 1 s" in running.log(), running)
        assert workers_of(running) == [survivor]
        assert "cannot start: the models folder" in running.log()
        assert "ended with status 2" in running.log()
        assert ask(running.url).status_code == 200  # whichever socket it came in on
        (tmp_path / "away").rename(models)
        wait_until_serving(running, times=3)
        assert len(workers_of(running)) == 2


def test_worker_told_to_leave_alone_finishes_and_is_replaced(tmp_path: Path) -> None:
    dummy_bundle(tmp_path, behavior={"sleep_s": 0.3}, rows=2)
    with serve(tmp_path, workers=2) as running:
        wait_until_serving(running, times=2)
        leaving, _ = workers_of(running)
        answers: list[int] = []
        with closing(client_of(running, leaving)) as client:
            thread = threading.Thread(
                target=lambda: answers.append(client.post("/predict/dummy", json=BODY).status_code)
            )
            thread.start()
            time.sleep(0.1)
            os.kill(leaving, signal.SIGTERM)
            thread.join()
        assert answers == [200]
        wait_until_serving(running, times=3)
        for pid in workers_of(running):  # the new one's socket takes connections: nothing of the old one's end is left
            with closing(client_of(running, pid)) as client:
                assert client.post("/predict/dummy", json=BODY).status_code == 200


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


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    dummy_bundle(tmp_path)
    with serve(tmp_path, workers=2) as running:
        wait_until_serving(running, times=2)
        pids = workers_of(running)
        running.process.kill()
        running.process.wait()
        wait_for(lambda: not any(is_running(pid) for pid in pids), running)


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


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


@pytest.mark.parametrize("workers", [1, 2])
def test_worker_whose_event_loop_hangs_is_replaced(tmp_path: Path, workers: int) -> None:
    dummy_bundle(tmp_path, behavior={"hangs_on": 254.5})
    poison = {"instances": [{"image": [[1, 2, 3], [4, 5, 254.5]]}]}
    with serve(tmp_path, workers=workers, run_on="loop", hung_s=2) as running:
        wait_until_serving(running, times=workers)
        hung, *survivors = workers_of(running)
        with closing(client_of(running, hung)) as client, pytest.raises(httpx.TransportError):
            client.post("/predict/dummy", json=poison, timeout=50)
        wait_for(lambda: f"(process {hung}) gave no sign of life for 2 s" in running.log(), running)
        wait_until_serving(running, times=workers + 1)
        assert len(workers_of(running)) == workers
        assert set(survivors) <= set(workers_of(running))
        assert hung not in workers_of(running)
        assert ask(running.url).status_code == 200
        assert running.stop() == 0


def test_worker_that_is_stopped_is_replaced_and_one_that_was_stopped_for_a_moment_is_not(tmp_path: Path) -> None:
    dummy_bundle(tmp_path)
    with serve(tmp_path, workers=1, hung_s=3) as running:
        (pid,) = workers_of(running)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.7)  # more than a look, and far less than six
        os.kill(pid, signal.SIGCONT)
        assert ask(running.url).status_code == 200
        assert workers_of(running) == [pid]
        os.kill(pid, signal.SIGSTOP)
        assert ask(running.url).status_code == 200  # it waits for the next worker, and is not reset
        assert pid not in workers_of(running)


def test_requests_that_come_while_the_one_worker_is_replaced_wait_for_the_next(tmp_path: Path) -> None:
    dummy_bundle(tmp_path)
    with serve(tmp_path, workers=1) as running:
        wait_until_serving(running, times=1)  # which its parent has seen then: one that ends before is not replaced
        for _ in range(2):
            os.kill(running.pid, signal.SIGKILL)
            assert ask(running.url).status_code == 200  # of the worker that is not there yet, its model loaded
        wait_for(lambda: "zto_requests_total" in httpx.get(f"{running.url}/metrics").text, running)
        assert running.log().count("was ended by SIGKILL") == 2
        assert running.stop() == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_worker_that_grows_too_large_is_replaced_and_loses_no_request(tmp_path: Path, workers: int) -> None:
    folder = dummy_bundle(tmp_path, behavior={"heeds_faults": True})
    most = 256 * 2**20
    with serve(tmp_path, workers=workers, max_worker_bytes=most, drain_s=0.3) as running:
        wait_until_serving(running, times=workers)
        statuses: Counter[object] = Counter()
        stop = threading.Event()

        def keep_asking() -> None:
            with httpx.Client(base_url=running.url, timeout=60) as client:
                while not stop.is_set():
                    statuses[client.post("/predict/dummy", json=BODY).status_code] += 1

        threads = [threading.Thread(target=keep_asking) for _ in range(4)]
        for thread in threads:
            thread.start()
        with fault(folder, fault="leak", leak_bytes=2**18):
            wait_for(lambda: "it is replaced" in running.log(), running)
        wait_until_serving(running, times=workers + 1)
        stop.set()
        for thread in threads:
            thread.join()
        assert set(statuses) == {200}
        assert "ZTO_MAX_WORKER_BYTES allows 256 MiB" in running.log()
        assert "ended with status 0" in running.log()
        assert running.stop() == 0
