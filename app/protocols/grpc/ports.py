"""The port, before anything of gRPC is imported: a parent of workers looks here too."""

import importlib.util
import socket

from app import ports
from app.errors import SettingsError

_WHAT = "gRPC (ZTO_GRPC_PORT)"


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
    """Raise where another service has taken a port; see :func:`app.ports.expect_free`."""
    ports.expect_free(host, port, _WHAT)


def reserve(host: str, port: int) -> socket.socket:
    """Return a socket that holds a port for the workers that will share it; see :func:`app.ports.reserve`."""
    return ports.reserve(host, port, _WHAT)
