"""The parent: uvicorn's, which starts the workers, pings them and replaces them, with these differences.

- A worker is dead at once when its process ends, and not at the next look; the reason is told.
- What ends again and again is started after a growing pause. Where not one worker has ever served, the service ends,
  as a single process would.
- A ping is answered by the event loop itself and not by a thread beside it, and waiting for it blocks nothing.
- At the end, the parent lets go of the sockets before the workers do, and waits for them no longer than they may take.
- Only SIGTERM and SIGINT are handled; what others do to one process, they do here.
"""

import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections import Counter
from multiprocessing import Pipe, connection, resource_tracker
from typing import Any

import uvicorn
from uvicorn.supervisors.multiprocess import SIGNALS, Multiprocess, Process

from app import logs
from app.errors import SettingsError
from app.ports import OPERATORS, reserve
from app.protocols.grpc import ports
from app.settings import EXIT_BAD_SETTINGS, Settings
from app.workers.board import Board
from app.workers.listeners import listen
from app.workers.notes import without_gauges

logger = logging.getLogger("app.workers")

# a worker whose event loop has not turned for so long is replaced
HUNG_S = 30
# one that imports and reads manifests has no event loop yet; a busy machine takes its time
START_S = 300.0
# one that has not lived so long has failed at its start
SHORT_LIFE_S = 10.0
LONGEST_PAUSE_S = 30.0
_LOOK_S = 1.0
# beyond draining and finishing: stopping to open, lingering, cutting, and leaving where a runtime hangs
_END_S = 4.0
_ENDING = (signal.SIGTERM, signal.SIGINT)


