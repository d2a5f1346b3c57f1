"""What the kernel knows: which process has taken a connection."""

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

_SOCKET = re.compile(r"socket:\[(\d+)\]")


def owners(service_port: int, pids: Iterable[int]) -> dict[int, int]:
    """Return the process that has accepted each connection to a port of the loopback, by the client's port.

    Those that nobody has accepted yet are not in it.
    """
    by_inode = {inode: pid for pid in pids for inode in _sockets(pid)}
    found = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, *rest = line.split()
        if _port(local) == service_port and rest[5] in by_inode:
            found[_port(remote)] = by_inode[rest[5]]
    return found


def _sockets(pid: int) -> set[str]:
    inodes = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            if found := _SOCKET.fullmatch(os.readlink(file)):
                inodes.add(found[1])
    return inodes


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)
