"""Processes of real programs: children, those whose parent has ended, and their end."""

import os
import subprocess
import sys
import time

import pytest

from benchmarks import processes

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

# a child that computes and sleeps, and one whose parent ends at once
PROGRAM = """
import os, subprocess, sys, time
if os.fork() == 0:
    if os.fork() == 0:
        time.sleep(60)
    os._exit(0)
os.wait()
computes = "import time; sum(range(3_000_000)); print('computed', flush=True); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", computes])
time.sleep(60)
"""


def test_a_tree_holds_children_and_orphans_and_is_ended_whole() -> None:
    processes.adopt_orphans()
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"computed\n"
    pids = processes.tree(process.pid)
    assert len(pids) == 3
    assert os.getpid() not in pids
    assert processes.computed_s(pids) > processes.computed_s([process.pid])
    assert processes.resident_bytes(pids) > 1e6

    processes.pin(pids, min(os.sched_getaffinity(0)))
    assert processes.cores(pids) == {min(os.sched_getaffinity(0))}

    process.kill()
    process.wait()
    processes.end(set(pids) - {process.pid}, patience_s=30)
    assert processes.tree(process.pid) == []
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def test_processes_that_are_gone_count_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert processes.computed_s([process.pid]) == 0
    assert processes.tree(process.pid) == []
    assert processes.cores([process.pid]) == set()
    started_at = time.monotonic()
    processes.end([process.pid], patience_s=30)
    assert time.monotonic() - started_at < 30