class Worker(Process):
    """One worker, seen from both sides; what is set here goes to the process.

    Args:
        settings: Of the service.
        config: Uvicorn's, for the parent.
        number: Among the workers.
        listeners: The socket of each worker.
        board: What they share.
        lifeline: The end that the worker reads.
    """

    def __init__(
        self,
        settings: Settings,
        config: uvicorn.Config,
        number: int,
        listeners: list[socket.socket],
        board: Board,
        lifeline: "connection.Connection[Any, Any]",
    ) -> None:
        super().__init__(config, listeners)
        self.started_at = time.monotonic()
        self._asked_at: float | None = None
        self.has_answered = False
        self._settings = settings
        self._number = number
        self._board = board
        self._lifeline = lifeline

    def target(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve; runs in the worker's process."""
        for number in _ENDING:  # until the server has its own handlers
            signal.signal(number, lambda number, frame: os._exit(0))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        logs.configure(self._settings.log_level, log_format=self._settings.log_format, several_processes=True)
        self.parent_conn.close()
        if sys.stdin is not None:  # uvicorn hands it on for debuggers; nobody reads it, and Python complains at the end
            sys.stdin.close()
            sys.stdin = None  # what it is where there is none
            os.open(os.devnull, os.O_RDONLY)  # lest a socket becomes number 0
        from app.workers import child

        assert sockets is not None
        place = child.Place(
            number=self._number,
            board=self._board,
            listeners=sockets,
            pings=self.child_conn,
            lifeline=self._lifeline,
        )
        sys.exit(child.serve(self._settings, place))

    def start(self) -> None:
        """Start the process, which hears of SIGTERM and SIGINT when it is ready to."""
        resource_tracker.ensure_running()  # which would unblock the signals
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _healthcheck(self, timeout: float) -> bool | None:
        """Return whether the last ping was answered, or may still be; None where it was not in time. Never waits."""
        now = time.monotonic()
        try:
            if self.parent_conn.poll():
                self.has_answered = bool(self.parent_conn.recv())
                self._asked_at = None
            if self._asked_at is None:
                self.parent_conn.send(b"ping")
                self._asked_at = now
        except (OSError, EOFError):
            return None
        is_late = now - self._asked_at > (timeout if self.has_answered else START_S)
        return None if is_late else self.has_answered


class Workers(Multiprocess):
    """Keeps the workers alive until a signal comes.

    Args:
        settings: Of the service.

    Raises:
        SystemExit: It cannot listen.
    """

    def __init__(self, settings: Settings) -> None:
        config = uvicorn.Config(
            "app.main:create_app",
            workers=settings.workers,
            log_config=None,
            timeout_worker_healthcheck=HUNG_S,
        )
        scheme = "http" if settings.tls_cert is None else "https"
        super().__init__(config, listen(settings.host, settings.port, settings.workers, scheme=scheme))
        for number in SIGNALS:
            if number not in _ENDING:
                signal.signal(number, signal.SIG_DFL)
        self._settings = settings
        self._board = Board(settings.workers)
        self._lifeline, self._lifeline_end = Pipe(duplex=False)
        self._restart_at: dict[int, float] = {}
        self._short_lives: Counter[int] = Counter()
        self._has_served = False
        self._status = 0
        self._signals, self._signaled = socket.socketpair()
        self._signaled.setblocking(False)
        signal.set_wakeup_fd(self._signaled.fileno())

    def serve(self) -> int:
        """Run until a signal comes; return the exit status."""
        self.run()
        return self._status

    def init_processes(self) -> None:
        """Start every worker."""
        self.processes = [self._start(number) for number in range(self.processes_num)]

    def run(self) -> None:
        """Start the workers, look after them, end them."""
        self.init_processes()
        while not self.should_exit.is_set():
            watched = [worker for number, worker in enumerate(self.processes) if number not in self._restart_at]
            self._rest(watched, min([time.monotonic() + _LOOK_S, *self._restart_at.values()]))
            self.handle_signals()
            self.keep_subprocess_alive()
        self._end()

    def keep_subprocess_alive(self) -> None:
        """Replace every worker that has ended or hangs."""
        self._has_served = self._has_served or any(self._board.serving())
        for number, worker in enumerate(self.processes):
            if self.should_exit.is_set():
                return
            if number in self._restart_at:
                if time.monotonic() >= self._restart_at[number]:
                    del self._restart_at[number]
                    self.processes[number] = self._start(number)
            elif not worker.is_alive(timeout=self.config.timeout_worker_healthcheck):
                self._bury(number, worker)

    def _start(self, number: int) -> Worker:
        worker = Worker(self._settings, self.config, number, self.sockets, self._board, self._lifeline)
        worker.start()
        return worker

    def _bury(self, number: int, worker: Process) -> None:
        """Note the end of a worker, and when the next is to start."""
        assert isinstance(worker, Worker)
        is_hung = worker.process.is_alive()
        worker.kill()
        worker.join()
        self._has_served = self._has_served or any(self._board.serving())
        self._board.mark(number, is_serving=False)
        with contextlib.suppress(OSError):  # no memory for a second note: its last gauges stand a moment longer
            self._board.post(number, without_gauges(self._board.read(number)))
        reason = (
            f"gave no sign of life for {HUNG_S if worker.has_answered else START_S:g} s"
            if is_hung
            else _tell(worker.exitcode)
        )
        if not self._has_served:
            logger.error("worker %d (process %d) %s, and none has served yet", number, worker.pid, reason)
            self._status = worker.exitcode if worker.exitcode and worker.exitcode > 0 else 1
            self.should_exit.set()
            return
        lived_s = time.monotonic() - worker.started_at
        self._short_lives[number] = self._short_lives[number] + 1 if lived_s < SHORT_LIFE_S else 0
        pause_s = pause_after(self._short_lives[number])
        self._restart_at[number] = time.monotonic() + pause_s
        logger.error(
            "worker %d (process %d) %s after %.1f s; the next starts %s",
            number, worker.pid, reason, lived_s, f"in {pause_s:g} s" if pause_s else "now",
        )  # fmt: skip

    def _end(self) -> None:
        """End all workers, and wait for them."""
        for listener in self.sockets:
            listener.close()  # a worker must be the last to, since it takes what still waits
        self._lifeline_end.close()
        self.terminate_all()
        ends_at = time.monotonic() + self._settings.drain_s + self._settings.shutdown_s + _END_S
        self.signal_queue.clear()
        while alive := [process for process in self.processes if process.process.is_alive()]:
            self._rest(alive, ends_at)
            for number in self.signal_queue:
                for process in alive:
                    _send(process, number)
            self.signal_queue.clear()
            if time.monotonic() >= ends_at:
                logger.error("processes %s did not end in time, and are killed", [process.pid for process in alive])
                self._status = 1
                for process in alive:
                    process.process.kill()
        self.join_all()
        signal.set_wakeup_fd(-1)
        self._signals.close()
        self._signaled.close()

    def _rest(self, watched: list[Process], until: float) -> None:
        """Wait until one of the workers ends or has ended, a signal comes, or the time is over."""
        sentinels = [worker.process.sentinel for worker in watched]
        if self._signals in connection.wait([self._signals, *sentinels], max(0.0, until - time.monotonic())):
            self._signals.recv(4096)


def pause_after(short_lives: int) -> float:
    """Return the seconds to wait after so many short lives in a row: none, half, one, two, four, up to a limit."""
    return 0.0 if short_lives < 2 else min(LONGEST_PAUSE_S, 0.5 * 2.0 ** min(short_lives - 2, 10))


def serve(settings: Settings) -> int:
    """Serve with several workers until a signal comes; return the exit status.

    Raises:
        SettingsError: The port of gRPC is taken, or gRPC is not installed.
    """
    if (status := _check_models(settings)) != 0:
        return status
    with contextlib.ExitStack() as opened:
        if settings.grpc_port is not None:
            # imports nothing of gRPC; each worker opens the port for itself
            ports.expect_installed()
            held = opened.enter_context(ports.reserve(settings.host, settings.grpc_port))
            settings = settings.model_copy(update={"grpc_port": held.getsockname()[1]})
        if settings.admin_port is not None:
            held = opened.enter_context(reserve(settings.admin_host, settings.admin_port, OPERATORS))
            settings = settings.model_copy(update={"admin_port": held.getsockname()[1]})
        return Workers(settings).serve()


def _check_models(settings: Settings) -> int:
    """Return 0, or the exit status where the models folder is not what the settings say; stderr tells it once.

    In a process of its own: reading manifests imports what the parent never needs again, 17 MB.
    """
    pid = os.fork()
    if pid == 0:
        status = 0
        try:
            from app.bundle.signing import read_keys
            from app.serving.versions import read_manifests

            read_manifests(settings, read_keys(settings.signing_key))
        except SettingsError as exc:
            sys.stderr.write(f"error: {exc}\n")
            sys.stderr.flush()
            status = EXIT_BAD_SETTINGS
        finally:  # whatever else it is, the workers will tell
            os._exit(status)
    return EXIT_BAD_SETTINGS if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == EXIT_BAD_SETTINGS else 0


def _send(process: Process, number: int) -> None:
    if process.process.is_alive() and process.pid is not None:  # not yet waited for, so the id is still its own
        os.kill(process.pid, number)


def _tell(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return f"was ended by {signal.Signals(-exitcode).name}"
    return f"ended with status {exitcode}"
