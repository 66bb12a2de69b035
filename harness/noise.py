"""What the machine does beside a trial: who burns CPU, and whether somebody takes it away.

CPU of the run's own processes is read from their CPU clocks (nanoseconds; 1 µs a reading), where the system
has such, and else from psutil (ticks of 10 ms). CPU of the whole machine is its time less its idle time, in
ticks of 10 ms a core: a single short trial carries an error of that size, sums over trials do not.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import psutil

from harness import cgroups
from harness.beat import Lag
from harness.clock import now_ms
from harness.records import Noise

LATE_TRIAL_P50_MS = 3.0  # a client that is late half of the time does not follow its schedule
PRESSURE = Path("/proc/pressure/cpu")
_CPUCLOCK_SCHED = 2  # the kernel's name for a process's run time, as clock_getcpuclockid(3) composes it


@dataclass
class IdleCpu:
    """What an arm burnt while others were measured."""

    cpu_ms: float = 0.0
    wall_ms: float = 0.0


class Meter:
    """Reads the machine at a trial's two ends; each reading takes some milliseconds, outside of the window.

    servers: arm → pid of its server, read anew each time, so that servers may come and go. own: the pids of
    the run's other processes. Everybody's descendants count with them. A process that ends within the trial
    takes what it has burnt in it along, and what it burnt then looks foreign.
    """

    def __init__(self, servers: Mapping[str, int], own: Iterable[int]) -> None:
        self._servers = servers
        self._own = tuple(own)
        self._arm = ""
        self._before: _Reading | None = None
        self.idle: dict[str, IdleCpu] = {}

    def begin(self, arm: str) -> None:
        """A trial of `arm` begins; its server runs already."""
        self._arm = arm
        self._before = _read(self._servers, self._own)

    def end(self, lag: Lag | None = None) -> Noise:
        """It is over; `lag` is that of the server's loop. What the machine did meanwhile."""
        assert self._before is not None, "end without begin"
        before, after = self._before, _read(self._servers, self._own)
        self._before = None
        wall_ms = after.at_ms - before.at_ms
        burnt = {arm: _burnt_ms(before, after, pids) for arm, pids in after.trees.items()}
        same = after.trees.get(self._arm)  # two arms may be routes of one server
        others = {arm: cpu_ms for arm, cpu_ms in burnt.items() if after.trees[arm] != same}
        self._count_idle(others, wall_ms)
        all_own_ms = _burnt_ms(before, after, after.cpu_ms.keys())
        return Noise(
            load_before=before.load,
            pressure_before=before.pressure.recent_share,
            steal_share=_share(before.machine.stolen_ms, after.machine.stolen_ms, wall_ms * _cores()),
            pressure_share=_share(before.pressure.waited_ms, after.pressure.waited_ms, wall_ms),
            foreign_cpu=max(0.0, (_busy_ms(before, after) - all_own_ms) / wall_ms),
            server_cpu_ms=burnt.get(self._arm),
            idle_cpu_ms=sum(others.values()),
            server_lag_p99_ms=None if lag is None else lag.p99_ms,
            server_lag_max_ms=None if lag is None else lag.max_ms,
            throttled_share=_throttled_share(before, after),
        )

    def idle_record(self) -> dict[str, dict[str, float]]:
        """Arm → `cpu_ms` it burnt during `wall_ms` of other arms' trials; JSON-able."""
        return {arm: asdict(idle) for arm, idle in self.idle.items()}

    def _count_idle(self, others: Mapping[str, float], wall_ms: float) -> None:
        for arm, cpu_ms in others.items():
            idle = self.idle.setdefault(arm, IdleCpu())
            idle.cpu_ms += cpu_ms
            idle.wall_ms += wall_ms


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


def knows_pressure() -> bool:
    """Whether this system tells how long something has waited for a CPU."""
    return _pressure().waited_ms is not None


def trial_lags_behind(lags_ms: Sequence[float]) -> str:
    """Why a trial is invalid whose requests were sent so late (sent − due); empty when it is fine."""
    middle = statistics.median(lags_ms) if lags_ms else 0.0
    if middle <= LATE_TRIAL_P50_MS:
        return ""
    return (
        f"the client sent half of the requests {middle:.1f} ms late or more (at most {LATE_TRIAL_P50_MS:g})"
    )


# -- one reading ---------------------------------------------------------------------------------------


