import importlib.util
import socket

import pytest

from app.errors import SettingsError
from app.protocols.grpc import ports


def taken(*, is_shared: bool) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(is_shared))
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_port_that_is_taken_is_named_even_where_it_would_be_shared(is_shared: bool) -> None:
    with taken(is_shared=is_shared) as other:
        port = other.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"127\.0\.0\.1 port {port} for gRPC \(ZTO_GRPC_PORT\): .*in use"):
            ports.expect_free("127.0.0.1", port)
        with pytest.raises(SettingsError, match="in use"):
            ports.reserve("127.0.0.1", port)


def test_an_address_that_is_not_here_is_named() -> None:
    with pytest.raises(SettingsError, match=r"cannot listen on no\.such\.host\.invalid"):
        ports.expect_free("no.such.host.invalid", 1)


def test_a_reserved_port_is_shared_and_takes_no_connection() -> None:
    with ports.reserve("127.0.0.1", 0) as held:
        address = held.getsockname()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        with socket.socket() as worker:
            worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            worker.bind(address)
            worker.listen()
            socket.create_connection(address).close()


def test_what_is_missing_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "grpc" else object())
    with pytest.raises(SettingsError, match=r"pip install 'zero-to-one\[grpc\]'"):
        ports.expect_installed()
