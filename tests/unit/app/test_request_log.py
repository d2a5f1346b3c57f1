import asyncio
import base64
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.admission import Ticket
from app.observer import Observer
from app.outlet import Outlet
from app.request_log import FLUSH_BYTES, FLUSH_REQUESTS, RequestLog
from app.tracing import context
from app.tracing.facts import Facts

TRACE = context.parse(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
AT = 1_700_000_000.25


class Kept(Outlet):
    """Keeps what is written."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.writes = 0
        self.written = asyncio.Event()

    def write(self, lines: Iterable[bytes], *, patience_s: float = 0.0) -> None:
        self.lines += lines
        self.writes += 1
        self.written.set()

    def close(self) -> None:
        pass


def ticket(client: str = "127.0.0.1", **changes: Any) -> Ticket:
    return Ticket(request_id=b"order-66", received_at=10.0, deadline=40.0, client=client, **changes)


def told(*requests: tuple[Ticket, Facts], is_json: bool = True) -> list[bytes]:
    outlet = Kept()

    async def tell() -> None:
        log = RequestLog(outlet, is_json=is_json, clock=lambda: AT)
        observer = Observer(log, None)
        for request, facts in requests:
            observer.finish(request, facts, now=10.5)
        log.close()

    asyncio.run(tell())
    return outlet.lines


def payloads(*bodies: bytes, share: float = 1.0, most: int = 64, is_json: bool = True) -> list[dict[str, Any]]:
    outlet = Kept()

    async def tell() -> None:
        log = RequestLog(outlet, is_json=is_json, payload_share=share, payload_bytes=most, clock=lambda: AT)
        for body in bodies:
            log.offer(ticket(trace=TRACE), body)
        log.close()

    asyncio.run(tell())
    return [
        json.loads(line if is_json else b"{" + line.partition(b" payload ")[2].strip() + b"}") for line in outlet.lines
    ]


ANSWERED = Facts(method="POST", path="/predict/cnn", door="predict", model="cnn", version="2", status=200, rows=3)


def test_a_prediction_is_one_line() -> None:
    (line,) = told((ticket(trace=TRACE), ANSWERED))
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.250000Z",
        "level": "info",
        "logger": "app.request_log",
        "event": "request",
        "request_id": "order-66",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "door": "predict",
        "model": "cnn",
        "version": "2",
        "status": 200,
        "seconds": 0.5,
        "rows": 3,
        "client": "127.0.0.1",
    }


def test_as_text_it_has_the_same_members() -> None:
    line = told((ticket(), ANSWERED), is_json=False)[0].decode()
    assert line.startswith("2023-11-14T22:13:20.250000Z INFO    app.request_log: request ")
    assert '"model":"cnn","version":"2","status":200,"seconds":0.500000,"rows":3,"client":"127.0.0.1"\n' in line


def test_what_no_model_answers_tells_its_path_and_its_code() -> None:
    facts = Facts(method="GET", path="/models/nope", status=404, code="unknown_model")
    (line,) = told((ticket(key="web"), facts))
    found = json.loads(line)
    assert (found["path"], found["status"], found["code"]) == ("GET /models/nope", 404, "unknown_model")
    assert found["key"] == "web"
    assert "model" not in found


@given(st.text(max_size=300), st.text(max_size=40), st.booleans())
def test_nothing_that_a_caller_sends_begins_a_line(path: str, client: str, is_json: bool) -> None:
    (line,) = told((ticket(client=client), Facts(method="GET", path=path, status=404)), is_json=is_json)
    assert len(line.decode().splitlines()) == 1
    assert line.endswith(b"\n")
    if is_json:
        assert json.loads(line)["status"] == 404


def test_lines_are_written_together_once_there_are_enough_of_them() -> None:
    outlet = Kept()

    async def tell() -> None:
        log = RequestLog(outlet, is_json=True)
        observer = Observer(log, None)
        for _ in range(FLUSH_REQUESTS):
            assert outlet.writes == 0
            observer.finish(ticket(), ANSWERED, now=10.5)
        assert (outlet.writes, len(outlet.lines)) == (1, FLUSH_REQUESTS)
        outlet.written.clear()
        written = len(outlet.lines)
        observer.finish(ticket(), ANSWERED, now=10.5)
        async with asyncio.timeout(30):
            await outlet.written.wait()  # the rest goes by itself after a moment
        assert len(outlet.lines) == written + 1
        log.close()

    asyncio.run(tell())


def test_payloads_are_written_before_they_hold_much_memory() -> None:
    outlet = Kept()

    async def tell() -> None:
        log = RequestLog(outlet, is_json=True, payload_share=1.0, payload_bytes=FLUSH_BYTES // 4)
        for _ in range(3):
            log.offer(ticket(), b"x" * FLUSH_BYTES)
        assert outlet.writes == 0
        log.offer(ticket(), b"x" * FLUSH_BYTES)
        assert (outlet.writes, len(outlet.lines)) == (1, 4)
        log.offer(ticket(), b"x" * FLUSH_BYTES)
        assert outlet.writes == 1
        log.close()

    asyncio.run(tell())


def test_clients_are_forgotten_before_they_are_too_many() -> None:
    lines = told(*((ticket(client=f"client-{number}"), ANSWERED) for number in range(3000)))
    assert [json.loads(line)["client"] for line in lines] == [f"client-{number}" for number in range(3000)]


def test_a_payload_is_told_with_its_request() -> None:
    assert payloads(b'{"text": "caf\xc3\xa9\\n"}') == [
        {
            "time": "2023-11-14T22:13:20.250000Z",
            "level": "info",
            "logger": "app.request_log",
            "event": "payload",
            "request_id": "order-66",
            "trace_id": "0af7651916cd43dd8448eb211c80319c",
            "bytes": 19,
            "payload": '{"text": "caf\u00e9\\n"}',
        }
    ]


@pytest.mark.parametrize("is_json", [True, False])
def test_a_payload_is_cut_and_never_breaks_a_line(is_json: bool) -> None:
    found = payloads(b"a\nb" * 100, "\u00e9".encode() * 100, b"\xff" * 100, b"x\xc3", most=7, is_json=is_json)
    assert [line["bytes"] for line in found] == [300, 200, 100, 2]
    assert [line.get("payload") for line in found] == ["a\nba\nba", "\u00e9" * 3, None, None]
    assert base64.b64decode(found[2]["payload_base64"]) == b"\xff" * 7
    assert base64.b64decode(found[3]["payload_base64"]) == b"x\xc3"  # whole, and so no text that was cut


@pytest.mark.parametrize(("share", "expected"), [(1.0, 1000), (0.5, 500), (0.01, 10), (0.003, 3)])
def test_a_share_of_the_payloads_is_told_evenly(share: float, expected: int) -> None:
    found = payloads(*(str(number).encode() for number in range(1000)), share=share)
    assert len(found) == expected
    places = [int(line["payload"]) for line in found]
    assert max(after - before for before, after in zip([0, *places], [*places, 999], strict=True)) <= 1 / share + 1
