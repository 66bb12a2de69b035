"""Whose process is whose: which processes belong to the server of an arm, from one reading to the next.

A server that the run has started is its process with all descendants. One that ran before may have a launcher
that started the listening process and its workers side by side, and its processes get other parents when
theirs end. See docs/decisions/0019-whose-cpu.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from pathlib import PurePath
from typing import NamedTuple

import psutil

from harness.system import cgroups
from harness.wire.records import MAX_PROCESSES_RECORDED

INIT = 1
SERVICE_MANAGERS = {"systemd", "init", "launchd"}  # process 1 is one; so is each user's `systemd --user`
TAKE_A_VALUE = {"-W", "-X"}  # options of python


class Process(NamedTuple):
    """One process of the machine, as a pass over all of them saw it."""

    parent: int
    created: float = 0.0  # seconds since the epoch; tells processes apart that had the same pid
    cpu_ms: float = 0.0  # burnt since it began, in whole ticks of 10 ms
    ended_ms: float = 0.0  # burnt by its children that have ended, and theirs


Table = Mapping[int, Process]  # pid → process


class System(NamedTuple):
    """What the table does not hold, and is asked for a few processes only."""

    starts_others: Callable[[int, int], bool]  # parent and child: does the parent start other things as well?
    group_of: Callable[[int], str | None]  # the path of its control group
    command_of: Callable[[int], str]  # its name for people


class Families:
    """Remembers for each arm the processes that were ever seen in its server's family.

    own: the run's own processes, the load generator among them. running: arm → further pids that the user
    has named, for each arm whose server ran before; for other arms no ancestor is asked for.
    """

    def __init__(
        self,
        own: Iterable[int],
        running: Mapping[str, Collection[int]] | None = None,
        system: System | None = None,
    ) -> None:
        self._own = frozenset(own)
        self._running = dict(running or {})
        self._system = system or SYSTEM
        self._seen: dict[str, dict[int, float]] = {}  # arm → pid → when it was created
        self._groups: dict[str, str] = {}  # arm → the control group that is its own
        # arm → pid → what ran there, of the first `MAX_PROCESSES_RECORDED`; for servers that ran before
        self.commands: dict[str, dict[int, str]] = {}

    def members(self, servers: Mapping[str, int], table: Table) -> dict[str, set[int]]:
        """Arm → the pids of its family; `servers`: arm → the pid of its server, which may have ended."""
        named = [arm for arm, pids in self._running.items() if pids and arm not in servers]
        roots = {arm: self._roots(arm, servers, table) for arm in (*servers, *named)}
        children = children_of(table)
        families = {}
        for arm, own_roots in roots.items():
            others = set[int]().union(self._own, *roots.values()) - own_roots
            families[arm] = below(own_roots, children, others)
            self._remember(arm, families[arm], table)
        return families

    def _roots(self, arm: str, servers: Mapping[str, int], table: Table) -> set[int]:
        """Where the family begins: what was seen of it before, what the user named, the server's own root."""
        seen = self._seen.get(arm, {})
        roots = {pid for pid, created in seen.items() if pid in table and table[pid].created == created}
        server = servers.get(arm)
        if arm not in self._running:
            return roots if server is None else roots | {server}
        if server is not None and server not in roots:
            roots.add(self._root(arm, server, servers, table))
        named = {pid for pid in self._running[arm] if pid in roots or pid not in seen}
        group = self._groups.get(arm)
        its = [] if group is None else [pid for pid in table if _is_within(self._system.group_of(pid), group)]
        return roots.union(named, its)

    def _root(self, arm: str, server: int, servers: Mapping[str, int], table: Table) -> int:
        """Looked for once: when its parents have ended, its new parent may be any process."""
        others = self._of_others(arm, servers)
        apart = set[int]().union(*({pid, *ancestors(pid, table)} for pid in (*self._own, *others)))
        root = root_of(server, table, apart, self._system.starts_others)
        group = own_group(server, {*self._own, *others, *ancestors(root, table)[:1]}, self._system.group_of)
        if group is not None:
            self._groups[arm] = group
        return root

    def _of_others(self, arm: str, servers: Mapping[str, int]) -> set[int]:
        """The servers of other arms, and what the user has named of them; two arms may share both."""
        named = (pids for other, pids in self._running.items() if other != arm)
        return set(servers.values()).union(*named) - {servers[arm], *self._running[arm]}

    def _remember(self, arm: str, family: set[int], table: Table) -> None:
        seen = self._seen.setdefault(arm, {})
        new = {pid for pid in family & table.keys() if seen.get(pid) != table[pid].created}
        seen.update((pid, table[pid].created) for pid in new)
        if arm in self._running:
            told = self.commands.setdefault(arm, {})
            named = sorted(new)[: MAX_PROCESSES_RECORDED - len(told)]
            told.update((pid, self._system.command_of(pid)) for pid in named)


