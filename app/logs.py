"""How the log reads: lines of JSON for machines, or text for people, each of one record.

Whoever has something to say calls the standard library's ``logging``; what comes of it is made here, with structlog's
processors, for all alike: our own loggers, uvicorn's and other libraries', warnings, and errors that nobody caught. A
record tells of the request that it belongs to, by :data:`REQUEST` where a task answers one, or by ``extra=about(...)``.

Nothing that a caller sends can look like a line of ours: JSON escapes every control character; as text, those of a
message are escaped here, and the lines of a traceback are indented.

One line for each request is another matter: structlog's processors take tens of microseconds, a tenth of what a request
costs (:mod:`app.request_log`).
"""

import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable, MutableMapping
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Literal, Protocol

from app.outlet import Outlet

LogFormat = Literal["auto", "json", "text"]

STDERR = 2
# a message may quote what a runtime says of a request's values; a traceback ends in one
MAX_EVENT_CHARACTERS = 4096
MAX_TRACEBACK_CHARACTERS = 32 * 1024
# for the reader of the log to make room, once; see Outlet
PATIENCE_S = 0.1
# of OpenTelemetry, which tell of each try while a collector is away
_EXPORTERS = tuple(f"opentelemetry.exporter.otlp.proto.http.{kind}_exporter" for kind in ("trace", "metric"))
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

logger = logging.getLogger("app")


class Request(Protocol):
    """What the log tells of a request."""

    @property
    def request_id(self) -> bytes:
        """Its id."""
        ...

    @property
    def trace_id(self) -> bytes:
        """The trace that it belongs to; empty where it belongs to none."""
        ...


# which the running task answers
REQUEST: ContextVar[Request | None] = ContextVar("zto_request", default=None)


def about(request: Request) -> dict[str, str]:
    """Return what a record tells of a request: ``logger.error(..., extra=about(ticket))``."""
    told = {"request_id": request.request_id.decode("ascii")}
    if request.trace_id:
        told["trace_id"] = request.trace_id.decode("ascii")
    return told


def is_json(log_format: LogFormat) -> bool:
    """Tell whether lines are JSON: by itself, where stderr is no terminal."""
    return log_format == "json" or (log_format == "auto" and not os.isatty(STDERR))


def configure(level: str, *, log_format: LogFormat = "auto", several_processes: bool = False) -> None:
    """Write every record of at least a level to stderr.

    Args:
        level: As ``ZTO_LOG_LEVEL`` has it.
        log_format: ``auto`` is JSON where stderr is no terminal.
        several_processes: Whether several write, and each tells its id.
    """
    _hold_stderr()
    handler = OutletHandler(Outlet(STDERR))
    handler.setFormatter((JsonFormatter if is_json(log_format) else TextFormatter)(several_processes))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.captureWarnings(True)
    # it warns of each body that is no form, which a caller is told anyway: anybody could fill the log
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    for name in _EXPORTERS:
        logging.getLogger(name).addFilter(Seldom())
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_of_thread
    sys.unraisablehook = _log_unraisable
    # what it writes to stderr by itself is no line of ours, and waits for whoever reads: of each connection that speaks
    # no TLS, for one. Whatever keeps it from serving is raised too
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def configure_tool(level: str) -> None:
    """Write every record of at least a level to stderr, as text, for a command that somebody runs by hand."""
    handler = logging.StreamHandler()
    handler.setFormatter(TextFormatter(with_process=False))
    logging.basicConfig(level=level.upper(), handlers=[handler])


def count_drops(count: Callable[[int], None]) -> None:
    """Tell somebody of each line that finds no room from now on."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, OutletHandler):
            handler.outlet.on_drop = count


class OutletHandler(logging.Handler):
    """Writes each record at once, and waits for its reader for a moment at most.

    Args:
        outlet: Takes the lines.
    """

    def __init__(self, outlet: Outlet) -> None:
        super().__init__()
        self.outlet = outlet

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; of one that cannot be written, why not. Never raises."""
        try:
            line = self._line_of(record)
        except Exception:  # nor can it be told why; the standard library would write to stderr, and wait for its reader
            self.outlet.on_drop(1)
        else:
            self.outlet.write((line.encode("utf-8", "backslashreplace") + b"\n",), patience_s=PATIENCE_S)

    def _line_of(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record)
        except Exception as exc:  # a mistake of whoever logs: values that do not fit the message, or have no text
            place = f"{record.pathname}:{record.lineno}"
            told = (type(exc), exc, exc.__traceback__)
            message = "a record of %s cannot be written: %s"
            arguments = (place, type(exc).__name__)
            return self.format(
                logging.LogRecord(record.name, record.levelno, record.pathname, record.lineno, message, arguments, told)
            )


