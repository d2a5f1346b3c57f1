"""Broken bundles offered for a swap while clients ask: what answers goes on, and each reason is told.

Each is put where the next version belongs, by a rename, and the service is told to load the model. It has to refuse,
with the reason in its reply, on the card and in the log; the version before goes on answering, and the broken one
nobody, not even who asks for it by its number.
"""

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.drills import damages, drill, two_versions
from tests.drills.books import Books
from tests.drills.crowd import Crowd, Manner
from tests.drills.damages import DAMAGES, OF_EACH, Damage
from tests.drills.drill import Found, Setting, port_of
from tests.drills.two_versions import MODEL
from tests.support.server import RunningService

TITLE = "50 broken bundles of 10 kinds offered for a swap, under 32 clients"
BAR = "none served, old version uninterrupted, each reason exact"
LIMIT_S = 600
KEY = "a-key-of-the-drills"
_SERVED = "2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much.

    Attributes:
        of_each: Of each kind.
        clients: All of them.
    """

    of_each: int
    clients: int


FULL = Plan(of_each=OF_EACH, clients=32)
SHORT = Plan(of_each=1, clients=1)


def run(setting: Setting) -> Found:
    """Offer all of them."""
    plan = SHORT if setting.is_short else FULL
    faults: list[str] = []
    offered = 0
    with tempfile.TemporaryDirectory() as folder:
        models, staging = Path(folder) / "models", Path(folder) / "staging"
        two_versions.write(models)
        with (
            drill.service(setting, models, admin_key=KEY) as running,
            httpx.Client(base_url=running.url, timeout=60, headers={"Authorization": f"Bearer {KEY}"}) as client,
            Crowd(port_of(running), two_versions.questions(), Manner(clients=plan.clients)) as crowd,
        ):
            for number, (damage, way) in enumerate(_cases(plan), 3):
                faults += [f"{damage.kind}, {way}: {fault}" for fault in _offer(
                    client, running, models, staging, number, damage, way
                )]  # fmt: skip
                offered += 1
                setting.tell(f"{offered}: {damage.kind}, {way}; {len(faults)} faults, {crowd.books.sent} requests")
            books = crowd.stop()
    return _found(plan, offered, faults, books)


def _cases(plan: Plan) -> Iterator[tuple[Damage, int]]:
    for damage in DAMAGES:
        for way in range(plan.of_each):
            yield damage, way


def _found(plan: Plan, offered: int, faults: list[str], books: Books) -> Found:
    misses = list(faults[:5])
    if books.failed or books.refused:
        misses.append(f"{books.failed} requests failed: {books.told()}")
    if set(books.versions) != {_SERVED}:
        misses.append(f"versions {dict(books.versions)} answered")
    if not books.is_balanced or offered < plan.of_each * len(damages.DAMAGES):
        misses.append("the books do not come out")
    return Found(
        line=f"{offered} bundles of {len(DAMAGES)} kinds: {len(faults)} served or refused for another reason; "
        f"{books.sent:,} requests, {books.failed} failed, all answered by version {_SERVED}",
        misses=tuple(misses),
        figures={
            "offered": offered,
            "faults": faults,
            "requests": books.sent,
            "failed": books.failed,
            "versions": dict(books.versions),
        },
    )


def _offer(
    client: httpx.Client,
    running: RunningService,
    models: Path,
    staging: Path,
    number: int,
    damage: Damage,
    way: int,
) -> list[str]:
    """Offer one, and take it away again; return what is not as it should be."""
    prepared = two_versions.copy(staging, number)
    # what is to be found out about the folder holds for where it will lie
    pattern = damage.harm(prepared, way)
    folder = models / MODEL / str(number)
    prepared.rename(folder)
    faults = []
    reply = client.post(f"/v2/repository/models/{MODEL}/load")
    if reply.is_success:
        faults.append(f"the load was answered {reply.status_code}")
    states = client.get("/readyz").json()["models"][MODEL]
    seen = states["versions"].get(str(number), {"state": "not seen", "reason": ""})
    reason = seen["reason"] or ""
    if (states["version"], states["state"], seen["state"]) != (_SERVED, "ready", "failed"):
        faults.append(f"version {states['version']} is {states['state']}, and {number} {seen['state']}")
    if not re.fullmatch(pattern, reason, re.DOTALL):
        faults.append(f"the reason is {reason!r}")
    cards = {card["version"]: card for card in client.get(f"/models/{MODEL}").json()["versions"]}
    if cards.get(str(number), {}).get("reason") != reason:
        faults.append("the card tells another reason")
    if reason not in json.dumps(reply.json(), ensure_ascii=False) and reason not in reply.text:
        faults.append(f"the reply is {reply.text!r}")
    if reason not in running.log():
        faults.append("the log does not tell the reason")
    asked = client.post(f"/predict/{MODEL}?version={number}", json={"instances": []})
    if asked.status_code == 200:
        faults.append("it answers who asks for it")
    shutil.rmtree(folder)
    if not (reply := client.post(f"/v2/repository/models/{MODEL}/load")).is_success:
        faults.append(f"without it, the load is answered {reply.status_code}: {reply.text}")
    return faults