@cache
def _cores() -> int:
    """As many as the machine's idle time is summed over; a container may be shown fewer than there are."""
    return len(psutil.cpu_times(percpu=True))


class _Machine(NamedTuple):
    unused_ms: float  # idle, waiting for a disk, or taken by the hypervisor; sum over cores
    stolen_ms: float | None


class _Pressure(NamedTuple):
    waited_ms: float | None = None  # in which something waited for a CPU, since boot
    recent_share: float | None = None  # of the last 10 s


class _Reading(NamedTuple):
    at_ms: float
    load: float
    machine: _Machine
    pressure: _Pressure
    throttled_ms: dict[str, float]  # control group → core time that its quota took
    trees: dict[str, set[int]]  # arm → the pids of its server and workers
    cpu_ms: dict[int, float]  # of each process of the run, since it began


def _read(servers: Mapping[str, int], own: Iterable[int]) -> _Reading:
    """The slow part, finding the processes, comes first: the clocks are then read within a millisecond."""
    children = _children()
    trees = {arm: _tree(pid, children) for arm, pid in servers.items()}
    pids = set().union(*trees.values(), *(_tree(pid, children) for pid in own))
    return _Reading(
        load=os.getloadavg()[0],
        pressure=_pressure(),
        throttled_ms=cgroups.throttled_ms(),
        trees=trees,
        at_ms=now_ms(),
        machine=_machine(),
        cpu_ms={pid: cpu for pid in pids if (cpu := _process_cpu_ms(pid)) is not None},
    )


def _children() -> dict[int, list[int]]:
    """Parent → children, of the whole machine in one pass (psutil's own way takes one pass for each arm)."""
    children: dict[int, list[int]] = {}
    for process in psutil.process_iter(["ppid"]):
        children.setdefault(process.info["ppid"], []).append(process.pid)
    return children


def _tree(root: int, children: Mapping[int, list[int]]) -> set[int]:
    found, left = set[int](), [root]
    while left:
        pid = left.pop()
        if pid not in found:
            found.add(pid)
            left += children.get(pid, [])
    return found


def _process_cpu_ms(pid: int) -> float | None:
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


def _machine() -> _Machine:
    """Idle time is exact; busy time is sampled by the tick, and 2 % too low under loads of short bursts."""
    times = psutil.cpu_times()
    steal = getattr(times, "steal", None)
    unused = times.idle + getattr(times, "iowait", 0.0) + (steal or 0.0)
    return _Machine(unused * 1e3, None if steal is None else steal * 1e3)


def _pressure() -> _Pressure:
    """From the line `some avg10=1.53 avg60=0.87 avg300=0.73 total=501316174` (percent, µs)."""
    try:
        line = PRESSURE.read_text().splitlines()[0]
    except (OSError, IndexError):
        return _Pressure()  # a kernel without it, or where it is switched off
    fields = dict(field.split("=") for field in line.split()[1:])
    return _Pressure(int(fields["total"]) / 1e3, float(fields["avg10"]) / 100)


# -- between two ---------------------------------------------------------------------------------------


def _burnt_ms(before: _Reading, after: _Reading, pids: Iterable[int]) -> float:
    """CPU time of these processes between two readings; one that is new began at 0."""
    now = {pid: after.cpu_ms[pid] for pid in pids if pid in after.cpu_ms}
    return sum(max(0.0, cpu_ms - before.cpu_ms.get(pid, 0.0)) for pid, cpu_ms in now.items())


def _busy_ms(before: _Reading, after: _Reading) -> float:
    """CPU time of everybody on the machine between two readings, sum over cores."""
    whole = (after.at_ms - before.at_ms) * _cores()
    return whole - (after.machine.unused_ms - before.machine.unused_ms)


def _share(before_ms: float | None, after_ms: float | None, of_ms: float) -> float | None:
    return None if before_ms is None or after_ms is None else (after_ms - before_ms) / of_ms


def _throttled_share(before: _Reading, after: _Reading) -> float | None:
    """Of all cores' time, what the tightest group's quota took: one that holds back the others too."""
    both = before.throttled_ms.keys() & after.throttled_ms.keys()
    took_ms = [after.throttled_ms[group] - before.throttled_ms[group] for group in both]
    return max(took_ms) / ((after.at_ms - before.at_ms) * _cores()) if took_ms else None
