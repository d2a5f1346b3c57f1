"""A backend that breaks while it serves, in one of two workers: out, back, and nobody else notices.

Two models, two workers, clients at both models on connections to both workers. Then one model's backend breaks in one
worker: it hangs on its thread, hangs the event loop, raises, answers wrong numbers, NaN, or a row too many, or keeps
memory. From then on the broken worker is asked for its readiness over a connection of its own, so that it is that
worker which tells when the model is out and when it is back. Requests that the broken backend had, and those of the
seconds until that is noticed, may fail; the other worker's, and all of the other model's, may not, but for those on the
connections of a worker whose event loop hung, and which was therefore replaced.
"""

import contextlib
import http.client
import json
import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np

from benchmarks import pictures
from tests.drills import drill, kernel
from tests.drills.books import Books
from tests.drills.crowd import HOST, Crowd, Manner, Question
from tests.drills.drill import Found, Setting, port_of
from tests.support.bundles import dummy_bundle, fault, predict
from tests.support.server import RunningService
from tests.support.workers import wait_for, wait_until_serving, workers_of

TITLE = "a backend that hangs, raises, returns garbage or leaks, in one of two workers"
BAR = "out of rotation within 5 s, back when well, other workers and (unless it hung the loop) other models untouched"
LIMIT_S = 600
OUT_BAR_S = 5.0
SICK, WELL = "fragile", "sturdy"
_ATOL = 1e-5
_MOST_WORKER_BYTES = 250 * 2**20
_MOST_TRIES = 200
_PICTURES = [[[1, 2, 3], [4, 5, 6]], [[9, 8, 7], [6, 5, 4]], [[0, 0, 0], [0, 0, 1]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Illness:
    """One way to break.

    Attributes:
        name: In a word.
        fault: As the dummy backend takes it.
        runs_on: ``thread`` or ``loop``.
        ends_worker: Whether the worker has to be replaced, since nothing inside it can help.
        stops_loop: Whether what else the worker has is stopped too.
    """

    name: str
    fault: dict[str, object]
    runs_on: str = "thread"
    ends_worker: bool = False
    stops_loop: bool = False


ILLNESSES = (
    Illness(name="hangs on its thread", fault={"fault": "hang"}),
    Illness(name="hangs the event loop", fault={"fault": "hang"}, runs_on="loop", ends_worker=True, stops_loop=True),
    Illness(name="raises", fault={"fault": "raise"}),
    Illness(name="answers wrong numbers", fault={"fault": "wrong"}),
    Illness(name="answers NaN", fault={"fault": "nan"}),
    Illness(name="answers a row too many", fault={"fault": "rows"}),
    Illness(name="leaks", fault={"fault": "leak", "leak_bytes": 2**19}, ends_worker=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much.

    Attributes:
        illnesses: Each with a service of its own.
        clients: Of each model, on connections that the workers share.
        before_s: Of good health.
        after_s: Likewise, in the end.
    """

    illnesses: Sequence[Illness]
    clients: int
    before_s: float
    after_s: float


FULL = Plan(illnesses=ILLNESSES, clients=16, before_s=1.0, after_s=2.0)
SHORT = Plan(illnesses=ILLNESSES[2:3], clients=8, before_s=0.2, after_s=0.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What came of one illness.

    Attributes:
        name: Of the illness.
        out_s: From its outbreak until the model was out of rotation in that worker.
        back_s: From the end of the fault until the model was back there.
        failed_in_sick: Requests of the sick model that failed in the sick worker.
        untouched: Requests of all others.
        touched: Of these, the failed ones.
        wrong_after_out: Wrong numbers that were answered once the model was out.
    """

    name: str
    out_s: float
    back_s: float
    failed_in_sick: int
    untouched: int
    touched: int
    wrong_after_out: int


def run(setting: Setting) -> Found:
    """Go through all of them."""
    plan = SHORT if setting.is_short else FULL
    courses, misses = [], []
    for illness in plan.illnesses:
        try:
            course = _course(plan, setting, illness)
        except TimeoutError as exc:
            setting.tell(f"{illness.name}: {exc}")
            misses.append(f"{illness.name}: never out, or never back")
            continue
        setting.tell(str(course))
        courses.append(course)
        misses += [f"{course.name}: {fault}" for fault in _faults(course, is_short=setting.is_short)]
    if not courses:
        return Found(line="no model came back", misses=tuple(misses))
    slowest = max(courses, key=lambda course: course.out_s)
    untouched, touched = sum(course.untouched for course in courses), sum(course.touched for course in courses)
    return Found(
        line=f"{len(courses)} ways: out of rotation after {slowest.out_s:.1f} s at the most ({slowest.name}), back "
        f"{max(course.back_s for course in courses):.1f} s at the most after the fault had gone; of {untouched:,} "
        f"requests to others {touched} failed",
        misses=tuple(misses),
        figures={"courses": [asdict(course) for course in courses]},
    )


def _faults(course: Course, *, is_short: bool) -> list[str]:
    faults = []
    if not is_short and course.out_s > OUT_BAR_S:
        faults.append(f"out of rotation after {course.out_s:.1f} s")
    if course.touched:
        faults.append(f"{course.touched} requests of others failed")
    if course.wrong_after_out:
        faults.append(f"{course.wrong_after_out} wrong answers after it was out")
    if not course.untouched:
        faults.append("nobody else was asked")
    return faults


def _course(plan: Plan, setting: Setting, illness: Illness) -> Course:
    """Let a service of its own fall ill, and see it well again."""
    settings = {
        "workers": 2, "backend": "dummy", "run_on": illness.runs_on, "max_worker_bytes": _MOST_WORKER_BYTES,
    }  # fmt: skip
    manner = Manner(clients=plan.clients, pause_s=0.005)
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = dummy_bundle(Path(name), SICK, behavior={"heeds_faults": True}, rows=4)
        dummy_bundle(Path(name), WELL, rows=4)
        running = stack.enter_context(drill.service(setting, Path(name), **settings))
        wait_until_serving(running, times=2)
        sick_pid = workers_of(running)[0]
        crowds = {
            model: stack.enter_context(Crowd(port_of(running), _questions(model), manner)) for model in (SICK, WELL)
        }
        time.sleep(plan.before_s)
        owners = kernel.owners(port_of(running), workers_of(running))
        with _Patient(running, sick_pid) as patient:
            with fault(folder, pid=sick_pid, **illness.fault):
                begun_at = time.monotonic()
                wait_for(lambda: not patient.serves(), running)
                out_s = time.monotonic() - begun_at
                wrong_when_out = crowds[SICK].books.wrong.total()
                time.sleep(plan.before_s)
            mended_at = time.monotonic()
            wait_for(lambda: _are_well(running, patient, sick_pid), running)
            back_s = time.monotonic() - mended_at
        time.sleep(plan.after_s)
        books = {model: crowd.stop() for model, crowd in crowds.items()}
    sick_ports = {port for port, pid in owners.items() if pid == sick_pid}
    well_ports = owners.keys() - sick_ports
    # a connection that was opened since may be anybody's, but the well model is well everywhere
    touched = [failure for failure in books[SICK].failures if failure.local_port in well_ports]
    touched += [
        failure for failure in books[WELL].failures if failure.local_port not in sick_ports or not illness.stops_loop
    ]
    return Course(
        name=illness.name,
        out_s=out_s,
        back_s=back_s,
        failed_in_sick=books[SICK].failed - sum(failure.local_port in well_ports for failure in books[SICK].failures),
        untouched=books[WELL].sent + sum(books[SICK].sent_by_port[port] for port in well_ports),
        touched=len(touched),
        wrong_after_out=books[SICK].wrong.total() - wrong_when_out,
    )


class _Patient:
    """A connection to one worker, over which it tells how it is.

    Args:
        running: The service.
        pid: The worker.
    """

    def __init__(self, running: RunningService, pid: int) -> None:
        self._connection = self._connect(running, pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def serves(self) -> bool:
        """Return whether the worker lives, and the sick model serves there."""
        try:
            self._connection.request("GET", "/readyz")
            document = json.loads(self._connection.getresponse().read())
        except (OSError, http.client.HTTPException):  # it was ended; or it hangs, and will be
            self._connection.close()
            return False
        return bool(document["status"] != "draining" and document["models"][SICK]["state"] == "ready")

    @staticmethod
    def _connect(running: RunningService, pid: int) -> http.client.HTTPConnection:
        port = port_of(running)
        for _ in range(_MOST_TRIES):
            connection = http.client.HTTPConnection(HOST, port, timeout=30)
            connection.request("GET", "/livez")
            connection.getresponse().read()
            if kernel.owners(port, [pid]).get(connection.sock.getsockname()[1]) == pid:
                return connection
            connection.close()
        raise TimeoutError(f"process {pid} has taken none of {_MOST_TRIES} connections")


def _are_well(running: RunningService, patient: _Patient, pid: int) -> bool:
    """Return whether two workers serve, and the sick one is well or another stands in its place."""
    workers = workers_of(running)
    if pid in workers:
        return patient.serves()
    served = re.findall(r"worker \d+ serves", running.log())
    return len(workers) == 2 and len(served) >= 3


def _questions(model: str) -> list[Question]:
    """Return requests for a dummy bundle, whose numbers are worked out here once more."""
    found = []
    for picture in _PICTURES:
        (expected,) = predict(np.array([picture], np.float32))
        (data,) = pictures.http_requests(f"/predict/{model}", [pictures.as_json({"instances": [{"image": picture}]})])

        def check(books: Books, head: bytes, body: bytes, expected: float = expected["probability"]) -> str:
            (told,) = json.loads(body)["predictions"]
            return "" if abs(told["probability"] - expected) <= _ATOL else "a wrong number"

        found.append(Question(data=data, check=check))
    return found
