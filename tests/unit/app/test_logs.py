"""How records read, in both formats; tests/integration/test_observability.py holds what the whole service writes."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app import logs
from app.admission import Ticket
from app.outlet import Outlet
from app.tracing import context

TRACE = context.parse(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
TICKET = Ticket(request_id=b"order-66", received_at=0.0, deadline=1.0, trace=TRACE)
INJECTED = 'broken\n2026-01-01 00:00:00,000 INFO    app: all is well\r\x1b[2J\x85 "{}'


def record(message: str, *arguments: Any, error: BaseException | None = None, **extra: Any) -> logging.LogRecord:
    told = None if error is None else (type(error), error, error.__traceback__)
    made = logging.LogRecord("app.test", logging.ERROR, __file__, 1, message, arguments, told)
    made.__dict__.update(extra)
    return made


def as_json(made: logging.LogRecord, *, with_process: bool = False) -> dict[str, Any]:
    line = logs.JsonFormatter(with_process).format(made)
    assert len(line.splitlines()) == 1
    found: dict[str, Any] = json.loads(line)
    return found


def raised() -> ValueError:
    try:
        raise ValueError(INJECTED)
    except ValueError as exc:
        return exc


def test_a_record_is_a_line_of_json() -> None:
    told = as_json(record("%s is %d", "cnn/1", 7))
    assert list(told) == ["time", "level", "logger", "event"]
    assert told | {"time": ""} == {"time": "", "level": "error", "logger": "app.test", "event": "cnn/1 is 7"}
    assert told["time"].endswith("Z")


def test_one_of_several_processes_tells_which() -> None:
    assert as_json(record("hello"), with_process=True)["process"] > 0


def test_a_traceback_is_a_field() -> None:
    told = as_json(record("it failed", error=raised()))
    assert told["exception"].startswith("Traceback (most recent call last)")
    assert "all is well" in told["exception"]


def test_a_record_tells_the_request_of_its_task_or_its_own() -> None:
    expected = {"request_id": "order-66", "trace_id": "0af7651916cd43dd8448eb211c80319c"}
    assert expected.items() <= as_json(record("it failed", **logs.about(TICKET))).items()
    token = logs.REQUEST.set(TICKET)
    try:
        assert expected.items() <= as_json(record("it failed")).items()
    finally:
        logs.REQUEST.reset(token)
    assert "request_id" not in as_json(record("it failed"))
    assert "trace_id" not in logs.about(Ticket(request_id=b"a", received_at=0.0, deadline=1.0))


@pytest.mark.parametrize("value", [INJECTED, "\ud800", "\u2028", "\0"])
def test_no_value_looks_like_a_line_of_ours(value: str) -> None:
    assert as_json(record("%s", value))["event"].startswith(value[:6].replace("\ud800", "\\ud800"))
    text = logs.TextFormatter(with_process=False).format(record("it said %s", value))
    assert len(text.splitlines()) == 1
    assert text.isprintable()


def test_no_line_of_a_traceback_looks_like_one_of_ours() -> None:
    first, *others = logs.TextFormatter(with_process=True).format(record("it failed", error=raised())).splitlines()
    assert first.endswith("app.test: it failed")
    assert any("Traceback" in line for line in others)
    assert all(line.startswith("    ") and line.isprintable() for line in others)


def test_no_record_is_endless() -> None:
    assert len(as_json(record("x" * 100_000))["event"]) == logs.MAX_EVENT_CHARACTERS
    assert len(logs.TextFormatter(with_process=False).format(record("x" * 100_000))) < 2 * logs.MAX_EVENT_CHARACTERS
    error = ValueError("y" * 100_000)
    assert len(as_json(record("it failed", error=error))["exception"]) == logs.MAX_TRACEBACK_CHARACTERS


PROGRAM = """
import logging, sys, threading, warnings
from app import logs
logs.configure("info", log_format="{log_format}")
warnings.warn("this is old", DeprecationWarning, stacklevel=1)
logging.getLogger("uvicorn.error").info("it runs")
def fail(): raise KeyError("on a thread")
thread = threading.Thread(target=fail, name="worker"); thread.start(); thread.join()
class Bad:
    def __del__(self): raise ValueError("at its end")
