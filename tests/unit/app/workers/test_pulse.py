import socket
from collections.abc import Iterator

import pytest

from app.workers.pulse import LOOK_S, MOST_EXCUSED_S, Effort, Pulse, answer, effort_of, hear

SLEEPS, WORKS = Effort(wants=False, computed_s=0.0), Effort(wants=True, computed_s=0.0)


class Looks:
    """Looks at a pulse, each in its time; tells it what the worker's process does meanwhile."""

    def __init__(self, ours: socket.socket, effort: Effort | None) -> None:
        self.effort = effort
        self.now = 0.0
        self.pulse = Pulse(ours, patience_s=300.0, effort=lambda: self.effort)

    def look(self, times: int = 1, *, after_s: float = LOOK_S) -> None:
        for _ in range(times):
            self.now += after_s
            self.pulse.look(self.now)


@pytest.fixture
def channel() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    yield ours, theirs
    ours.close()
    theirs.close()


def tell(theirs: socket.socket, *, patience_s: float = 4.0, wants_out: str = "") -> None:
    answer(theirs, {"patience_s": patience_s, "wants_out": wants_out})


def test_who_answers_every_time_is_never_given_up(channel: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = channel
    looks = Looks(ours, SLEEPS)
    for _ in range(100):
        looks.look()
        assert hear(theirs)
        assert not hear(theirs)  # one question at a time
        tell(theirs)
    assert looks.pulse.has_answered
    assert looks.pulse.silent_s == 0


def test_who_falls_silent_is_given_up_after_as_many_looks_as_its_patience_holds(
    channel: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = channel
    looks = Looks(ours, SLEEPS)
    tell(theirs)
    looks.look()  # which asks
    looks.look(7)
    assert not looks.pulse.has_stopped
    looks.look()
    assert looks.pulse.has_stopped
    tell(theirs)
    looks.look(after_s=0.01)  # it lives all the same
    assert not looks.pulse.has_stopped


def test_looks_that_follow_each_other_too_soon_are_none(channel: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = channel
    looks = Looks(ours, SLEEPS)
    tell(theirs)
    looks.look()
    looks.look(1000, after_s=LOOK_S / 1000)
    assert looks.pulse.silent_s <= 2 * LOOK_S


def test_machine_that_stalls_for_long_counts_as_one_look(channel: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = channel
    looks = Looks(ours, SLEEPS)
    tell(theirs)
    looks.look()
    looks.look(after_s=3600)
    assert not looks.pulse.has_stopped


def test_who_wants_to_run_and_is_not_let_is_excused_for_long_and_not_for_ever(
    channel: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = channel
    looks = Looks(ours, WORKS)
    tell(theirs)
    looks.look(2)
    excused = int(MOST_EXCUSED_S / LOOK_S)
    looks.look(excused)
    assert not looks.pulse.has_stopped
    looks.look(int(4 / LOOK_S))
    assert looks.pulse.has_stopped


def test_who_runs_in_circles_is_not_excused(channel: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = channel
    looks = Looks(ours, WORKS)
    tell(theirs)
    looks.look()
    for n in range(8):
        looks.effort = Effort(wants=True, computed_s=(n + 1) * LOOK_S)
        looks.look()
    assert looks.pulse.has_stopped


def test_a_worker_tells_its_patience_and_that_it_wants_out(channel: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = channel
    looks = Looks(ours, None)
    assert looks.pulse.patience_s == 300
    assert not looks.pulse.has_answered
    tell(theirs, patience_s=30.0, wants_out="has threads that hang")
    looks.look()
    assert (looks.pulse.patience_s, looks.pulse.wants_out) == (30, "has threads that hang")
    looks.look(60)
    assert looks.pulse.has_stopped


def test_nobody_at_the_other_end_hurts_neither(channel: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = channel
    theirs.close()
    Looks(ours, None).look(3)
    ours.close()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.close()
    tell(theirs)
    assert not hear(theirs)
    theirs.close()


def test_the_effort_of_a_process_is_that_of_its_main_thread() -> None:
    import os
    import time

    before = effort_of(os.getpid())
    ends_at = time.process_time() + 0.05
    while time.process_time() < ends_at:
        pass
    after = effort_of(os.getpid())
    assert before is not None
    assert after is not None
    assert after.wants
    assert after.computed_s > before.computed_s
    assert effort_of(2**22 + 1) is None
