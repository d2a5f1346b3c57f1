"""Memory and processor time of processes that are really there."""

import os
import subprocess
import sys

import pytest

from benchmarks.scenarios import _processes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="proc(5)")


def test_a_process_and_its_children_are_one_family() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"1\n"
        members = list(_processes.family(parent.pid))
        alone, both = _processes.memory(members[1]), _processes.memory(parent.pid)
        parent.communicate(b"\n")
    assert members[0] == parent.pid
    assert len(members) == 2
    assert 0 < alone.resident < both.resident


def test_what_is_shared_counts_by_its_share() -> None:
    memory = _processes.memory(os.getpid())
    assert 0 < memory.own <= memory.proportional <= memory.resident


def test_processor_time_only_rises() -> None:
    before = _processes.computed_s(os.getpid())
    while (after := _processes.computed_s(os.getpid())) == before:
        sum(range(10_000))
    assert after > before


def test_mapped_libraries_are_told_by_their_names() -> None:
    import numpy as np

    assert any(name.startswith("_multiarray_umath") for name in _processes.mapped_files(os.getpid())), np.__version__
