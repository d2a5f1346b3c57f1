import logging
import socket

import pytest

from app.workers.listeners import listen


def test_all_listen_on_one_port_and_connections_are_dealt_out() -> None:
    sockets = listen("127.0.0.1", 0, 3)
    address = sockets[0].getsockname()
    assert {listener.getsockname() for listener in sockets} == {address}
    clients = [socket.create_connection(address) for _ in range(120)]
    taken = [accept_all(listener) for listener in sockets]
    assert sum(map(len, taken)) == 120
    assert min(map(len, taken)) >= 10  # 40 of each are to be expected
    for sock in (*sockets, *clients, *(connection for some in taken for connection in some)):
        sock.close()


def accept_all(listener: socket.socket) -> list[socket.socket]:
    listener.setblocking(False)
    accepted = []
    try:
        while True:
            accepted.append(listener.accept()[0])
    except BlockingIOError:
        return accepted


@pytest.mark.parametrize("is_shared", [False, True])
def test_port_that_another_has_is_refused(caplog: pytest.LogCaptureFixture, is_shared: bool) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, is_shared)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with caplog.at_level(logging.ERROR), pytest.raises(SystemExit) as ended:
            listen("127.0.0.1", taken.getsockname()[1], 2)
    assert ended.value.code == 3
    assert "already in use" in caplog.text


def test_address_of_nobody_here_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(SystemExit):
        listen("192.0.2.1", 0, 2)
    assert "192.0.2.1" in caplog.text


def test_ipv6_is_spoken_where_the_machine_does() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    sockets = listen("::1", 0, 2)
    with socket.create_connection(sockets[0].getsockname()[:2]):
        for listener in sockets:
            listener.close()
