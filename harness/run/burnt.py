"""How much CPU processes have burnt between two readings.

A process has a clock of its CPU time, in nanoseconds, which is read in 1 µs; where the system has no such
clocks, psutil tells, in ticks of 10 ms. What a child burnt that has ended is known from its parent, also in
ticks, once the parent has waited for it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import NamedTuple

import psutil

from harness.run.processes import Table, children_of, is_same

_CPUCLOCK_SCHED = 2  # the kernel's name for a process's run time, as clock_getcpuclockid(3) composes it


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

    def ms(self, pids: Iterable[int]) -> float:
        """Of these processes, as they were at the second reading; one that has ended since has none."""
        known = [pid for pid in pids if pid in self._after.ms and pid in self._after.table]
        return sum(self._itself_ms(pid) + self._ended_ms(pid) for pid in known)

    def _itself_ms(self, pid: int) -> float:
        """Since the first reading, or since its birth; what was not counted then is known in ticks."""
        was_ms = self._cpu_before_ms(pid) if self._is_in_both(pid) else 0.0
        return max(0.0, self._after.ms[pid] - was_ms)

    def _ended_ms(self, pid: int) -> float:
        """What its children that have ended burnt since the first reading.

        A parent learns of all that a child has burnt when it waits for it: what the child had burnt at the
        first reading is taken off. A child that nobody waited for does not count.
        """
        known_ms = self._before.table[pid].ended_ms if self._is_in_both(pid) else 0.0
        learnt_ms = self._after.table[pid].ended_ms - known_ms
        return max(0.0, learnt_ms - self._of_the_gone_ms(pid)) if learnt_ms > 0 else 0.0

    def _of_the_gone_ms(self, pid: int) -> float:
        """What those of its descendants had burnt at the first reading that had ended by the second."""
        gone = [child for child in self._children.get(pid, ()) if not self._still_burns(child)]
        return sum(
            self._cpu_before_ms(child) + self._before.table[child].ended_ms + self._of_the_gone_ms(child)
            for child in gone
        )

    def _cpu_before_ms(self, pid: int) -> float:
        return self._before.ms.get(pid, self._before.table[pid].cpu_ms)

    def _still_burns(self, pid: int) -> bool:
        """Whether it was there when the clocks were read; it may have ended just before."""
        return pid in self._after.ms and self._is_in_both(pid)

    def _is_in_both(self, pid: int) -> bool:
        return is_same(pid, self._before.table, self._after.table)
