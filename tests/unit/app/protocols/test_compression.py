import asyncio
import gzip
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from app.admission import Ticket
from app.encodings import read_accept_encoding
from app.errors import Overloaded
from app.protocols.answers import JSON, Written
from app.protocols.compression import MAX_BYTES_ON_LOOP, Compression
from app.protocols.decoders import MAX_PENDING, NUM_THREADS, Decoders

BODY = b'{"numbers": [1, 2, 3]}' * 100


@pytest.fixture
def decoders() -> Iterator[Decoders]:
    decoders = Decoders()
    yield decoders
    decoders.close()


def ticket(accept: bytes | None) -> Ticket:
    now = time.monotonic()
    acceptable = None if accept is None else read_accept_encoding(accept)
    return Ticket(request_id=b"r", received_at=now, deadline=now + 30, acceptable=acceptable)


def sent(decoders: Decoders, accept: bytes | None, *messages: Mapping[str, Any], method: str = "GET") -> list[Any]:
    """Return what comes of messages of an application."""
    found: list[Any] = []

    async def send(message: Mapping[str, Any]) -> None:
        found.append(message)

    async def send_all() -> None:
        sending = Compression(1000, decoders=decoders).sending(ticket(accept), method, send)
        for message in messages:
            await sending(message)

    asyncio.run(send_all())
    return found


def start(*headers: tuple[bytes, bytes], status: int = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": [(b"content-type", JSON), *headers]}


def body(data: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


def test_an_answer_in_one_message_is_encoded(decoders: Decoders) -> None:
    first, last = sent(decoders, b"gzip", start((b"content-length", b"%d" % len(BODY))), body(BODY))
    assert gzip.decompress(last["body"]) == BODY
    assert dict(first["headers"]) == {
        b"content-type": JSON,
        b"content-length": b"%d" % len(last["body"]),
        b"content-encoding": b"gzip",
        b"vary": b"accept-encoding",
    }


@pytest.mark.parametrize(
    ("accept", "method", "messages"),
    [
        (b"gzip", "GET", [start((b"content-encoding", b"br")), body(BODY)]),
        (b"gzip", "GET", [start(), body(BODY, more=True), body(BODY)]),
        (b"gzip", "HEAD", [start((b"content-length", b"%d" % len(BODY))), body(BODY)]),
        (b"gzip", "GET", [start(), body(BODY[:900])]),
        (b"gzip, identity;q=0", "GET", [start(status=204), body(b"")]),
        (b"br", "POST", [start(), body(BODY)]),
        (None, "POST", [start(), body(BODY)]),
        (b"gzip", "POST", [{"type": "http.response.debug"}]),
    ],
    ids=["encoded already", "in parts", "HEAD", "small", "no body", "another coding", "not asked", "not an answer"],
)
def test_all_else_goes_as_it_is(
    decoders: Decoders, accept: bytes | None, method: str, messages: list[dict[str, Any]]
) -> None:
    assert sent(decoders, accept, *messages, method=method) == messages


def test_caches_are_told_where_another_client_gets_another_answer(decoders: Decoders) -> None:
    for accept in (None, b"br"):
        first, last = sent(decoders, accept, start(), body(BODY))
        assert dict(first["headers"])[b"vary"] == b"accept-encoding"
        assert last["body"] == BODY


def test_a_large_answer_goes_as_it_is_where_no_thread_has_time(decoders: Decoders) -> None:
    large = Written(JSON, b"[" + b"1," * MAX_BYTES_ON_LOOP)
    is_over = threading.Event()

    async def encode() -> Written:
        busy = [asyncio.create_task(decoders.run(time.monotonic() + 30, is_over.wait)) for _ in range(MAX_PENDING)]
        while True:  # until all of them wait
            await asyncio.sleep(0)
            try:
                await asyncio.wait_for(decoders.run(time.monotonic() + 30, bool), 0.01)
            except Overloaded:
                break
            except TimeoutError:
                continue
        written = await Compression(1000, decoders=decoders).encoded(ticket(b"gzip"), large)
        is_over.set()
        await asyncio.gather(*busy)
        assert (await Compression(1000, decoders=decoders).encoded(ticket(b"gzip"), large)) is not large
        return written

    assert NUM_THREADS < MAX_PENDING
    assert asyncio.run(encode()) is large
