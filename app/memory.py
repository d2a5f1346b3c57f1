"""Keeps the resident memory of a long-running process near what it uses. glibc only; elsewhere nothing happens."""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # malloc.h
# bodies and pictures are above it, the arrays of a batch of small models below
LARGE_BLOCK_BYTES = 256 * 1024


def configure(*, num_threads: int) -> None:
    """Let large blocks go back to the system when they are freed, and have no more heaps than threads that can run.

    Left alone, glibc raises its threshold with every large block that is freed, up to 32 MiB, and from then on keeps
    what a single large request has needed; and it makes up to eight heaps for each core of the machine, each of which
    keeps what its own threads have freed.

    Args:
        num_threads: How many can run at a time: the cores that this process may use.
    """
    if mallopt := _libc_function("mallopt"):
        mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)
        mallopt(_M_ARENA_MAX, num_threads)


@contextmanager
def without_collections() -> Iterator[None]:
    """Keep the garbage collector away while modules are imported and the app is built: nearly all of it stays.

    What was made meanwhile is passed over until :func:`settle`.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def settle() -> None:
    """Collect what loading left behind, give it back, and let the collector pass over what stays.

    Walking all that was loaded, again and again, was the tail of the latencies.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    trim()


def trim() -> None:
    """Give back the pages that nothing stands on: else those of many small peaks add up. Takes about 0.1 ms."""
    if malloc_trim := _libc_function("malloc_trim"):
        malloc_trim(0)


def _libc_function(name: str) -> "ctypes._NamedFuncPointer | None":
    return getattr(ctypes.CDLL(None), name, None)
