"""A service of several workers: which processes there are, and what each of them has of a connection."""

import os
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.support.server import RunningService

PATIENCE_S = 60.0
BODY = {"instances": [{"image": [[1, 2, 3], [4, 5, 6]]}]}


def wait_for(is_so: Callable[[], bool], running: RunningService) -> None:
    """Return when it is so; a service that never gets there fails the test with its log."""
    ends_at = time.monotonic() + PATIENCE_S
    while not is_so():
        if time.monotonic() > ends_at:
            raise TimeoutError(f"never so:\n{running.log()}")
        time.sleep(0.02)


def workers_of(running: RunningService) -> list[int]:
    """Return the process ids of the workers that live."""
    return [pid for pid in running.workers() if pid != running.process.pid]


def wait_until_serving(running: RunningService, *, times: int) -> None:
    """Return when so many workers, since the start and in all, have said that they serve."""
    wait_for(lambda: len(re.findall(r"app\.workers: worker \d+ serves", running.log())) >= times, running)


def wait_until_read(running: RunningService, *connections: socket.socket) -> None:
    """Return when the service has accepted the connections, and read all that was sent on them."""
    wait_for(lambda: all(map(_is_read, connections)), running)


def _is_read(connection: socket.socket) -> bool:
    """Tell whether of a connection over the loopback nothing is on its way, and nothing waits in the kernel."""
    ours, theirs = connection.getsockname()[1], connection.getpeername()[1]
    is_gone = is_taken = False
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, queues, *rest = line.split()
        ports = tuple(int(address.rpartition(":")[2], 16) for address in (local, remote))
        to_send, to_read = (int(queue, 16) for queue in queues.split(":"))
        if ports == (ours, theirs):
            is_gone = to_send == 0
        elif ports == (theirs, ours):
            is_taken = to_read == 0 and rest[4] != "0"  # the inode, which one that nobody has accepted has not
    return is_gone and is_taken


def owner(running: RunningService, local_port: int) -> int | None:
    """Return the worker that has accepted the connection from a port of the loopback; None where none has."""
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, _, remote, _, *rest = line.split()
        if int(remote.rpartition(":")[2], 16) == local_port:
            inodes.add(rest[5])
    for pid in workers_of(running):
        if any(f"socket:[{inode}]" in _open_files(pid) for inode in inodes):
            return pid
    return None


def _open_files(pid: int) -> set[str]:
    found = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.add(os.readlink(file))
        except OSError:  # closed meanwhile
            continue
    return found


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


def told(client: httpx.Client) -> str:
    """Return the figures, each sample's labels in the order of the alphabet."""
    lines = []
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            lines.append(f"{sample.name}{{{labels}}} {sample.value}")
    return "\n".join(lines)