# -- the rule --------------------------------------------------------------------------------------------


def root_of(
    server: int, table: Table, apart: Container[int], starts_others: Callable[[int, int], bool]
) -> int:
    """The highest ancestor below `apart`, and below every process that starts other things too."""
    root = server
    for parent in ancestors(server, table):
        if parent in apart or parent == INIT or starts_others(parent, root):
            break
        root = parent
    return root


def own_group(server: int, outsiders: Iterable[int], group_of: Callable[[int], str | None]) -> str | None:
    """The control group that the server has to itself; None where an outsider is in it, too."""
    group = group_of(server)
    if group is None or group == "/":
        return None
    return None if any(_is_within(group_of(pid), group) for pid in outsiders) else group


def _is_within(path: str | None, group: str) -> bool:
    return path is not None and (path == group or path.startswith(f"{group}/"))


def ancestors(pid: int, table: Table) -> list[int]:
    """From the parent upwards, as far as they can be seen."""
    found: list[int] = []
    while pid in table and (parent := table[pid].parent) in table and parent not in {pid, *found}:
        found.append(parent)
        pid = parent
    return found


def children_of(table: Table) -> dict[int, list[int]]:
    """Parent → children."""
    children: dict[int, list[int]] = {}
    for pid, process in table.items():
        children.setdefault(process.parent, []).append(pid)
    return children


def below(roots: Iterable[int], children: Mapping[int, list[int]], others: Container[int] = ()) -> set[int]:
    """The roots and all their descendants, but for `others` and theirs."""
    found, left = set[int](), list(roots)
    while left:
        pid = left.pop()
        if pid not in found:
            found.add(pid)
            left += [child for child in children.get(pid, ()) if child not in others]
    return found


# -- this machine ----------------------------------------------------------------------------------------


def read_table() -> dict[int, Process]:
    """Every process of the machine, in one pass."""
    table = {}
    for process in psutil.process_iter(["ppid", "create_time", "cpu_times"]):
        found = process.info
        cpu = found["cpu_times"]  # None: another user's, on a system that keeps them secret
        table[process.pid] = Process(
            parent=found["ppid"],
            created=found["create_time"] or 0.0,
            cpu_ms=0.0 if cpu is None else (cpu.user + cpu.system) * 1e3,
            ended_ms=0.0 if cpu is None else (cpu.children_user + cpu.children_system) * 1e3,
        )
    return table


def starts_others(parent: int, child: int) -> bool:
    """Whether the parent starts other things as well: a service manager, a terminal, or a shell at one."""
    try:
        return (
            psutil.Process(parent).name() in SERVICE_MANAGERS
            or _leads_at_terminal(child)  # so the parent is tmux, sshd, the window of a terminal …
            or (_leads_at_terminal(parent) and _is_job(child, parent))
        )
    except (psutil.Error, OSError):
        return False


def _leads_at_terminal(pid: int) -> bool:
    """Whether it is the first process of a session at a terminal, as a shell is for its user."""
    return os.getsid(pid) == pid and psutil.Process(pid).terminal() is not None


def _is_job(child: int, shell: int) -> bool:
    """A shell at a terminal puts each job into a process group of its own; other programs seldom do."""
    return os.getsid(child) == shell and os.getpgid(child) != os.getpgid(shell)


def command_of(pid: int) -> str:
    """What runs there, in a few words: `python server.py`, `python -m uvicorn`, `gunicorn`.

    Without folders and arguments, which may be long, and secret.
    """
    try:
        process = psutil.Process(pid)
        name, words = process.name(), process.cmdline()
    except psutil.Error:
        return "?"
    return short_command(name, words)


def short_command(name: str, words: Iterable[str]) -> str:
    """The name of a program; of Python, also the script or the module."""
    if not name.startswith("python"):
        return name
    left = iter(list(words)[1:])
    for word in left:
        if word in TAKE_A_VALUE:
            next(left, None)
        elif word == "-m":
            return f"python -m {next(left, '')}".rstrip()
        elif word == "-c":
            return "python -c"
        elif not word.startswith("-"):
            return f"python {PurePath(word).name}"
    return "python"


SYSTEM = System(starts_others, cgroups.group_of, command_of)
