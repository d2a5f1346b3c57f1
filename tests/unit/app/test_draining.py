"""Closing a port resets nobody whom the kernel has taken in."""

import asyncio
import socket

import pytest

from app import draining


async def listen() -> asyncio.Server:
    return await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)


def connect(server: asyncio.Server, timeout_s: float = 5.0) -> socket.socket:
    return socket.create_connection(server.sockets[0].getsockname(), timeout=timeout_s)


def test_connections_in_the_queue_are_handed_over_alive_and_the_port_is_closed() -> None:
    async def scenario() -> None:
        server = await listen()
        address = server.sockets[0].getsockname()
        clients = [connect(server) for _ in range(5)]  # the loop does not turn meanwhile: they stay in the queue
        queued = draining.close([server])
        assert len(queued) == len(clients)
        assert {sock.getpeername() for sock in queued} == {client.getsockname() for client in clients}
        for sock in queued:
            assert not sock.getblocking()
            sock.sendall(b"served")
            sock.close()
        for client in clients:
            assert client.recv(100) == b"served"
            client.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=5)

    asyncio.run(scenario())


def test_stop_opening_accepts_what_was_opened_and_opens_no_more_where_the_kernel_lets_it() -> None:
    async def scenario() -> None:
        accepted: list[str] = []

        def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted.append("one")
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        clients = [connect(server) for _ in range(3)]
        await draining.stop_opening(server.sockets)
        with socket.socket() as probe:
            is_filtered = draining._attach_filter(probe)
        if is_filtered:
            assert len(accepted) == 3
            with pytest.raises(TimeoutError):
                connect(server, timeout_s=0.2)
            assert draining.close([server]) == []
        else:
            queued = draining.close([server])
            assert len(accepted) + len(queued) == 3
            for sock in queued:
                sock.close()
        for client in clients:
            client.close()
        await asyncio.sleep(0)

    asyncio.run(scenario())


class Skewed:
    """Lets the loop believe that much more time has passed than has: what a batch on the loop does to it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = asyncio.get_running_loop()
        real, self.by_s = loop.time, 0.0
        monkeypatch.setattr(loop, "time", lambda: real() + self.by_s)


def test_stop_opening_ends_by_the_clock_where_the_loop_is_busy_and_nobody_accepts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(draining, "_attach_filter", lambda sock: True)  # whether the kernel allows it or not

    async def scenario() -> int:
        loop, skewed, turns = asyncio.get_running_loop(), Skewed(monkeypatch), 0

        def block() -> None:
            nonlocal handle, turns
            turns += 1
            skewed.by_s += draining.STOP_OPENING_S / 3
            handle = loop.call_soon(block)

        handle = loop.call_soon(block)
        with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
            await draining.stop_opening([listener])
            handle.cancel()
        return turns

    assert 1 <= asyncio.run(scenario()) <= 8


def test_wait_until_gives_up_by_the_clock_however_few_looks_that_took(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> int:
        skewed, looks = Skewed(monkeypatch), 0

        def is_done() -> bool:
            nonlocal looks
            looks += 1
            skewed.by_s += 0.4
            return False

        await draining.wait_until(is_done, within_s=1.0)
        return looks

    assert 1 <= asyncio.run(scenario()) <= 3


def test_wait_until_returns_once_it_is_done() -> None:
    looks = iter([False, False, True])
    asyncio.run(draining.wait_until(lambda: next(looks), within_s=3600))
    assert list(looks) == []


def test_closing_without_a_listener_is_nothing() -> None:
    async def scenario() -> None:
        await draining.stop_opening([])
        assert draining.close([]) == []

    asyncio.run(scenario())
