"""Ports beside the one of HTTP: each worker opens them for itself, and their parent holds them meanwhile."""

import socket

from app.errors import SettingsError

OPERATORS = "operators (ZTO_ADMIN_PORT)"


def expect_free(host: str, port: int, what: str) -> None:
    """Raise where another service has taken a port, even one that would share it.

    Args:
        host: Address or name.
        port: 0 is always free.
        what: Is to answer there, for the error.

    Raises:
        SettingsError: It is taken, or the address is not here.
    """
    _bind_name(host, port, what, is_shared=False).close()


def reserve(host: str, port: int, what: str) -> socket.socket:
    """Return a socket that holds a port for the workers that will share it; nothing is taken from it.

    Args:
        host: Address or name.
        port: 0 takes a free one.
        what: Is to answer there, for the error.

    Raises:
        SettingsError: It is taken, or the address is not here.
    """
    expect_free(host, port, what)
    return _bind_name(host, port, what, is_shared=True)


def listen_on(host: str, port: int, what: str, *, is_shared: bool) -> socket.socket:
    """Return a socket that listens.

    Args:
        host: Address or name.
        port: 0 takes a free one.
        what: Is to answer there, for the error.
        is_shared: Whether other processes of this service listen there too.

    Raises:
        SettingsError: It is taken, or the address is not here.
    """
    listener = _bind_name(host, port, what, is_shared=is_shared)
    listener.listen()
    return listener


def bind(family: int, address: tuple[object, ...], *, is_shared: bool) -> socket.socket:
    """Return a socket that has an address, and does not listen yet.

    Raises:
        OSError: It is taken, or not here.
    """
    bound = socket.socket(family)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:  # as asyncio opens them for a single process
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


def _bind_name(host: str, port: int, what: str, *, is_shared: bool) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        bound = bind(family, address, is_shared=is_shared)
        if not is_shared:
            try:
                bound.listen()  # with SO_REUSEADDR alone, only this tells of another who listens
            except OSError:
                bound.close()
                raise
    except OSError as exc:
        raise SettingsError(f"cannot listen on {host} port {port} for {what}: {exc}") from exc
    return bound
