"""Wakes an event loop when a request is due, to some ten microseconds.

The loop's own timers tick in milliseconds, and a request sent a millisecond late would be held against the service.
"""

import asyncio
import ctypes
import ctypes.util
import os
import sys
import time
from collections.abc import Callable
from typing import Protocol

_CLOCK_MONOTONIC = 1
_TFD_TIMER_ABSTIME = 1
_NS = 1_000_000_000


class Alarm(Protocol):
    """Calls a function at times on the clock of :func:`time.perf_counter_ns`."""

    def set(self, at_ns: int) -> None:
        """Call at this time, or at once where it is past; what was set before is forgotten."""
        ...

    def close(self) -> None:
        """Call no more."""
        ...


def open_alarm(loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> Alarm:
    """Return the finest alarm of this system: the kernel's own timer on Linux, else the event loop's."""
    return _KernelAlarm(loop, ring) if sys.platform == "linux" else _LoopAlarm(loop, ring)


class _Time(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


class _Setting(ctypes.Structure):
    _fields_ = [("interval", _Time), ("value", _Time)]


class _KernelAlarm:
    """A timer that is a file: timerfd_create(2). Python has it from 3.13 on."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._libc = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
        # perf_counter is CLOCK_MONOTONIC here
        self._file = self._libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._file < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._ring = ring
        self._loop = loop
        self._setting = _Setting()
        self._reference = ctypes.byref(self._setting)
        loop.add_reader(self._file, self._on_time)

    def set(self, at_ns: int) -> None:
        value = self._setting.value
        value.seconds, value.nanoseconds = divmod(max(at_ns, 1), _NS)  # all zero would disarm it
        self._libc.timerfd_settime(self._file, _TFD_TIMER_ABSTIME, self._reference, None)

    def _on_time(self) -> None:
        try:
            os.read(self._file, 8)
        except BlockingIOError:  # set anew meanwhile
            return
        self._ring()

    def close(self) -> None:
        if self._file >= 0:
            self._loop.remove_reader(self._file)
            os.close(self._file)
            self._file = -1


class _LoopAlarm:
    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None

    def set(self, at_ns: int) -> None:
        self.close()
        self._timer = self._loop.call_later(max(0, at_ns - time.perf_counter_ns()) / _NS, self._ring)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