Bad()
raise RuntimeError("nobody catches this")
"""


@pytest.mark.parametrize("log_format", ["json", "auto"])
def test_all_that_a_process_says_goes_one_way(log_format: str) -> None:
    program = PROGRAM.format(log_format=log_format)  # auto is JSON here: a pipe is no terminal
    done = subprocess.run([sys.executable, "-W", "always", "-c", program], capture_output=True, text=True, check=False)
    told = [json.loads(line) for line in done.stderr.splitlines()]
    assert (done.returncode, done.stdout) == (1, "")
    assert [line["logger"] for line in told] == ["py.warnings", "uvicorn.error", "app", "app", "app"]
    assert [line["level"] for line in told] == ["warning", "info", "critical", "error", "critical"]
    assert "DeprecationWarning: this is old" in told[0]["event"]
    assert "on the thread worker" in told[2]["event"]
    assert "KeyError: 'on a thread'" in told[2]["exception"]
    assert "ValueError: at its end" in told[3]["exception"]
    assert "RuntimeError: nobody catches this" in told[4]["exception"]


class Unreadable:
    def __str__(self) -> str:
        raise ValueError(INJECTED)

    __repr__ = __str__


BROKEN: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
    ("%d rows", ("many",), {}),
    ("%s and %s", ("one",), {}),
    ("%s", (Unreadable(),), {}),
    (Unreadable(), (), {}),
    ("hello", (), {"request_id": Unreadable()}),
]


@pytest.mark.parametrize(("message", "arguments", "extra"), BROKEN)
def test_a_record_that_cannot_be_written_is_told_as_one_line_all_the_same(
    message: Any, arguments: tuple[Any, ...], extra: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    reading, writing = os.pipe()
    handler = logs.OutletHandler(Outlet(writing))
    handler.setFormatter(logs.JsonFormatter(with_process=False))
    try:
        handler.emit(record(message, *arguments, **extra))
        (line,) = os.read(reading, 64 * 1024).splitlines()
    finally:
        handler.outlet.close()
        os.close(reading)
        os.close(writing)
    told = json.loads(line)
    assert (told["level"], told["logger"]) == ("error", "app.test")
    assert told["event"].startswith(f"a record of {__file__}:1 cannot be written: ")
    assert "Traceback" in told["exception"]
    assert capfd.readouterr() == ("", "")  # nothing goes around the outlet, which waits for nobody


def test_a_record_that_nothing_can_be_told_of_is_counted(capfd: pytest.CaptureFixture[str]) -> None:
    class Broken(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            raise ImportError("structlog")

    dropped: list[int] = []
    handler = logs.OutletHandler(Outlet(-1, dropped.append))
    handler.setFormatter(Broken())
    handler.emit(record("hello"))
    assert dropped == [1]
    assert capfd.readouterr() == ("", "")


OPENS_A_FILE = """
import logging, os, sys
from app import logs
logs.configure("info", log_format="json")
number = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
logging.getLogger("app").error("to nobody")
print(number)
"""


@pytest.mark.parametrize("closed", ["2>&-", "0<&- 2>&-"])
def test_a_closed_stderr_gives_its_number_and_the_log_to_nobody(closed: str, tmp_path: Path) -> None:
    command = ["sh", "-c", f'exec "$0" -c "$1" "$2" {closed}', sys.executable, OPENS_A_FILE, str(tmp_path / "other")]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    assert int(done.stdout) != 2
    assert (tmp_path / "other").read_bytes() == b""


def test_what_fails_again_and_again_is_told_once_in_a_while() -> None:
    now = [100.0]
    seldom = logs.Seldom(60.0, clock=lambda: now[0])
    told = []
    for now[0] in (100.0, 101.0, 159.9, 160.0, 161.0, 500.0):
        told += [now[0]] if seldom.filter(record("the collector is away")) else []
    assert told == [100.0, 160.0, 500.0]


COLLECTOR_IS_AWAY = """
import logging
from app import logs
from opentelemetry.exporter.otlp.proto.http.metric_exporter import _logger as metrics
from opentelemetry.exporter.otlp.proto.http.trace_exporter import _logger as traces
logs.configure("info", log_format="json")
for _ in range(50):
    metrics.warning("away"); traces.warning("away")
"""


def test_exporters_of_opentelemetry_tell_seldom_that_their_collector_is_away() -> None:
    done = subprocess.run([sys.executable, "-c", COLLECTOR_IS_AWAY], capture_output=True, text=True, check=True)
    assert [json.loads(line)["logger"].rpartition(".")[2] for line in done.stderr.splitlines()] == [
        "metric_exporter", "trace_exporter",
    ]  # fmt: skip
