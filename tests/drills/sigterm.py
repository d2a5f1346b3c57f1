"""SIGTERM while clients ask as fast as they can: whoever was taken is answered whole, and the process exits with 0.

Half of the starts have two workers. Most clients keep their connections, as proxies do, and the others open one for
every request. A client is done when nobody takes its connection any more; whatever it wrote before has to be answered
with 200.
"""

import time
from dataclasses import dataclass

from tests.drills import drill, questions
from tests.drills.books import Books
from tests.drills.crowd import Crowd, Manner
from tests.drills.drill import Found, Setting

TITLE = "SIGTERM under 64 clients, 20 times, of one worker and of two"
BAR = "no request lost"
LIMIT_S = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much.

    Attributes:
        times: How often a service is started and ended.
        clients: All of them.
        fresh: Of these, with a connection for every request.
        under_load_s: From the first answers to the signal.
    """

    times: int
    clients: int
    fresh: int
    under_load_s: float


FULL = Plan(times=20, clients=64, fresh=16, under_load_s=1.0)
SHORT = Plan(times=1, clients=16, fresh=4, under_load_s=0.1)


def run(setting: Setting) -> Found:
    """End the service again and again."""
    plan = SHORT if setting.is_short else FULL
    total, statuses, took_s = Books(), [], []
    for number in range(plan.times):
        books, status, seconds = _once(plan, setting, workers=1 + number % 2)
        setting.tell(f"{number + 1} of {plan.times}: {books.sent} requests, {books.told() or 'none failed'}")
        total.add(books)
        statuses.append(status)
        took_s.append(seconds)
    misses = []
    if total.failed:
        misses.append(f"{total.failed} requests failed: {total.told()}")
    if not total.is_balanced:
        misses.append("the books do not come out")
    if any(statuses):
        misses.append(f"exit statuses {statuses}")
    if total.answered < plan.times * plan.clients:
        misses.append("too few requests to tell")
    return Found(
        line=f"{plan.times} times, {plan.clients} clients: {total.sent:,} requests, {total.failed} lost; "
        f"{sum(status == 0 for status in statuses)} exits with 0, the slowest after {max(took_s):.1f} s",
        misses=tuple(misses),
        figures={"requests": total.sent, "lost": total.failed, "exit_statuses": statuses, "seconds_to_exit": took_s},
    )


def _once(plan: Plan, setting: Setting, *, workers: int) -> tuple[Books, int, float]:
    """Start, load and end one service; return the clients' books, its exit status and the seconds that it took."""
    manner = Manner(clients=plan.clients, fresh=plan.fresh, ends_when_refused=True)
    with (
        drill.service(setting, drill.models_for(setting, "cnn"), workers=workers, drain_s=0.5) as running,
        Crowd(drill.port_of(running), questions.of_pictures(), manner) as crowd,
    ):
        time.sleep(plan.under_load_s)
        begun_at = time.monotonic()
        status = running.stop()
        return crowd.wait(), status, time.monotonic() - begun_at