class Seldom(logging.Filter):
    """Lets one record through, and the next a while later: what fails again and again must not fill the log.

    Args:
        every_s: Seconds between two of them.
        clock: Monotonic seconds.
    """

    def __init__(self, every_s: float = 60.0, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._every_s = every_s
        self._clock = clock
        self._next_at = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is written."""
        now = self._clock()
        if now < self._next_at:
            return False
        self._next_at = now + self._every_s
        return True


class JsonFormatter(logging.Formatter):
    """JSON for machines. structlog is imported with the first record: a parent of workers may never write one.

    Args:
        with_process: Whether each line tells the id of its process.
    """

    def __init__(self, with_process: bool) -> None:
        super().__init__()
        self._with_process = with_process
        self._formatter: logging.Formatter | None = None

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        if self._formatter is None:
            self._formatter = _json_formatter(self._with_process)
        return self._formatter.format(record)


class TextFormatter(logging.Formatter):
    """Text for people.

    Args:
        with_process: Whether each line tells the id of its process.
    """

    def __init__(self, with_process: bool) -> None:
        process = " [%(process)d]" if with_process else ""
        super().__init__(f"%(asctime)s %(levelname)-7s{process} %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line without its traceback."""
        record.message = escaped(record.message[:MAX_EVENT_CHARACTERS])
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        """Return a traceback whose lines cannot be taken for records."""
        text = super().formatException(ei)[-MAX_TRACEBACK_CHARACTERS:]
        return "\n".join(f"    {escaped(line)}" for line in text.splitlines())

    def formatStack(self, stack_info: str) -> str:
        """Likewise, of a stack."""
        return "\n".join(f"    {escaped(line)}" for line in stack_info.splitlines())


def escaped(text: str) -> str:
    """Return text without control characters: they stand there as they would in a string of Python."""
    if text.isascii() and text.isprintable():
        return text
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def one_line(json_text: str) -> str:
    """Return JSON in which no character is left that any reader takes for the end of a line, or a command."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", json_text)


def _hold_stderr() -> None:
    """Let nothing else have the number of stderr where it is closed: the next connection or file would get the log."""
    try:
        os.fstat(STDERR)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        if nowhere != STDERR:
            os.dup2(nowhere, STDERR)
            os.close(nowhere)


def _json_formatter(with_process: bool) -> logging.Formatter:
    import orjson
    from structlog import processors, stdlib

    def write(event: MutableMapping[str, Any], **_: Any) -> str:
        # what is no JSON is told as its repr(); a lone surrogate, which orjson refuses, as its escape
        try:
            return one_line(orjson.dumps(event, default=repr).decode())
        except TypeError:
            return one_line(orjson.dumps({name: escaped(str(value)) for name, value in event.items()}).decode())

    return stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            _add_request,
            stdlib.add_log_level,
            stdlib.add_logger_name,
            *([_add_process] if with_process else ()),
            processors.TimeStamper(fmt="iso", utc=True, key="time"),
        ],
        processors=[
            stdlib.ProcessorFormatter.remove_processors_meta,
            processors.format_exc_info,
            processors.StackInfoRenderer(),
            _in_order,
            processors.JSONRenderer(serializer=write),
        ],
    )


_FIRST = ("time", "level", "logger", "event")


def _in_order(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Put what every line has in front, and cut what may be endless."""
    event["event"] = str(event["event"])[:MAX_EVENT_CHARACTERS]
    if (traceback := event.get("exception")) is not None:
        event["exception"] = str(traceback)[-MAX_TRACEBACK_CHARACTERS:]
    return {name: event[name] for name in _FIRST if name in event} | dict(event)


def _add_request(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Tell the request: of the running task, or as the record itself says."""
    request = REQUEST.get()
    if request is not None:
        event.update(about(request))
    for name in ("request_id", "trace_id"):
        if (told := getattr(event.get("_record"), name, None)) is not None:
            event[name] = told
    return event


def _add_process(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event["process"] = os.getpid()
    return event


def _log_uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logger.critical("nobody caught it: %s", kind.__name__, exc_info=(kind, error, traceback))


def _log_uncaught_of_thread(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_value is not None and not issubclass(arguments.exc_type, SystemExit):
        name = arguments.thread.name if arguments.thread is not None else "?"
        told = arguments.exc_type, arguments.exc_value, arguments.exc_traceback
        logger.critical("nobody caught it: %s, on the thread %s", arguments.exc_type.__name__, name, exc_info=told)


def _log_unraisable(arguments: "sys.UnraisableHookArgs") -> None:
    if arguments.exc_value is not None:
        told = arguments.exc_type, arguments.exc_value, arguments.exc_traceback
        logger.error("%s: %r", arguments.err_msg or "ignored", arguments.object, exc_info=told)
