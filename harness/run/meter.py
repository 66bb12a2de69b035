"""Measure the machine during a trial: who uses the CPU, whether CPU time is withheld, and the arm's memory.

The CPU use of the whole machine is its time minus its idle time, in ticks of 10 ms per core: a single short
trial has an error of that size, sums over trials do not. CPU that the run's own processes did not use is
foreign.

Each process has a clock of its CPU time, in nanoseconds, which takes 1 µs to read; on systems without such
clocks, psutil reports ticks of 10 ms. The CPU time of a child that has ended is known from its parent, also
in ticks, once the parent has waited for it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

import psutil

from harness.run.processes import Families, Table, children_of, read_table, with_descendants
from harness.system import cgroups, pressure
from harness.system.pressure import Pressure
from harness.wire.clock import now_ms
from harness.wire.loop_lag import Lag
from harness.wire.records import Noise

_CPUCLOCK_SCHED = 2  # the kernel's constant for a process's run time, as clock_getcpuclockid(3) uses it


class Meter:
    """Reads the machine at the start and the end of a trial; each reading takes some milliseconds.

    servers: arm → pid of its server; read again each time, so that servers may start and stop. own: the pids
    of the run's other processes. Descendants count with their ancestors. running: arm → further pids of its
    server, for servers that already run: see `processes.Families`. idle: the value of `idle` before the run
    was resumed. keepers: our own processes among the servers', whose memory does not count; read each time.
    A process that ends during the trial counts if its parent waited for it; otherwise its CPU time counts as
    foreign.
    """

    def __init__(
        self,
        servers: Mapping[str, int],
        own: Iterable[int],
        running: Mapping[str, Collection[int]] | None = None,
        idle: Mapping[str, Mapping[str, float]] | None = None,
        keepers: Collection[int] = (),
    ) -> None:
        self._keepers = keepers
        self._servers = servers
        self._own = tuple(own)
        self._families = Families(self._own, running)
        self._arm = ""
        self._before: _Reading | None = None
        # arm → `cpu_ms` that it used during `wall_ms` of other arms' trials
        self.idle = {arm: dict(known) for arm, known in (idle or {}).items()}

    def begin(self, arm: str) -> None:
        """A trial of `arm` begins; its server runs already."""
        self._arm = arm
        self._before = self._read()

    def end(self, lag: Lag | None = None) -> Noise:
        """The trial is over; return what the machine did. `lag`: the loop lag of the server.

        The memory is read last, when all clocks have been read.
        """
        assert self._before is not None, "end without begin"
        before, after = self._before, self._read()
        self._before = None
        wall_ms = after.at_ms - before.at_ms
        used = CpuUsed(before.cpu, after.cpu)
        busy_ms = wall_ms * cores() - (after.unused_ms - before.unused_ms)  # all processes, sum over cores
        own = after.families.get(self._arm, set())
        # two arms may be routes of one server
        others = {arm: used.ms(pids - own) for arm, pids in after.families.items() if pids - own}
        for arm, cpu_ms in others.items():
            known = self.idle.get(arm, {"cpu_ms": 0.0, "wall_ms": 0.0})
            self.idle[arm] = {"cpu_ms": known["cpu_ms"] + cpu_ms, "wall_ms": known["wall_ms"] + wall_ms}
        return Noise(
            load_before=before.load,
            pressure_before=before.pressure.recent_share,
            steal_share=_share(before.stolen_ms, after.stolen_ms, wall_ms * cores()),
            pressure_share=_share(before.pressure.waited_ms, after.pressure.waited_ms, wall_ms),
            foreign_cpu=max(0.0, (busy_ms - used.ms(after.cpu.ms)) / wall_ms),
            server_cpu_ms=used.ms(own) if self._arm in after.families else None,
            idle_cpu_ms=sum(others.values()),
            server_lag_p99_ms=None if lag is None else lag.p99_ms,
            server_lag_max_ms=None if lag is None else lag.max_ms,
            throttled_share=_throttled_share(before, after),
            server_rss_mb=rss_mb(own.difference(self._keepers)),
        )

    def counted(self) -> dict[str, list[dict[str, Any]]]:
        """Arm → `pid` and `command` of each process counted for it, for servers that already run."""
        return {
            arm: [{"pid": pid, "command": command} for pid, command in sorted(found.items())]
            for arm, found in self._families.commands.items()
        }

    def _read(self) -> _Reading:
        """Read everything. Finding processes is slow, so it comes first: all clocks are read within 1 ms."""
        table = read_table()
        families = self._families.members(self._servers, table)
        pids = with_descendants(self._own, children_of(table)).union(*families.values())
        return _Reading(
            os.getloadavg()[0],
            pressure.read(),
            cgroups.throttled_ms(),
            families,
            now_ms(),
            *_machine(),
            read_clocks(table, pids),
        )


def memory_uss_bytes(pid: int, *, without_root: bool = False) -> int | None:
    """Memory that only the process and its descendants use (USS); None if it cannot be read.

    `without_root`: only that of the descendants, as the process itself is ours.

    Pages shared with another process, such as torch's code in a second arm, do not count. So measure all arms
    while the others run, or all of them alone.
    """
    try:
        root = psutil.Process(pid)
        family = [*([] if without_root else [root]), *root.children(recursive=True)]
        return sum(process.memory_full_info().uss for process in family)
    except (psutil.Error, AttributeError):  # the attribute: a system without USS
        return None


def rss_mb(pids: Iterable[int]) -> float | None:
    """The resident memory (RSS) of these processes in MB; None if it cannot be read.

    A page that two of them share counts twice. Processes that have ended are left out.
    """
    try:
        found = [size for pid in pids if (size := _rss_bytes(pid))]
    except psutil.AccessDenied:
        return None  # a sum without this process would be too low
    return sum(found) / 1e6 if found else None


def _rss_bytes(pid: int) -> int:
    """0 for a process that has ended, also if its parent has not waited for it yet."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


