"""CPU data from Linux's control groups: this process's quota, the throttled time, and a process's group.

This reads version 1 and version 2. On other systems the results are None or empty.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def cpu_quota(root: Path = ROOT, membership: Path = MEMBERSHIP) -> float | None:
    """Return this process's CPU quota in cores; None without a limit.

    The lowest quota of its group and the groups above it counts, in version 1 and in version 2.
    """
    quotas = [quota for group in _groups(root, membership) for quota in _quotas(group)]
    return min(quotas, default=None)


def throttled_ms(root: Path = ROOT, membership: Path = MEMBERSHIP) -> dict[str, float]:
    """Return control group → core time that its quota has withheld since the group was created.

    The result covers this process's group and the groups above it. It is empty if the system does not report
    the time. Two cores that are throttled for 1 ms each count as 2 ms.
    """
    times = {str(group): _throttled_ms(group) for group in _groups(root, membership)}
    return {group: throttled for group, throttled in times.items() if throttled is not None}


def group_of(pid: int) -> str | None:
    """Return the path of a process's control group (version 2); None if the system does not report it."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return None
    return next((line.removeprefix("0::") for line in lines if line.startswith("0::")), None)


def words_of(path: Path) -> list[str]:
    """Return the words in a file of the kernel; an empty list if it cannot be read."""
    try:
        return path.read_text().split()
    except OSError:
        return []


def _groups(root: Path, membership: Path) -> Iterator[Path]:
    """Yield folders that may limit this process, from `0::/a/b` (v2), `4:cpu,cpuacct:/a/b` (v1)."""
    for line in membership.read_text().splitlines() if membership.exists() else ():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / controllers
        group = mount / path.lstrip("/")
        while group != mount and group.is_relative_to(mount):
            yield group
            group = group.parent
        yield mount


def _quotas(group: Path) -> Iterator[float]:
    """Yield the group's own limit in cores, if any.

    Version 2 has one file with "150000 100000", or "max 100000" without a limit; version 1 has a file per
    number.
    """
    version_1 = words_of(group / "cpu.cfs_quota_us") + words_of(group / "cpu.cfs_period_us")
    for words in (words_of(group / "cpu.max"), version_1):
        if len(words) == 2 and words[0] not in ("max", "-1"):
            yield int(words[0]) / int(words[1])


def _throttled_ms(group: Path) -> float | None:
    """Read the line `throttled_usec 1500` (v2) or `throttled_time 1500000` (v1, in ns) of cpu.stat."""
    words = words_of(group / "cpu.stat")
    stat = dict(zip(words[::2], words[1::2], strict=False))
    if "throttled_usec" in stat:
        return int(stat["throttled_usec"]) / 1e3
    return int(stat["throttled_time"]) / 1e6 if "throttled_time" in stat else None
