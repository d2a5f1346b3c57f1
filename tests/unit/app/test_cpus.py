import os
from pathlib import Path

import pytest

from app.cpus import num_cores, num_cores_of_machine, quotas, threads_within

GRANTED = len(os.sched_getaffinity(0))


def tree(root: Path, groups: str, **files: str) -> Path:
    """Write what the kernel would: the groups of this process, and files by their path below sys/fs/cgroup."""
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "self" / "cgroup").write_text(groups)
    for name, text in files.items():
        path = root / "sys" / "fs" / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_machine_without_control_groups_has_the_cores_that_the_scheduler_grants(tmp_path: Path) -> None:
    assert list(quotas(tmp_path)) == []
    assert num_cores(tmp_path) == GRANTED
    assert num_cores_of_machine(tmp_path) == os.cpu_count()


def test_quota_of_version_2_is_read_in_the_root_of_a_container(tmp_path: Path) -> None:
    tree(tmp_path, "0::/\n", **{"cpu.max": "150000 100000\n"})
    assert list(quotas(tmp_path)) == [1.5]


def test_smallest_quota_on_the_way_up_holds(tmp_path: Path) -> None:
    tree(
        tmp_path,
        "0::/pod/container\n",
        **{"pod/container/cpu.max": "max 100000\n", "pod/cpu.max": "50000 100000\n", "cpu.max": "400000 100000\n"},
    )
    assert sorted(quotas(tmp_path)) == [0.5, 4.0]
    assert num_cores(tmp_path) == num_cores_of_machine(tmp_path) == 1  # half a core is still one


def test_path_of_the_host_is_passed_over_where_the_mount_begins_at_the_group(tmp_path: Path) -> None:
    tree(tmp_path, "0::/../../system.slice/docker-1.scope\n", **{"cpu.max": "100000 100000\n"})
    assert list(quotas(tmp_path)) == [1.0]


@pytest.mark.parametrize("mounted_at", ["cpu", "cpu,cpuacct"])
def test_quota_of_version_1_is_read(tmp_path: Path, mounted_at: str) -> None:
    folder = f"{mounted_at}/docker/1"
    tree(
        tmp_path,
        "5:memory:/docker/1\n4:cpu,cpuacct:/docker/1\n3:cpuset:/docker/1\n",
        **{f"{folder}/cpu.cfs_quota_us": "250000\n", f"{folder}/cpu.cfs_period_us": "100000\n"},
        **{f"{mounted_at}/cpu.cfs_quota_us": "-1\n", f"{mounted_at}/cpu.cfs_period_us": "100000\n"},
    )
    assert list(quotas(tmp_path)) == [2.5]


def test_version_1_is_read_beside_an_empty_version_2(tmp_path: Path) -> None:
    tree(
        tmp_path,
        "1:cpu:/\n0::/\n",
        **{"cpu/cpu.cfs_quota_us": "20000\n", "cpu/cpu.cfs_period_us": "10000\n"},
    )
    assert list(quotas(tmp_path)) == [2.0]


@pytest.mark.parametrize("text", ["max 100000\n", "max\n", "", "nonsense\n", "-1 100000\n", "0 100000\n", "100000 0\n"])
def test_what_is_no_quota_limits_nothing(tmp_path: Path, text: str) -> None:
    tree(tmp_path, "0::/\n", **{"cpu.max": text})
    assert list(quotas(tmp_path)) == []
    assert num_cores(tmp_path) == GRANTED


@pytest.mark.parametrize("text", ["", "nonsense", "1:cpu", "::\n::::\n"])
def test_list_of_groups_that_makes_no_sense_limits_nothing(tmp_path: Path, text: str) -> None:
    assert list(quotas(tree(tmp_path, text))) == []


@pytest.mark.parametrize(
    ("quota_us", "cores"), [(10_000, 1), (100_000, 1), (199_999, 1), (200_000, 2), (10_000_000, 100)]
)
def test_part_of_a_core_counts_for_none_but_one_core_is_always_there(tmp_path: Path, quota_us: int, cores: int) -> None:
    tree(tmp_path, "0::/\n", **{"cpu.max": f"{quota_us} 100000\n"})
    assert num_cores(tmp_path) == min(cores, GRANTED)


@pytest.mark.parametrize("workers", range(1, 9))
@pytest.mark.parametrize("cores", range(1, 9))
@pytest.mark.parametrize("threads", range(1, 9))
def test_threads_of_all_workers_stay_within_the_cores(threads: int, workers: int, cores: int) -> None:
    allowed = threads_within(threads, workers=workers, cores=cores)
    assert 1 <= allowed <= threads
    assert allowed == 1 or workers * allowed <= cores
    assert allowed == threads or workers * (allowed + 1) > cores  # and no fewer than can be
