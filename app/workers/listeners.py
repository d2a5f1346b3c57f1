"""One listening socket for each worker, all on one port.

The kernel deals new connections out evenly among them (``SO_REUSEPORT``, see socket(7)). From a single socket that all
share, one worker takes whole bursts: libuv accepts until nothing is left, and of 32 connections that a client opens at
once, 32 went to the same of two workers. Even dealing matters, because connections are kept.

The parent keeps every socket open, so that what waits for a worker that dies is not reset but waits for the next.
"""

import contextlib
import logging
import socket

from app.ports import bind

# uvicorn's own numbers, without importing it
STARTUP_FAILURE = 3
_BACKLOG = 2048

logger = logging.getLogger("app.workers")


def listen(host: str, port: int, count: int) -> list[socket.socket]:
    """Open the sockets.

    Args:
        host: An IPv4 or IPv6 address, or a name.
        port: 0 takes a free one, the same for all.
        count: How many.

    Raises:
        SystemExit: The port is taken or the address is not here; the log says so.
    """
    with contextlib.ExitStack() as opened:
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
                0
            ]
            # without SO_REUSEPORT, a port that another service has taken is refused, even to the same user
            with bind(family, address, is_shared=False) as probe:
                probe.listen(_BACKLOG)
            sockets = [opened.enter_context(bind(family, address, is_shared=True))]
            address = sockets[0].getsockname()
            sockets += [opened.enter_context(bind(family, address, is_shared=True)) for _ in range(count - 1)]
            for listener in sockets:
                listener.listen(_BACKLOG)
        except OSError as exc:
            logger.error("cannot listen on %s port %d: %s", host, port, exc)
            raise SystemExit(STARTUP_FAILURE) from exc
        opened.pop_all()
    return sockets


def announce(listener: socket.socket, host: str, *, scheme: str = "http") -> None:
    """Tell in the log where the service answers."""
    shown = f"[{host}]" if listener.family == socket.AF_INET6 else host
    # as uvicorn says it of a single process
    logger.info("Uvicorn running on %s://%s:%d (Press CTRL+C to quit)", scheme, shown, listener.getsockname()[1])
