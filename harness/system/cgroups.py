"""What Linux's control groups say of CPU: this process's quota, how long it held back, who is in which group.

Version 1 and version 2 are read. Elsewhere there is nothing to read, and the answers are None or empty.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def cpu_quota(root: Path = ROOT, membership: Path = MEMBERSHIP) -> float | None:
    """How many cores' time this process's control groups allow it; None: no limit.

    The tightest of its group and the groups above it counts, in version 1 as in version 2.
    """
    quotas = [quota for group in _groups(root, membership) for quota in _quotas(group)]
    return min(quotas, default=None)


def throttled_ms(root: Path = ROOT, membership: Path = MEMBERSHIP) -> dict[str, float]:
    """Control group → core time for which its quota has held processes back, since it was made.

    For this process's group and the groups above it; empty where the system does not tell. Two cores that
    are held back for 1 ms each count as 2 ms.
    """
    found = {str(group): _throttled_ms(group) for group in _groups(root, membership)}
    return {group: spent for group, spent in found.items() if spent is not None}


def group_of(pid: int) -> str | None:
    """The path of the process's control group (version 2); None where the system does not tell."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return None
    return next((line.removeprefix("0::") for line in lines if line.startswith("0::")), None)


def words_of(path: Path) -> list[str]:
    """What a file of the kernel holds; nothing when it cannot be read."""
    try:
        return path.read_text().split()
    except OSError:
        return []


def _groups(root: Path, membership: Path) -> Iterator[Path]:
    """The folders that may hold a limit for this process: of `0::/a/b` (v2), `4:cpu,cpuacct:/a/b` (v1)."""
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
    """Its own limit in cores: "150000 100000", or "max 100000" for none (v2); a file for each number (v1)."""
    version_1 = words_of(group / "cpu.cfs_quota_us") + words_of(group / "cpu.cfs_period_us")
    for words in (words_of(group / "cpu.max"), version_1):
        if len(words) == 2 and words[0] not in ("max", "-1"):
            yield int(words[0]) / int(words[1])


def _throttled_ms(group: Path) -> float | None:
    """From the line `throttled_usec 1500` (v2) or `throttled_time 1500000` (v1, in ns) of cpu.stat."""
    words = words_of(group / "cpu.stat")
    stat = dict(zip(words[::2], words[1::2], strict=False))
    if "throttled_usec" in stat:
        return int(stat["throttled_usec"]) / 1e3
    return int(stat["throttled_time"]) / 1e6 if "throttled_time" in stat else None
