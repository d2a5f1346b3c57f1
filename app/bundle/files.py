"""Files and folders, with care.

Files of a bundle are read as what a stranger may have put there: no pipe is waited for, and no file is endless.
"""

import errno
import io
import os
import stat
from pathlib import Path


def open_regular(path: Path) -> io.BufferedReader:
    """Open a regular file for reading; a link to one is followed.

    Raises:
        OSError: It is missing, cannot be read, or is something else: to open a pipe would wait for whoever writes, and
            a device may have no end.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "it is no regular file", str(path))


def read_bounded(path: Path, limit_bytes: int) -> bytes:
    """Return the content of a regular file, or one byte more than the limit of a larger one.

    Raises:
        OSError: As of :func:`open_regular`.
    """
    with open_regular(path) as file:
        return file.read(limit_bytes + 1)


def sync_folder(folder: Path) -> None:
    """Wait until the disk knows of names that were changed.

    Raises:
        OSError: It is no folder, or cannot be read.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
