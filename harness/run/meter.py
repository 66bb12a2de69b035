"""What the machine does beside a trial: who burns CPU, and whether somebody takes it away.

CPU of the whole machine is its time less its idle time, in ticks of 10 ms a core: a single short trial
carries an error of that size, sums over trials do not. What is not of the run's own processes is foreign.

A process has a clock of its CPU time, in nanoseconds, which is read in 1 µs; where the system has no such
clocks, psutil tells, in ticks of 10 ms. What a child burnt that has ended is known from its parent, also in
ticks, once the parent has waited for it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

import psutil

from harness.run.processes import Families, Table, below, children_of, read_table
from harness.system import cgroups, pressure
from harness.system.pressure import Pressure
from harness.wire.clock import now_ms
from harness.wire.loop_lag import Lag
from harness.wire.records import Noise

_CPUCLOCK_SCHED = 2  # the kernel's name for a process's run time, as clock_getcpuclockid(3) composes it


class Meter:
    """Reads the machine at a trial's two ends; each reading takes some milliseconds, outside of the window.

    servers: arm → pid of its server, read anew each time, so that servers may come and go. own: the pids of
    the run's other processes. Everybody's descendants count with them. running: arm → what else is of its
    server, for servers that ran before: see `processes.Families`. idle: what `idle` of an earlier sitting
    was. A process that ends within the trial counts where its parent waited for it; else what it burnt looks
    foreign.
    """

    def __init__(
        self,
        servers: Mapping[str, int],
        own: Iterable[int],
        running: Mapping[str, Collection[int]] | None = None,
        idle: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        self._servers = servers
        self._own = tuple(own)
        self._families = Families(self._own, running)
        self._arm = ""
        self._before: _Reading | None = None
        # arm → `cpu_ms` it burnt during `wall_ms` of other arms' trials
        self.idle = {arm: dict(known) for arm, known in (idle or {}).items()}

    def begin(self, arm: str) -> None:
        """A trial of `arm` begins; its server runs already."""
        self._arm = arm
        self._before = self._read()

    def end(self, lag: Lag | None = None) -> Noise:
        """It is over; `lag` is that of the server's loop. What the machine did meanwhile."""
        assert self._before is not None, "end without begin"
        before, after = self._before, self._read()
        self._before = None
        wall_ms = after.at_ms - before.at_ms
        burnt = Burnt(before.cpu, after.cpu)
        busy_ms = wall_ms * cores() - (after.unused_ms - before.unused_ms)  # everybody, sum over cores
        own = after.families.get(self._arm, set())
        # two arms may be routes of one server
        others = {arm: burnt.ms(pids - own) for arm, pids in after.families.items() if pids - own}
        for arm, cpu_ms in others.items():
            known = self.idle.get(arm, {"cpu_ms": 0.0, "wall_ms": 0.0})
            self.idle[arm] = {"cpu_ms": known["cpu_ms"] + cpu_ms, "wall_ms": known["wall_ms"] + wall_ms}
        return Noise(
            load_before=before.load,
            pressure_before=before.pressure.recent_share,
            steal_share=_share(before.stolen_ms, after.stolen_ms, wall_ms * cores()),
            pressure_share=_share(before.pressure.waited_ms, after.pressure.waited_ms, wall_ms),
            foreign_cpu=max(0.0, (busy_ms - burnt.ms(after.cpu.ms)) / wall_ms),
            server_cpu_ms=burnt.ms(own) if self._arm in after.families else None,
            idle_cpu_ms=sum(others.values()),
            server_lag_p99_ms=None if lag is None else lag.p99_ms,
            server_lag_max_ms=None if lag is None else lag.max_ms,
            throttled_share=_throttled_share(before, after),
        )

    def counted(self) -> dict[str, list[dict[str, Any]]]:
        """Arm → `pid` and `command` of each process that was counted as its; of servers that ran before."""
        return {
            arm: [{"pid": pid, "command": command} for pid, command in sorted(found.items())]
            for arm, found in self._families.commands.items()
        }

    def _read(self) -> _Reading:
        """Finding the processes is slow, so it comes first: the clocks are read within a millisecond."""
        table = read_table()
        families = self._families.members(self._servers, table)
        pids = below(self._own, children_of(table)).union(*families.values())
        return _Reading(
            os.getloadavg()[0],
            pressure.read(),
            cgroups.throttled_ms(),
            families,
            now_ms(),
            *_machine(),
            read_clocks(table, pids),
        )


def memory_uss_bytes(pid: int) -> int | None:
    """Memory that the process and its descendants have for themselves; None when it cannot be read.

    Pages that another process has too, such as torch's code in a second arm, do not count: so measure while
    the other arms are up, or every arm alone, but not the one so and the other so.
    """
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
        return sum(process.memory_full_info().uss for process in family)
    except (psutil.Error, AttributeError):  # the attribute: a system without USS
        return None


