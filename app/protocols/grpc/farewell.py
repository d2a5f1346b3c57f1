"""Telling clients to go before the server stops, so that no call is lost.

gRPC's server, once stopped, cancels calls that reach it, and its clients learn of the end no sooner than that: under
load, some calls are cancelled whose clients did nothing wrong. HTTP/2 has a word for this, the frame GOAWAY with the
highest possible stream number (RFC 9113, section 6.8): calls that are under way are answered, and the client opens the
next elsewhere. gRPC's server says it only by the age of a connection, so it is said here, on the sockets themselves.

A frame must not stand within another. The kernel takes each of gRPC's writes as a whole unless its buffer is full, so
answers are held back for the moment, and a frame is sent where everything written before has been received.
"""

import array
import asyncio
import contextlib
import fcntl
import os
import socket
import struct
import termios

# length, type, flags, stream; then the last stream and the error, none
GOAWAY = struct.pack(">IBI", 8 << 8 | 7, 0, 0) + struct.pack(">II", 2**31 - 1, 0)
# for what has been written to be received
FLUSH_S = 0.2
_LOOK_S = 0.01
_FDS = "/proc/self/fd"


def listeners_on(port: int) -> list[socket.socket]:
    """Return duplicates of the TCP sockets of this process that take connections on a port; whoever asks closes them.

    There are none where the kernel does not list them.
    """
    return _sockets_on(port, is_listening=True)


def connections_on(port: int) -> list[socket.socket]:
    """Return duplicates of the connections, likewise."""
    return _sockets_on(port, is_listening=False)


async def send_away(connections: list[socket.socket]) -> None:
    """Tell the clients at the other ends to open no further call here; nothing else may be written meanwhile."""
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + FLUSH_S
    waiting = list(connections)
    while waiting and loop.time() < ends_at:
        quiet = [connection for connection in waiting if not _num_unreceived(connection)]
        await asyncio.sleep(_LOOK_S)
        for connection in quiet:
            if not _num_unreceived(connection):  # at both looks
                waiting.remove(connection)
                with contextlib.suppress(OSError):  # gone
                    connection.send(GOAWAY, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


def _sockets_on(port: int, *, is_listening: bool) -> list[socket.socket]:
    found: list[socket.socket] = []
    for number in _socket_numbers():
        with contextlib.suppress(OSError):  # closed meanwhile
            copy = socket.socket(fileno=os.dup(number))
            if _is_on(copy, port, is_listening=is_listening):
                found.append(copy)
            else:
                copy.close()
    return found


def _socket_numbers() -> list[int]:
    """Return a descriptor of every open socket, each once; before any is copied, or copies would be among them."""
    by_inode: dict[str, int] = {}
    for name in os.listdir(_FDS) if os.path.isdir(_FDS) else ():
        with contextlib.suppress(OSError):  # closed meanwhile
            if (inode := os.readlink(f"{_FDS}/{name}")).startswith("socket:"):
                by_inode[inode] = int(name)
    return list(by_inode.values())


def _is_on(copy: socket.socket, port: int, *, is_listening: bool) -> bool:
    return (
        copy.family in (socket.AF_INET, socket.AF_INET6)
        and copy.getsockname()[1] == port
        and copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == is_listening
    )


def _num_unreceived(connection: socket.socket) -> int:
    """Return how many bytes the other end has not acknowledged; none of a connection that is gone."""
    count = array.array("i", [0])
    try:
        fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, count)
    except OSError:
        return 0
    return count[0]
