"""The port, before anything of gRPC is imported: a parent of workers looks here too."""

import importlib.util
import socket

from app.errors import SettingsError


def expect_installed() -> None:
    """Raise where the extra is missing.

    Raises:
        SettingsError: The message names it.
    """
    for package in ("grpc", "google.protobuf"):
        try:
            is_there = importlib.util.find_spec(package) is not None
        except ModuleNotFoundError:  # of a namespace that is not there either
            is_there = False
        if not is_there:
            raise SettingsError(
                "ZTO_GRPC_PORT is set, and gRPC is not installed: pip install 'zero-to-one[grpc]', or leave it unset"
            )


def expect_free(host: str, port: int) -> None:
    """Raise where another service has taken a port, even one that would share it.

    Raises:
        SettingsError: It is taken, or the address is not here.
    """
    _bind(host, port, is_shared=False).close()


def reserve(host: str, port: int) -> socket.socket:
    """Return a socket that holds a port for the workers that will share it; nothing is taken from it.

    Args:
        host: Address or name.
        port: 0 takes a free one.

    Raises:
        SettingsError: It is taken, or the address is not here.
    """
    expect_free(host, port)
    return _bind(host, port, is_shared=True)


def _bind(host: str, port: int, *, is_shared: bool) -> socket.socket:
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
        bound = socket.socket(family, kind)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if is_shared:
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            bound.bind(address)
            if not is_shared:
                bound.listen()  # with SO_REUSEADDR alone, only this tells of another who listens
        except OSError:
            bound.close()
            raise
    except OSError as exc:
        raise SettingsError(f"cannot listen on {host} port {port} for gRPC (ZTO_GRPC_PORT): {exc}") from exc
    return bound