# -- CPU time ----------------------------------------------------------------------------------------


class Clocks(NamedTuple):
    """One reading."""

    table: Table  # all processes of the machine
    ms: dict[int, float]  # pid → CPU time since it began, of the processes that matter


def read_clocks(table: Table, pids: Iterable[int]) -> Clocks:
    """The clocks of these processes, within a millisecond; those that have ended meanwhile have none."""
    return Clocks(table, {pid: cpu for pid in pids if (cpu := process_cpu_ms(pid)) is not None})


def process_cpu_ms(pid: int) -> float | None:
    """CPU time of a process since it began, ended threads included; None when it has ended itself."""
    if sys.platform == "linux":
        try:
            return time.clock_gettime_ns((~pid << 3) | _CPUCLOCK_SCHED) / 1e6
        except OSError:
            pass  # ended, or a sandbox without such clocks
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return None
    return float(times.user + times.system) * 1e3


class Burnt:
    """The CPU time of processes between two readings, that of their ended children included."""

    def __init__(self, before: Clocks, after: Clocks) -> None:
        self._before = before
        self._after = after
        self._children = children_of(before.table)
        self._in_both = {  # of one process each, which no other has taken over meanwhile
            pid
            for pid, process in before.table.items()
            if pid in after.table and after.table[pid].created == process.created
        }
        self._still_burns = self._in_both & after.ms.keys()  # others ended just before the clocks were read

    def ms(self, pids: Iterable[int]) -> float:
        """Of these processes, as they were at the second reading; one that has ended since has none."""
        known = [pid for pid in pids if pid in self._after.ms and pid in self._after.table]
        return sum(self._itself_ms(pid) + self._ended_ms(pid) for pid in known)

    def _itself_ms(self, pid: int) -> float:
        """Since the first reading, or since its birth; what was not counted then is known in ticks."""
        was_ms = self._cpu_before_ms(pid) if pid in self._in_both else 0.0
        return max(0.0, self._after.ms[pid] - was_ms)

    def _ended_ms(self, pid: int) -> float:
        """What its children that have ended burnt since the first reading.

        A parent learns of all that a child has burnt when it waits for it: what the child had burnt at the
        first reading is taken off. A child that nobody waited for does not count.
        """
        known_ms = self._before.table[pid].ended_ms if pid in self._in_both else 0.0
        learnt_ms = self._after.table[pid].ended_ms - known_ms
        return max(0.0, learnt_ms - self._of_the_gone_ms(pid)) if learnt_ms > 0 else 0.0

    def _of_the_gone_ms(self, pid: int) -> float:
        """What those of its descendants had burnt at the first reading that had ended by the second."""
        gone = [child for child in self._children.get(pid, ()) if child not in self._still_burns]
        return sum(
            self._cpu_before_ms(child) + self._before.table[child].ended_ms + self._of_the_gone_ms(child)
            for child in gone
        )

    def _cpu_before_ms(self, pid: int) -> float:
        return self._before.ms.get(pid, self._before.table[pid].cpu_ms)


# -- one reading ---------------------------------------------------------------------------------------


@cache
def cores() -> int:
    """As many as the machine's idle time is summed over; a container may be shown fewer than there are."""
    return len(psutil.cpu_times(percpu=True))


class _Reading(NamedTuple):
    load: float
    pressure: Pressure
    throttled_ms: dict[str, float]  # control group → core time that its quota took
    families: dict[str, set[int]]  # arm → the pids of its server and workers
    at_ms: float
    unused_ms: float  # idle, waiting for a disk, or taken by the hypervisor; sum over cores
    stolen_ms: float | None
    cpu: Clocks  # of each process of the run


def _machine() -> tuple[float, float | None]:
    """Unused and stolen ms. Idle time is exact; busy time is sampled by the tick, and 2 % too low under
    loads of short bursts."""
    times = psutil.cpu_times()
    steal = getattr(times, "steal", None)
    unused = times.idle + getattr(times, "iowait", 0.0) + (steal or 0.0)
    return unused * 1e3, None if steal is None else steal * 1e3


# -- between two ---------------------------------------------------------------------------------------


def _share(before_ms: float | None, after_ms: float | None, of_ms: float) -> float | None:
    return None if before_ms is None or after_ms is None else (after_ms - before_ms) / of_ms


def _throttled_share(before: _Reading, after: _Reading) -> float | None:
    """Of all cores' time, what the tightest group's quota took: one that holds back the others too."""
    both = before.throttled_ms.keys() & after.throttled_ms.keys()
    took_ms = [after.throttled_ms[group] - before.throttled_ms[group] for group in both]
    return max(took_ms) / ((after.at_ms - before.at_ms) * cores()) if took_ms else None
