"""Five hundred swaps under load: every answer is of one version, whole, and what was swapped out is given back.

Both versions lie in the models folder, and only what serves is held (``keep: served``), so each change of the pinned
default loads, proves and warms one version up and frees the other.
"""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import httpx

from benchmarks.scenarios import _processes
from tests.drills import drill, two_versions
from tests.drills.books import Books
from tests.drills.crowd import Crowd, Manner
from tests.drills.drill import Found, Setting, growth_percent, port_of
from tests.drills.two_versions import MODEL

TITLE = "500 swaps between two versions under 32 clients"
BAR = (
    "no failed request, no answer mixing versions (head, body and numbers agree); memory growth under 5% after the "
    "first 50"
)
LIMIT_S = 1200
MOST_GROWTH_PERCENT = 5.0
KEY = "a-key-of-the-drills"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much.

    Attributes:
        swaps: From one version to the other.
        warm: Of these, before the memory is first looked at.
        clients: All of them.
    """

    swaps: int
    warm: int
    clients: int


FULL = Plan(swaps=500, warm=50, clients=32)
SHORT = Plan(swaps=3, warm=1, clients=4)


def run(setting: Setting) -> Found:
    """Swap to and fro."""
    plan = SHORT if setting.is_short else FULL
    own_mb, took_s, faults = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        two_versions.write(Path(folder))
        with (
            drill.service(setting, Path(folder), admin_key=KEY) as running,
            httpx.Client(base_url=running.url, timeout=60, headers={"Authorization": f"Bearer {KEY}"}) as client,
            Crowd(port_of(running), two_versions.questions(), Manner(clients=plan.clients)) as crowd,
        ):
            for number in range(1, plan.swaps + 1):
                wanted = 1 + (number + 1) % 2  # version 2 answers at first
                begun_at = time.monotonic()
                reply = client.put(f"/admin/models/{MODEL}/policy", json={"default": wanted, "keep": "served"})
                took_s.append(time.monotonic() - begun_at)
                if fault := _fault(reply, client, wanted):
                    faults.append(f"swap {number}: {fault}")
                own_mb.append(_processes.memory(running.process.pid).own / 1e6)
                if number % max(1, plan.swaps // 20) == 0:
                    failed = len(crowd.books.failures)
                    setting.tell(f"{number}: {crowd.books.sent} requests, {failed} failed, {own_mb[-1]:.1f} MB")
            books = crowd.stop()
    return _found(plan, setting, books, own_mb, took_s, faults)


def _fault(reply: httpx.Response, client: httpx.Client, wanted: int) -> str:
    """Return what is wrong after a swap; empty where nothing is."""
    if not reply.is_success:
        return f"answered {reply.status_code}: {reply.text}"
    states = client.get("/readyz").json()["models"][MODEL]
    if (states["version"], states["state"]) != (str(wanted), "ready"):
        return f"version {states['version']} is {states['state']}"
    return ""


def _found(
    plan: Plan, setting: Setting, books: Books, own_mb: list[float], took_s: list[float], faults: list[str]
) -> Found:
    # a look finds now and then what a version that is just being freed still holds
    around = max(1, plan.warm // 2)
    growth = growth_percent(median(own_mb[plan.warm - 1 :][:around]), median(own_mb[-around:]))
    misses = list(faults[:3])
    if books.failed or books.refused:
        misses.append(f"{books.failed} requests failed: {books.told()}")
    if not books.is_balanced or set(books.versions) != {"1", "2"} or min(books.versions.values()) < plan.clients:
        misses.append(f"the books do not come out: {dict(books.versions)}")
    if not setting.is_short and growth > MOST_GROWTH_PERCENT:
        misses.append(f"memory grew by {growth:.1f}%")
    return Found(
        line=f"{plan.swaps} swaps, {plan.clients} clients: {books.sent:,} requests, {books.failed} failed or mixed "
        f"({books.versions['1']:,} by version 1, {books.versions['2']:,} by version 2); a swap took "
        f"{sorted(took_s)[len(took_s) // 2] * 1e3:.0f} ms; memory {growth:+.1f}% after the first {plan.warm}",
        misses=tuple(misses),
        figures={
            "swaps": plan.swaps,
            "requests": books.sent,
            "failed": books.failed,
            "wrong": dict(books.wrong),
            "versions": dict(books.versions),
            "faults": faults,
            "swap_s": {"median": sorted(took_s)[len(took_s) // 2], "longest": max(took_s)},
            "own_memory_mb": own_mb[:: max(1, plan.swaps // 50)],
        },
    )
