"""kill -9 of a worker under load: what it had in flight is lost and nothing else, and another takes its place.

The victim is stopped for the few milliseconds in which the kernel is asked which connections it has accepted, and then
killed where it stands, so that the books can tell the requests that it took along from all others: one more than those,
or one on a connection of its sibling, and the bar is missed. Clients that lost their connection connect again at once,
and somebody has to be there.
"""

import os
import re
import signal
import time
from collections import Counter
from dataclasses import dataclass

from tests.drills import drill, kernel, questions
from tests.drills.crowd import Crowd, Manner
from tests.drills.drill import Found, Setting
from tests.support.server import RunningService
from tests.support.workers import wait_for, wait_until_serving, workers_of

TITLE = "kill -9 of one of two workers under load, 10 times, the one with most connections"
BAR = "only its in-flight requests fail; new worker ready within 2 s"
LIMIT_S = 300
READY_BAR_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much.

    Attributes:
        times: Workers killed.
        clients: All of them.
        fresh: Of these, with a connection for every request.
        pause_s: Of each between two requests, so that a core is not full: a start takes processor time.
        between_s: From a worker that serves to the next kill; a life shorter than 10 s would be taken for a failed
            start, and after two of them the service waits.
    """

    times: int
    clients: int
    fresh: int
    pause_s: float
    between_s: float


FULL = Plan(times=10, clients=32, fresh=8, pause_s=0.05, between_s=11.0)
SHORT = Plan(times=1, clients=8, fresh=2, pause_s=0.05, between_s=0.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """One of them.

    Attributes:
        connections: That the victim had; each can have one request in flight.
        lost: Of all clients.
        lost_elsewhere: Of these, on connections that the victim did not have.
        ready_s: From the kill until the next worker serves.
    """

    connections: int
    lost: int
    lost_elsewhere: int
    ready_s: float


def run(setting: Setting) -> Found:
    """Kill one worker after the other."""
    plan = SHORT if setting.is_short else FULL
    manner = Manner(clients=plan.clients, fresh=plan.fresh, pause_s=plan.pause_s)
    kills = []
    with drill.service(setting, drill.models_for(setting, "cnn"), workers=2) as running:
        wait_until_serving(running, times=2)
        with Crowd(drill.port_of(running), questions.of_pictures(), manner) as crowd:
            for number in range(plan.times):
                time.sleep(plan.between_s)
                kills.append(_kill(running, crowd))
                setting.tell(f"{number + 1} of {plan.times}: {kills[-1]}")
            books = crowd.stop()
    lost, elsewhere = sum(kill.lost for kill in kills), sum(kill.lost_elsewhere for kill in kills)
    slowest_s = max(kill.ready_s for kill in kills)
    misses = []
    if elsewhere or lost > sum(kill.connections for kill in kills):
        misses.append(f"{elsewhere} requests lost that the killed ones did not have")
    if books.failed != lost:
        misses.append(f"{books.failed - lost} requests failed otherwise: {books.told()}")
    if books.refused:
        misses.append(f"{books.refused} connections were taken by nobody")
    if not books.is_balanced or books.answered < plan.times * plan.clients:
        misses.append("the books do not come out")
    if not setting.is_short and slowest_s > READY_BAR_S:
        misses.append(f"the slowest was ready after {slowest_s:.2f} s")
    return Found(
        line=f"{plan.times} kills, {plan.clients} clients: {books.sent:,} requests, {lost} lost, all of them in flight "
        f"in a killed worker, {books.failed - lost} others; next worker ready after "
        f"{sorted(kill.ready_s for kill in kills)[len(kills) // 2]:.2f} s, the slowest {slowest_s:.2f} s"
        if not elsewhere
        else f"{elsewhere} requests lost elsewhere",
        misses=tuple(misses),
        figures={
            "requests": books.sent,
            "lost_in_flight": [kill.lost for kill in kills],
            "connections": [kill.connections for kill in kills],
            "lost_elsewhere": elsewhere,
            "failed_otherwise": books.failed - lost,
            "refused_connections": books.refused,
            "ready_s": [kill.ready_s for kill in kills],
        },
    )


def _kill(running: RunningService, crowd: Crowd) -> Kill:
    """Kill a worker, and wait until the next one serves and the clients are whole again."""
    workers = workers_of(running)
    # kept connections gather where they were taken in again after the last kill
    taken = Counter(kernel.owners(crowd.port, workers).values())
    victim = max(workers, key=lambda pid: taken[pid])
    served, lost_before = _times_serving(running), len(crowd.books.losses)
    os.kill(victim, signal.SIGSTOP)
    owned = {port for port, pid in kernel.owners(crowd.port, workers).items() if pid == victim}
    begun_at = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: _times_serving(running) > served, running)
    ready_s = time.monotonic() - begun_at
    wait_for(lambda: victim not in workers_of(running) and len(workers_of(running)) == len(workers), running)
    losses = crowd.books.losses[lost_before:]
    return Kill(
        connections=len(owned),
        lost=len(losses),
        lost_elsewhere=sum(loss.local_port not in owned for loss in losses),
        ready_s=ready_s,
    )


def _times_serving(running: RunningService) -> int:
    return len(re.findall(r"worker \d+ serves", running.log()))
