import asyncio
import contextlib
import socket
from collections.abc import Iterator

import pytest

from app.protocols.grpc.farewell import GOAWAY, connections_on, listeners_on, send_away


@pytest.fixture
def pair() -> Iterator[tuple[int, socket.socket, socket.socket]]:
    """A port, a connection as its server has it, and its other end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client, listener.accept()[0] as accepted:
            yield port, accepted, client


def test_sockets_of_a_port_are_found_by_what_they_do(pair: tuple[int, socket.socket, socket.socket]) -> None:
    port, accepted, client = pair
    (listener,) = listeners_on(port)
    (connection,) = connections_on(port)
    with listener, connection:
        assert connection.getpeername() == client.getsockname() == accepted.getpeername()
        assert listener.fileno() != connection.fileno() != accepted.fileno()


def test_others_of_this_process_are_left_alone() -> None:
    one, other = socket.socketpair()
    with one, other, socket.socket() as unbound:
        assert unbound.fileno() >= 0
        assert listeners_on(1) == connections_on(1) == []


def test_clients_are_told_to_go_in_http_2_s_own_words(pair: tuple[int, socket.socket, socket.socket]) -> None:
    _, accepted, client = pair
    asyncio.run(send_away([accepted]))
    frame = client.recv(64)
    assert frame == GOAWAY
    # RFC 9113, section 6.8: length, type 7, no flags, stream 0; the last stream, and no error
    assert (frame[:3], frame[3], frame[4], frame[5:9]) == (b"\0\0\x08", 7, 0, bytes(4))
    assert (int.from_bytes(frame[9:13]), int.from_bytes(frame[13:17])) == (2**31 - 1, 0)


def test_nothing_is_written_into_what_is_still_on_its_way(pair: tuple[int, socket.socket, socket.socket]) -> None:
    _, accepted, client = pair
    accepted.setblocking(False)
    sent = 0
    with contextlib.suppress(BlockingIOError):  # full
        while True:
            sent += accepted.send(bytes(65536))
    asyncio.run(send_away([accepted]))
    accepted.close()
    received = b"".join(iter(lambda: client.recv(65536), b""))
    assert received == bytes(sent)


def test_a_client_who_is_gone_is_no_error(pair: tuple[int, socket.socket, socket.socket]) -> None:
    _, accepted, client = pair
    client.close()
    asyncio.run(send_away([accepted, accepted]))
