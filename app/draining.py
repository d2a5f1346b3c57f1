"""Closing a listening socket without resetting the connections that the kernel has taken and nobody has accepted yet.

``close()`` on a listener resets every connection in its accept queue, and a busy server has some at any moment. So a
filter first drops the packets that would open further connections (their clients try again and are refused once the
port is closed), then what is queued is accepted, and only then is the socket closed. The technique is that of zero
downtime reloads, see `SO_ATTACH_FILTER` in socket(7). Where a kernel refuses it (some do to a process without
CAP_NET_ADMIN, as in a container), what is queued in the microseconds between the last look and the closing is lost.
"""

import asyncio
import contextlib
import ctypes
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterable
from typing import Protocol

_SO_ATTACH_FILTER = 26  # asm-generic/socket.h; the socket module does not name it

# struct sock_filter { u16 code; u8 jt; u8 jf; u32 k; } over the TCP header, as tcp_v4_rcv() hands it to a filter
_DROP_SYN = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # load the byte of flags
        (0x54, 0, 0, 0x12),  # keep SYN and ACK
        (0x15, 0, 1, 0x02),  # SYN alone opens a connection:
        (0x06, 0, 0, 0),  # drop it
        (0x06, 0, 0, 0xFFFFFFFF),  # pass all else
    )
)
_TCP_INFO_UNACKED = struct.Struct("=24xI")  # of a listener: the length of its accept queue

STOP_OPENING_S = 1.0
POLL_S = 0.02


class _Socket(Protocol):
    def fileno(self) -> int: ...


async def stop_opening(listeners: Iterable[_Socket]) -> None:
    """Let no further connection open, and return when those that were opened have been accepted.

    Takes :data:`STOP_OPENING_S` at most, and the turn of the loop that is under way by then.
    """
    sockets = [socket.socket(fileno=os.dup(listener.fileno())) for listener in listeners]
    try:
        filtered = [sock for sock in sockets if _attach_filter(sock)]
        if filtered:
            await asyncio.sleep(POLL_S)  # at least one turn of the loop, which accepts
            await wait_until(lambda: not any(_queue_length(sock) for sock in filtered), within_s=STOP_OPENING_S)
    finally:
        for sock in sockets:
            sock.close()


async def wait_until(is_done: Callable[[], bool], *, within_s: float) -> None:
    """Return when it is done, or the time is over: by the clock, since one turn of a busy loop may take long."""
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + within_s
    while not is_done() and loop.time() < ends_at:  # noqa: ASYNC110  neither a queue in the kernel nor uvicorn tells
        await asyncio.sleep(POLL_S)


def close(servers: Iterable[asyncio.Server]) -> list[socket.socket]:
    """Close the listeners; return the connections that were in their queues, non-blocking, for who serves them."""
    servers = list(servers)
    listeners = [socket.socket(fileno=os.dup(listener.fileno())) for server in servers for listener in server.sockets]
    for server in servers:
        server.close()  # the copies keep the queues open
    queued: list[socket.socket] = []
    for listener in listeners:
        listener.setblocking(False)
        with contextlib.suppress(OSError):  # BlockingIOError where the queue is empty
            while True:
                queued.append(listener.accept()[0])
        listener.close()
    for connection in queued:
        connection.setblocking(False)
    return queued


def _attach_filter(sock: socket.socket) -> bool:
    if not sys.platform.startswith("linux") or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    program = ctypes.create_string_buffer(_DROP_SYN, len(_DROP_SYN))
    # struct sock_fprog { unsigned short len; struct sock_filter *filter; }
    descriptor = struct.pack("@HP", len(_DROP_SYN) // 8, ctypes.addressof(program))
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, descriptor)
    except OSError:  # a kernel, or a sandbox, without it
        return False
    return True


def _queue_length(sock: socket.socket) -> int:
    (length,) = _TCP_INFO_UNACKED.unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_UNACKED.size))
    return int(length)