# -- CPU time ----------------------------------------------------------------------------------------


class Clocks(NamedTuple):
    """One reading of CPU times."""

    table: Table  # all processes of the machine
    ms: dict[int, float]  # pid → CPU time since its start, for the run's processes


def read_clocks(table: Table, pids: Iterable[int]) -> Clocks:
    """Read the clocks of these processes within a millisecond; leave out those that have ended."""
    return Clocks(table, {pid: cpu for pid in pids if (cpu := process_cpu_ms(pid)) is not None})


def process_cpu_ms(pid: int) -> float | None:
    """CPU time of a process since its start, including ended threads; None if the process has ended."""
    if sys.platform == "linux":
        try:
            return time.clock_gettime_ns((~pid << 3) | _CPUCLOCK_SCHED) / 1e6
        except OSError:
            pass  # the process has ended, or a sandbox has no such clocks
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return None
    return float(times.user + times.system) * 1e3


class CpuUsed:
    """The CPU time of processes between two readings, including that of their ended children."""

    def __init__(self, before: Clocks, after: Clocks) -> None:
        self._before = before
        self._after = after
        self._children = children_of(before.table)
        self._in_both = {  # pids of the same process in both readings
            pid
            for pid, process in before.table.items()
            if pid in after.table and after.table[pid].created == process.created
        }
        self._still_runs = self._in_both & after.ms.keys()  # others ended just before the clocks were read

    def ms(self, pids: Iterable[int]) -> float:
        """The CPU time of these processes; 0 for one that ended before its clock was read."""
        known = [pid for pid in pids if pid in self._after.ms and pid in self._after.table]
        return sum(self._itself_ms(pid) + self._ended_ms(pid) for pid in known)

    def _itself_ms(self, pid: int) -> float:
        """Its own CPU time since the first reading or its start; without a clock at that time, from ticks."""
        was_ms = self._cpu_before_ms(pid) if pid in self._in_both else 0.0
        return max(0.0, self._after.ms[pid] - was_ms)

    def _ended_ms(self, pid: int) -> float:
        """The CPU time that its ended children used since the first reading.

        When a parent waits for a child, it gets the child's whole CPU time; the part before the first reading
        is subtracted. A child that its parent has not waited for does not count.
        """
        known_ms = self._before.table[pid].ended_ms if pid in self._in_both else 0.0
        added_ms = self._after.table[pid].ended_ms - known_ms
        return max(0.0, added_ms - self._ended_before_ms(pid)) if added_ms > 0 else 0.0

    def _ended_before_ms(self, pid: int) -> float:
        """The CPU time at the first reading of its descendants that ended by the second."""
        ended = [child for child in self._children.get(pid, ()) if child not in self._still_runs]
        return sum(
            self._cpu_before_ms(child) + self._before.table[child].ended_ms + self._ended_before_ms(child)
            for child in ended
        )

    def _cpu_before_ms(self, pid: int) -> float:
        return self._before.ms.get(pid, self._before.table[pid].cpu_ms)


# -- one reading ---------------------------------------------------------------------------------------


@cache
def cores() -> int:
    """The number of cores that the idle time is summed over; a container may show fewer than exist."""
    return len(psutil.cpu_times(percpu=True))


class _Reading(NamedTuple):
    load: float
    pressure: Pressure
    throttled_ms: dict[str, float]  # control group → core time that its quota took
    families: dict[str, set[int]]  # arm → the pids of its server and workers
    at_ms: float
    unused_ms: float  # idle, waiting for a disk, or stolen by the hypervisor; sum over cores
    stolen_ms: float | None
    cpu: Clocks  # of each process of the run


def _machine() -> tuple[float, float | None]:
    """Unused and stolen ms.

    From idle time, which is exact; busy time is sampled at ticks, and 2 % too low under loads of short
    bursts.
    """
    times = psutil.cpu_times()
    steal = getattr(times, "steal", None)
    unused = times.idle + getattr(times, "iowait", 0.0) + (steal or 0.0)
    return unused * 1e3, None if steal is None else steal * 1e3


# -- between two readings ------------------------------------------------------------------------------


def _share(before_ms: float | None, after_ms: float | None, of_ms: float) -> float | None:
    return None if before_ms is None or after_ms is None else (after_ms - before_ms) / of_ms


def _throttled_share(before: _Reading, after: _Reading) -> float | None:
    """The share of all cores' time that quotas withheld: the largest over the control groups."""
    both = before.throttled_ms.keys() & after.throttled_ms.keys()
    took_ms = [after.throttled_ms[group] - before.throttled_ms[group] for group in both]
    return max(took_ms) / ((after.at_ms - before.at_ms) * cores()) if took_ms else None
