"""A rolling restart of two replicas behind nginx: one ends and comes back, then the other, while clients ask on.

The configuration is :data:`tests.drills.nginx.CONFIGURATION`: connections to the replicas are kept, and nothing is ever
tried again. Somebody asks each replica for ``/readyz`` ten times a second, as load balancers and orchestrators do, and
takes it out or in by that alone; the replica's grace (``ZTO_DRAIN_S``) has to cover the time until that is noticed.
"""

import contextlib
import threading
import time
from dataclasses import dataclass
from typing import Self

import httpx

from benchmarks.servers import free_ports
from tests.drills import drill, nginx, questions
from tests.drills.crowd import HOST, Crowd, Manner
from tests.drills.drill import Found, Setting
from tests.support.server import RunningService

TITLE = "rolling restart of two replicas behind nginx without retries, under 64 clients"
BAR = "no request lost"
LIMIT_S = 300
DRAIN_S = 1.0
CHECK_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much.

    Attributes:
        times: How often both are restarted.
        clients: All of them.
        fresh: Of these, with a connection for every request.
        between_s: From a replica that is ready to the next that ends.
    """

    times: int
    clients: int
    fresh: int
    between_s: float


FULL = Plan(times=5, clients=64, fresh=16, between_s=2.0)
SHORT = Plan(times=1, clients=4, fresh=1, between_s=0.2)


def run(setting: Setting) -> Found:
    """Restart both, again and again."""
    plan = SHORT if setting.is_short else FULL
    if nginx.executable() is None:
        return Found(line="not run", misses=("nginx is not installed: apt-get install nginx-light",))
    first, second = free_ports(2)
    manner = Manner(clients=plan.clients, fresh=plan.fresh)
    statuses: list[int] = []
    with contextlib.ExitStack() as stack:
        replicas = [stack.enter_context(_Replica(setting, port)) for port in (first, second)]
        proxy = stack.enter_context(nginx.proxy(first, second))
        stack.enter_context(_Checks(proxy, replicas))
        with Crowd(proxy.port, questions.of_pictures(), manner) as crowd:
            for number in range(plan.times):
                for replica in replicas:
                    time.sleep(plan.between_s)
                    statuses.append(replica.restart())
                told = crowd.books.told() or "none failed"
                setting.tell(f"{number + 1} of {plan.times}: {crowd.books.sent} requests, {told}")
            time.sleep(plan.between_s)
            books = crowd.stop()
        errors = proxy.errors()
    misses = []
    if books.failed or books.refused:
        misses.append(f"{books.failed} requests failed ({books.told()}), {books.refused} connections refused")
    if any(statuses):
        misses.append(f"exit statuses {statuses}")
    if not books.is_balanced or books.answered < len(statuses) * plan.clients:
        misses.append("the books do not come out")
    return Found(
        line=f"{len(statuses)} restarts, {plan.clients} clients: {books.sent:,} requests, {books.failed} lost, "
        "none tried twice",
        misses=tuple(misses),
        figures={
            "requests": books.sent,
            "lost": books.failed,
            "restarts": len(statuses),
            "exit_statuses": statuses,
            "errors_of_nginx": len(errors),
        },
    )


class _Replica:
    """A service on a port of its own, that can be restarted."""

    def __init__(self, setting: Setting, port: int) -> None:
        self.port = port
        self._setting = setting
        self._stack = contextlib.ExitStack()
        self._running: RunningService | None = None

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        self._running = self._stack.enter_context(
            drill.service(self._setting, drill.models_for(self._setting, "cnn"), port=self.port, drain_s=DRAIN_S)
        )

    def restart(self) -> int:
        """End it as an orchestrator does, start it again, and return the exit status."""
        assert self._running is not None
        status = self._running.stop()
        self._stack.close()
        self._start()
        return status


class _Checks:
    """Asks every replica whether it is ready, and takes it in and out by the answer."""

    def __init__(self, proxy: nginx.Proxy, replicas: list[_Replica]) -> None:
        self._proxy, self._replicas = proxy, replicas
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(CHECK_S):
            for replica in self._replicas:
                self._proxy.put(replica.port, is_in=_is_ready(replica.port))


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://{HOST}:{port}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False
