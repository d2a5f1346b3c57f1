"""What is collected and given back, and when."""

import gc
import platform
import subprocess
import sys
import weakref
from collections.abc import Iterator

import pytest

from app import memory

needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="there is nothing to configure elsewhere")

# prints how many heaps a dozen threads have come to
HEAPS = """
import ctypes, tempfile, threading
from app import memory
{configure}
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.fopen.restype = ctypes.c_void_p, ctypes.c_void_p
libc.malloc_info.argtypes, libc.fclose.argtypes = [ctypes.c_int, ctypes.c_void_p], [ctypes.c_void_p]
together = threading.Barrier(12)
def work():
    together.wait()
    libc.malloc(1000)
    together.wait()
threads = [threading.Thread(target=work) for _ in range(12)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
with tempfile.NamedTemporaryFile() as told:
    file = libc.fopen(told.name.encode(), b"w")
    libc.malloc_info(0, file)
    libc.fclose(file)
    print(told.read().count(b"<heap nr="))
"""

# prints how many MB are given back of a peak of 64
PEAK = """
import ctypes
from app import memory
from app.process_figures import resident_bytes
memory.configure(num_threads=1)
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
blocks = [libc.malloc(64_000) for _ in range(1000)]
for block in blocks:
    libc.memset(block, 1, 64_000)
for block in blocks[:-1]:
    libc.free(block)
before = resident_bytes()
memory.trim()
print((before - resident_bytes()) / 1e6)
"""


class Ring:
    """An object that only the collector can free."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def _collector_as_it_was() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


def test_nothing_is_collected_inside_and_what_was_made_is_passed_over_until_settled() -> None:
    with memory.without_collections():
        assert not gc.isenabled()
        made = weakref.ref(Ring())
    assert gc.isenabled()
    gc.collect()
    assert made() is not None
    memory.settle()
    assert made() is None
    assert gc.get_freeze_count() > 0


def test_the_collector_is_back_after_a_failure() -> None:
    with pytest.raises(RuntimeError, match="no app"), memory.without_collections():
        raise RuntimeError("no app")
    assert gc.isenabled()


@needs_glibc
def test_threads_share_as_many_heaps_as_may_run_at_a_time() -> None:
    assert _told(HEAPS.format(configure="")) > 4
    assert _told(HEAPS.format(configure="memory.configure(num_threads=2)")) == 2


@needs_glibc
def test_what_a_peak_leaves_behind_is_given_back() -> None:
    # none of its blocks is large, and the last one stays, so that the heap cannot shrink from its end
    assert _told(PEAK) > 40


def _told(program: str) -> float:
    """Return the number that a process of its own prints."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return float(done.stdout)
