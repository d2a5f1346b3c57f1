"""The parent: starts the workers, watches them, and replaces those that end or hang. It serves nothing itself.

::

    started ──▶ answers ──▶ told to leave ──▶ ended ──▶ started, at once or after a pause
       │           └─ ends, is killed, hangs ───▲
       └────────── never answers ───────────────┘

- Workers are forked. With one, the parent has imported next to nothing by then, so that it costs little; with several,
  it has imported what they serve with, so that they share it, and a new one is there soon. It never has a thread, and
  never a runtime.
- A worker is dead at once when its process ends; the reason is told.
- What ends again and again is started after a growing pause. Where not one worker has ever served, the service ends,
  as a process without a parent would.
- A worker whose event loop does not turn is killed, see :mod:`app.workers.pulse`. One that asks to be replaced, or has
  grown beyond ``ZTO_MAX_WORKER_BYTES``, is told to leave, finishes what it has taken, and is replaced.
- At the end, the parent lets go of the sockets before the workers do, and waits for them no longer than they may take.
- It may be the first process of a container, so it takes in every child that ends, also those of others.
"""

import contextlib
import gc
import logging
import os
import select
import signal
import socket
import time
from collections import Counter
from pathlib import Path

from app.ports import OPERATORS, reserve
from app.settings import EXIT_BAD_SETTINGS, Settings
from app.workers.board import Board
from app.workers.listeners import announce, listen
from app.workers.notes import without_gauges
from app.workers.place import END_S, Place
from app.workers.pulse import LOOK_S, Pulse, effort_of

logger = logging.getLogger("app.workers")

# one that imports and reads manifests has no event loop yet; a busy machine takes its time
START_S = 300.0
# one that has not lived so long has failed at its start
SHORT_LIFE_S = 10.0
LONGEST_PAUSE_S = 30.0
# between two workers that are told to leave: one is back before the next goes. What does not help for long is done ever
# less often
RENEW_AFTER_S, LONGEST_RENEWAL_S = 30.0, 1800.0
# a process that was killed is gone as soon as the kernel lets it
_KILLED_S = 5.0
_ENDING = (signal.SIGTERM, signal.SIGINT)


class Worker:
    """One worker, seen from the parent.

    Args:
        number: Among the workers.
        pid: Of its process.
        channel: The parent's end of its pulse.
    """

    def __init__(self, number: int, pid: int, channel: socket.socket) -> None:
        self.number = number
        self.pid = pid
        self.started_at = time.monotonic()
        self.ends_by: float | None = None  # once it was told to leave
        self.killed_because = ""
        self.pulse = Pulse(channel, patience_s=START_S, effort=lambda: effort_of(pid))

    def send(self, number: int) -> None:
        """Send a signal; the process has not been waited for, so the id is still its own."""
        os.kill(self.pid, number)

    def resident_bytes(self) -> int:
        """Return the memory that its process holds; 0 where the system does not tell."""
        try:
            return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except OSError:
            return 0


