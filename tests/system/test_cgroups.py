"""CPU data of control groups, read from fake ones of both versions."""

import os
from pathlib import Path

import pytest

from harness.system.cgroups import cpu_quota, group_of, throttled_ms


def groups(tmp_path: Path, membership: str, **files: str) -> tuple[Path, Path]:
    """Create a fake /sys/fs/cgroup and /proc/self/cgroup; `files` maps paths, with __ for /, to contents."""
    root = tmp_path / "cgroup"
    for name, content in files.items():
        path = root / name.replace("__", "/").replace("cpu_", "cpu.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (tmp_path / "self").write_text(membership)
    return root, tmp_path / "self"


def test_a_quota_of_version_2_is_returned_in_cores(tmp_path: Path) -> None:
    assert cpu_quota(*groups(tmp_path, "0::/job\n", job__cpu_max="150000 100000\n")) == 1.5


def test_the_lowest_quota_of_the_group_and_its_parents_counts(tmp_path: Path) -> None:
    root, membership = groups(
        tmp_path, "0::/pod/job\n", pod__job__cpu_max="200000 100000\n", pod__cpu_max="50000 100000\n"
    )
    assert cpu_quota(root, membership) == 0.5


def test_in_a_container_the_group_is_the_root_of_the_mount(tmp_path: Path) -> None:
    assert cpu_quota(*groups(tmp_path, "0::/\n", cpu_max="200000 100000")) == 2.0


def test_a_quota_of_version_1_is_returned_in_cores(tmp_path: Path) -> None:
    files = {"cpu__job__cpu_cfs_quota_us": "250000\n", "cpu__job__cpu_cfs_period_us": "100000\n"}
    assert cpu_quota(*groups(tmp_path, "3:memory:/x\n1:cpu:/job\n", **files)) == 2.5


def test_without_a_limit_there_is_no_quota(tmp_path: Path) -> None:
    files = {
        "cpu__cpu_cfs_quota_us": "-1\n",
        "cpu__cpu_cfs_period_us": "100000\n",
        "job__cpu_max": "max 100000",
    }
    assert cpu_quota(*groups(tmp_path, "1:cpu:/\n0::/job\n", **files)) is None
    assert cpu_quota(tmp_path / "none", tmp_path / "no such file") is None


# -- throttling ----------------------------------------------------------------------------------------

STAT_V2 = "usage_usec 81234567\nnr_periods 40\nnr_throttled 12\nthrottled_usec 1234500\n"
STAT_V1 = "nr_periods 40\nnr_throttled 12\nthrottled_time 1234500000\n"


@pytest.mark.parametrize(
    ("membership", "place", "stat"),
    [("0::/job\n", "job", STAT_V2), ("3:memory:/x\n1:cpu,cpuacct:/job\n", "cpu,cpuacct__job", STAT_V1)],
    ids=["version 2", "version 1"],
)
def test_the_throttled_time_is_read_in_ms(tmp_path: Path, membership: str, place: str, stat: str) -> None:
    root, own = groups(tmp_path, membership, **{f"{place}__cpu_stat": stat})
    (found,) = throttled_ms(root, own).items()
    assert found == (str(root / place.replace("__", "/")), 1234.5)


def test_the_groups_above_are_read_too(tmp_path: Path) -> None:
    stats = {"pod__job__cpu_stat": "throttled_usec 0\n", "pod__cpu_stat": "throttled_usec 5000\n"}
    root, own = groups(tmp_path, "0::/pod/job\n", **stats)
    assert throttled_ms(root, own) == {str(root / "pod" / "job"): 0.0, str(root / "pod"): 5.0}


def test_without_control_groups_there_is_no_throttled_time(tmp_path: Path) -> None:
    assert throttled_ms(*groups(tmp_path, "0::/job\n", job__cpu_stat="usage_usec 7\n")) == {}
    assert throttled_ms(tmp_path / "none", tmp_path / "no such file") == {}


def test_a_process_has_one_group_of_version_2_or_none() -> None:
    found = group_of(os.getpid())
    assert found is None or found.startswith("/")
    assert group_of(2**30) is None
