"""What every drill is: a bar, a plan with two sizes, and one line in the end."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from benchmarks import servers
from tests.support.server import RunningService, serve

REPOSITORY = Path(__file__).resolve().parents[2]
MODELS = REPOSITORY / "models"
# what a drill saves for whoever looks for the cause of a fault
SAVED = REPOSITORY / "build" / "drills"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a drill is told.

    Attributes:
        is_short: A few of everything, in seconds: to see that it works; figures of time and memory say nothing then.
        server_core: Where services run.
        load_core: Where clients run, and this process.
        tell: Told of every step, for who watches.
        minutes: How long the soak is to take, where it was said.
    """

    is_short: bool
    server_core: int
    load_core: int
    tell: Callable[[str], None]
    minutes: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What came of a drill.

    Attributes:
        line: Its figures in one line.
        misses: What of the bar is not met, each in words; none where it is met.
        figures: All of them, as JSON can hold them.
        timed: Names of what among the misses is about time and memory, which a short form does not judge.
    """

    line: str
    misses: tuple[str, ...]
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_met(self) -> bool:
        """Whether the bar is met."""
        return not self.misses


class Drill(Protocol):
    """A module of this folder.

    Attributes:
        TITLE: What is done, as in the table.
        BAR: What it has to reach.
        LIMIT_S: Seconds after which it is ended and missed.
    """

    TITLE: str
    BAR: str
    LIMIT_S: int

    def run(self, setting: Setting) -> Found:
        """Do it."""
        ...


class OutOfTime(Exception):
    """A drill has not come to its end."""


@contextlib.contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """Raise :class:`OutOfTime` in the main thread when the time is over, through all that has to be closed."""

    def stop(number: int, frame: object) -> None:
        raise OutOfTime(f"it was not over after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def service(setting: Setting, models: Path = MODELS, **settings: Any) -> Iterator[RunningService]:
    """Start the service, on its core unless in short; see :func:`tests.support.server.serve`."""
    with contextlib.ExitStack() as stack:
        with contextlib.nullcontext() if setting.is_short else servers.pinned(setting.server_core):
            # as it is out of the box: other tests ask no golden rows but their own
            running = stack.enter_context(serve(models, **{"canary_s": 2.0} | settings))
        yield running


def models_for(setting: Setting, *names: str) -> Path:
    """Return the models of the repository; in short only those that are named, since the others take their time."""
    if not setting.is_short:
        return MODELS
    folder = SAVED / "-".join(("models", *names))
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        with contextlib.suppress(FileExistsError):
            (folder / name).symlink_to(MODELS / name)
    return folder


def port_of(running: RunningService) -> int:
    """Return where it listens."""
    return int(running.url.rpartition(":")[2])


def growth_percent(before: float, after: float) -> float:
    """Return by how many percent something has grown."""
    return (after - before) / before * 100


def saved(name: str, content: bytes) -> str:
    """Write a file below build/drills; return its path from the root of the repository."""
    path = SAVED / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return os.path.relpath(path, REPOSITORY)