class Parent:
    """Keeps the workers alive until a signal comes.

    Args:
        settings: Of the service.
        listeners: The socket of each worker.
    """

    def __init__(self, settings: Settings, listeners: list[socket.socket]) -> None:
        self._settings = settings
        self._listeners = listeners
        self._board = Board(settings.workers)
        self._workers: dict[int, Worker] = {}  # by process id
        self._start_at = dict.fromkeys(range(settings.workers), 0.0)  # by number, of those that are not there
        self._short_lives: Counter[int] = Counter()
        self._started: set[int] = set()
        self._is_announced = False
        self._renewed_at = float("-inf")
        self._renew_after_s = RENEW_AFTER_S
        self._is_ending = False
        self._status = 0
        self._heard: list[int] = []
        self._lifeline, self._lifeline_end = os.pipe()
        self._signals, self._signaled = socket.socketpair()
        self._signals.setblocking(False)
        self._signaled.setblocking(False)
        for number in _ENDING:
            signal.signal(number, lambda number, frame: self._heard.append(number))
        # wakes the parent up and is not noted: as the first process of a container it may hear millions in a year
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self._signaled.fileno(), warn_on_full_buffer=False)

    def run(self) -> Place | int:
        """Look after the workers until a signal comes, and end them.

        Returns:
            The exit status; or, in the process of a worker, where it stands.
        """
        while not self._is_told_to_end:
            now = time.monotonic()
            for number in [number for number, at in self._start_at.items() if at <= now]:
                if (place := self._start(number)) is not None:
                    return place
            self._rest(min([now + LOOK_S, *self._start_at.values()]))
            self._take_in()
            self._watch()
        self._is_ending = True
        return self._end()

    @property
    def _is_told_to_end(self) -> bool:
        return self._is_ending or bool(self._heard)

    def _start(self, number: int) -> Place | None:
        """Fork a worker; return its place in the worker's process, and None in this one."""
        is_first = number not in self._started
        gc.freeze()  # lest a collection in the worker copies the pages that it shares with this process
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (*_ENDING, signal.SIGCHLD))
        try:
            try:
                pid, ours, theirs = _fork()
            except OSError as exc:
                self._put_off(number, exc)
                return None
            if pid == 0:
                ours.close()
                self._forget()
                return Place(
                    number=number,
                    board=self._board,
                    listeners=self._listeners,
                    pulse=theirs,
                    lifeline=self._lifeline,
                    is_first=is_first,
                )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        del self._start_at[number]
        self._started.add(number)
        self._workers[pid] = Worker(number, pid, ours)
        return None

    def _put_off(self, number: int, error: OSError) -> None:
        """Try again later to start a worker for whom there is no memory, or no process: the others go on."""
        self._short_lives[number] += 1
        pause_s = pause_after(max(2, self._short_lives[number]))
        self._start_at[number] = time.monotonic() + pause_s
        logger.error("worker %d cannot be started: %s; it is tried again in %g s", number, error, pause_s)
        if not self._board.has_served:
            self._status, self._is_ending = 1, True

    def _forget(self) -> None:
        """Let go, in a worker, of all that is the parent's."""
        signal.set_wakeup_fd(-1)
        for number in _ENDING:  # until the server has its own handlers
            signal.signal(number, lambda number, frame: os._exit(0))
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(self._lifeline_end)
        for worker in self._workers.values():
            worker.pulse.close()
        self._signals.close()
        self._signaled.close()

    def _rest(self, until: float) -> None:
        """Wait until a worker ends or tells something, a signal comes, or the time is over."""
        channels = [worker.pulse.fileno() for worker in self._workers.values()]
        left_s = max(0.0, until - time.monotonic())
        if self._signals.fileno() in select.select([self._signals.fileno(), *channels], [], [], left_s)[0]:
            self._signals.recv(4096)

    def _take_in(self) -> None:
        """Wait for every child that has ended."""
        with contextlib.suppress(ChildProcessError):  # there is none
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if (worker := self._workers.get(ended[0])) is not None:
                    reason = worker.killed_because or _tell(ended[1])
                    self._bury(worker, reason, os.waitstatus_to_exitcode(ended[1]))

    def _watch(self) -> None:
        """Look at every worker; kill those that hang, tell those to leave that should."""
        now = time.monotonic()
        for worker in self._workers.values():
            if worker.killed_because:
                continue
            pulse = worker.pulse
            pulse.look(now)
            if pulse.has_answered and not (self._is_announced or self._is_ending):
                scheme = "http" if self._settings.tls_cert is None else "https"
                announce(self._listeners[0], self._settings.host, scheme=scheme)
                self._is_announced = True
            if pulse.has_stopped and (self._settings.watchdog or not pulse.has_answered):
                self._kill(worker, f"gave no sign of life for {pulse.silent_s:g} s")
            elif worker.ends_by is not None:
                if now >= worker.ends_by:
                    self._kill(worker, "was told to leave, and did not end in time")
            elif (because := self._reason_to_leave(worker)) and self._may_renew(now):
                self._count_renewal(now)
                worker.ends_by = now + self._settings.drain_s + self._settings.shutdown_s + END_S
                logger.warning("worker %d (process %d) %s; it is replaced", worker.number, worker.pid, because)
                worker.send(signal.SIGTERM)

    def _reason_to_leave(self, worker: Worker) -> str:
        most = self._settings.max_worker_bytes
        if most is not None and (held := worker.resident_bytes()) > most:
            return f"holds {held / 2**20:.0f} MiB of memory, ZTO_MAX_WORKER_BYTES allows {most / 2**20:.0f} MiB"
        return worker.pulse.wants_out

    def _may_renew(self, now: float) -> bool:
        """Whether all workers serve, and none was told to leave just now."""
        return not self._is_ending and all(self._board.serving()) and now - self._renewed_at >= self._renew_after_s

    def _count_renewal(self, now: float) -> None:
        has_helped = now - self._renewed_at > 4 * self._renew_after_s
        self._renew_after_s = RENEW_AFTER_S if has_helped else min(2 * self._renew_after_s, LONGEST_RENEWAL_S)
        self._renewed_at = now

    def _kill(self, worker: Worker, reason: str) -> None:
        """End a worker. It is buried once the kernel lets go of it: a disk that hangs may keep it, and nobody else."""
        worker.killed_because = reason
        worker.send(signal.SIGKILL)
        self._board.mark(worker.number, is_serving=False)  # the others take what comes in meanwhile

    def _bury(self, worker: Worker, reason: str, exitcode: int) -> None:
        """Note the end of a worker, and when the next is to start."""
        number = worker.number
        del self._workers[worker.pid]
        worker.pulse.close()
        self._board.mark(number, is_serving=False)
        with contextlib.suppress(OSError):  # no memory for a second note: its last gauges stand a moment longer
            self._board.post(number, without_gauges(self._board.read(number)))
        if self._is_ending:
            return
        if not self._board.has_served:
            if exitcode != EXIT_BAD_SETTINGS:  # which it has told itself
                logger.error("worker %d (process %d) %s, and none has served yet", number, worker.pid, reason)
            self._status = exitcode if exitcode > 0 else 1
            self._is_ending = True
            return
        lived_s = time.monotonic() - worker.started_at
        is_short = lived_s < SHORT_LIFE_S and worker.ends_by is None
        self._short_lives[number] = self._short_lives[number] + 1 if is_short else 0
        pause_s = pause_after(self._short_lives[number])
        self._start_at[number] = time.monotonic() + pause_s
        logger.log(
            logging.INFO if worker.ends_by is not None and exitcode == 0 else logging.ERROR,
            "worker %d (process %d) %s after %.1f s; the next starts %s",
            number, worker.pid, reason, lived_s, f"in {pause_s:g} s" if pause_s else "now",
        )  # fmt: skip

    def _end(self) -> int:
        """End all workers, and wait for them; return the exit status."""
        for listener in self._listeners:
            listener.close()  # a worker must be the last to, since it takes what still waits
        os.close(self._lifeline_end)
        self._heard.clear()
        self._send_all(signal.SIGTERM)
        if not self._all_end_within(self._settings.drain_s + self._settings.shutdown_s + END_S):
            logger.error("processes %s did not end in time, and are killed", sorted(self._workers))
            self._status = 1
            self._send_all(signal.SIGKILL)
            if not self._all_end_within(_KILLED_S):
                logger.error("processes %s hang in the kernel, and are left behind", sorted(self._workers))
        signal.set_wakeup_fd(-1)
        self._signals.close()
        self._signaled.close()
        os.close(self._lifeline)
        return self._status

    def _all_end_within(self, seconds: float) -> bool:
        ends_at = time.monotonic() + seconds
        while self._workers and time.monotonic() < ends_at:
            self._rest(min(time.monotonic() + LOOK_S, ends_at))
            self._take_in()
            self._watch()  # one that hangs drains nothing
            for number in self._heard:
                self._send_all(number)
            self._heard.clear()
        return not self._workers

    def _send_all(self, number: int) -> None:
        for worker in self._workers.values():
            worker.send(number)


