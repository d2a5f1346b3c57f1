"""Workers that are killed, hang, grow or leave are replaced, and nothing is lost but what a killed one held."""

import os
import resource
import signal
import socket
import threading
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path

import httpx
import pytest

from tests.support.bundles import dummy_bundle, fault
from tests.support.server import serve
from tests.support.workers import BODY, ask, client_of, figure, told, wait_for, wait_until_serving, workers_of


def test_killed_worker_takes_only_its_own_requests_along_and_is_replaced(tmp_path: Path) -> None:  # noqa: C901
    dummy_bundle(tmp_path, behavior={"sleep_s": 0.02}, rows=2)
    with serve(tmp_path, workers=2, hung_s=60) as running:
        wait_until_serving(running, times=2)
        victim, survivor = workers_of(running)
        stop, outcomes = threading.Event(), {victim: Counter[str](), survivor: Counter[str]()}
        sent: list[int] = []  # by whom; a list grows whole, whichever thread has its turn

        def keep_asking(pid: int) -> None:
            def note(event: str, _: object) -> None:
                if event == "http11.send_request_body.complete":
                    sent.append(pid)

            with closing(client_of(running, pid)) as client:
                while not stop.is_set():
                    try:
                        answer = client.post("/predict/dummy", json=BODY, extensions={"trace": note})
                        outcomes[pid][str(answer.status_code)] += 1
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
        wait_for(lambda: sent.count(victim) - sum(outcomes[victim].values()) == 3, running)
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


def test_a_worker_that_is_killed_as_soon_as_the_service_is_ready_is_replaced(tmp_path: Path) -> None:
    dummy_bundle(tmp_path, rows=2)
    dummy_bundle(tmp_path, "slow", behavior={"sleep_s": 0.2}, rows=2)  # on its way for two seconds more
    with serve(tmp_path, ready=None, workers=1, required_models="dummy") as running:
        wait_for(lambda: httpx.get(f"{running.url}/readyz", timeout=30).status_code == 200, running)
        assert "worker 0 serves" not in running.log()
        os.kill(running.pid, signal.SIGKILL)
        assert ask(running.url).status_code == 200
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


def test_a_worker_that_has_no_file_left_outlives_its_sibling(tmp_path: Path) -> None:
    dummy_bundle(tmp_path)
    with serve(tmp_path, workers=2) as running:
        wait_until_serving(running, times=2)
        _, survivor = workers_of(running)
        limits = resource.prlimit(survivor, resource.RLIMIT_NOFILE)
        resource.prlimit(survivor, resource.RLIMIT_NOFILE, (3, limits[1]))
        for killed in range(1, 6):
            time.sleep(0.5)  # what the survivor has not let go of yet, it need not take
            (victim,) = set(workers_of(running)) - {survivor}
            os.kill(victim, signal.SIGKILL)
            wait_until_serving(running, times=2 + killed)
            if "cannot take connections of worker" in running.log():
                break
        assert "cannot take connections of worker" in running.log()
        resource.prlimit(survivor, resource.RLIMIT_NOFILE, limits)
        assert survivor in workers_of(running)
        with closing(client_of(running, survivor)) as client:
            assert client.post("/predict/dummy", json=BODY).status_code == 200


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


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    dummy_bundle(tmp_path)
    with serve(tmp_path, workers=2) as running:
        wait_until_serving(running, times=2)
        pids = workers_of(running)
        running.process.kill()
        running.process.wait()
        wait_for(lambda: not any(is_running(pid) for pid in pids), running)


def test_a_worker_that_hangs_ends_too_when_its_parent_is_killed(tmp_path: Path) -> None:
    dummy_bundle(tmp_path, behavior={"hangs_on": 254.5})
    poison = {"instances": [{"image": [[1, 2, 3], [4, 5, 254.5]]}]}
    with serve(tmp_path, workers=1, run_on="loop", hung_s=60, shutdown_s=1) as running:
        pid = running.pid
        with suppress(httpx.ReadTimeout):
            httpx.post(f"{running.url}/predict/dummy", json=poison, timeout=0.5)
        with pytest.raises(httpx.ReadTimeout):  # it hangs
            httpx.get(f"{running.url}/livez", timeout=0.5)
        running.process.kill()
        running.process.wait()
        wait_for(lambda: not is_running(pid), running)


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