def _fork() -> tuple[int, socket.socket, socket.socket]:
    """Return the id of the new process, or 0 in it; and both ends of its pulse, the parent's first.

    Raises:
        OSError: There is no memory for it, or no process, or no file.
    """
    with contextlib.ExitStack() as opened:
        ours, theirs = (
            opened.enter_context(end) for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        )  # fmt: skip
        pid = os.fork()
        opened.pop_all()
    return pid, ours, theirs


def pause_after(short_lives: int) -> float:
    """Return the seconds to wait after so many short lives in a row: none, half, one, two, four, up to a limit."""
    return 0.0 if short_lives < 2 else min(LONGEST_PAUSE_S, 0.5 * 2.0 ** min(short_lives - 2, 10))


def serve(settings: Settings) -> int:
    """Serve with a parent and its workers until a signal comes; return the exit status, in whichever process.

    Raises:
        SettingsError: The models folder is not what the settings say, the port of gRPC is taken, or gRPC is not
            installed.
    """
    with contextlib.ExitStack() as opened:
        if settings.workers > 1:
            _prepare(settings)
        if settings.grpc_port is not None:
            from app.protocols.grpc import ports

            # imports nothing of gRPC; each worker opens the port for itself
            ports.expect_installed()
            held = opened.enter_context(ports.reserve(settings.host, settings.grpc_port))
            settings = settings.model_copy(update={"grpc_port": held.getsockname()[1]})
        if settings.admin_port is not None:
            held = opened.enter_context(reserve(settings.admin_host, settings.admin_port, OPERATORS))
            settings = settings.model_copy(update={"admin_port": held.getsockname()[1]})
        place = Parent(settings, listen(settings.host, settings.port, settings.workers)).run()
        if isinstance(place, int):
            return place
    return _work(settings, place)


def _prepare(settings: Settings) -> None:
    """Import what several workers serve with, once for all; and find out what keeps them all from starting.

    Raises:
        SettingsError: The models folder is not what the settings say.
    """
    from app import memory

    with memory.without_collections():
        from app.bundle.signing import read_keys
        from app.serving.versions import read_manifests
        from app.workers import child  # noqa: F401  for the workers
    read_manifests(settings, read_keys(settings.signing_key))


def _work(settings: Settings, place: Place) -> int:
    """Serve, in the process of a worker."""
    # the stack has been unwound to here, so that it ends as any other program does
    from app.workers import child

    try:
        return child.serve(settings, place)
    finally:
        place.close()


def _tell(status: int) -> str:
    exitcode = os.waitstatus_to_exitcode(status)
    return f"was ended by {signal.Signals(-exitcode).name}" if exitcode < 0 else f"ended with status {exitcode}"
