"""Find the processes that belong to the server of each arm.

A server that the run started consists of its process and all descendants. A server that already ran may have
a launcher that started the listening process and its workers next to each other, and its processes get new
parents when theirs end. See docs/decisions/0019-whose-cpu.md.
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
    """One process of the machine, at one reading."""

    parent: int
    created: float = 0.0  # seconds since the epoch; distinguishes processes that had the same pid
    cpu_ms: float = 0.0  # CPU time since its start, in ticks of 10 ms
    ended_ms: float = 0.0  # CPU time of its ended children and their children


Table = Mapping[int, Process]  # pid → process


class System(NamedTuple):
    """Queries that the table cannot answer, made for a few processes only."""

    starts_others: Callable[[int, int], bool]  # parent, child → whether the parent starts other programs too
    group_of: Callable[[int], str | None]  # the path of its control group
    command_of: Callable[[int], str]  # a short name for messages


class Families:
    """Remembers, for each arm, every process seen so far in its server's family.

    own: the run's own processes, including the load generator. running: arm → further pids given by the user,
    for each arm whose server already ran; for other arms, ancestors do not count.
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
        self._groups: dict[str, str] = {}  # arm → the control group that only its server uses
        # arm → pid → command, for the first `MAX_PROCESSES_RECORDED` of servers that already ran
        self.commands: dict[str, dict[int, str]] = {}

    def members(self, servers: Mapping[str, int], table: Table) -> dict[str, set[int]]:
        """Arm → the pids of its family; `servers`: arm → the pid of its server, which may have ended."""
        named = [arm for arm, pids in self._running.items() if pids and arm not in servers]
        roots = {arm: self._roots(arm, servers, table) for arm in (*servers, *named)}
        children = children_of(table)
        families = {}
        for arm, own_roots in roots.items():
            others = set[int]().union(self._own, *roots.values()) - own_roots
            families[arm] = with_descendants(own_roots, children, others)
            self._remember(arm, families[arm], table)
        return families

    def _roots(self, arm: str, servers: Mapping[str, int], table: Table) -> set[int]:
        """The roots of the family: members seen before, pids given by the user, and the server's own root."""
        seen = self._seen.get(arm, {})
        roots = {pid for pid, created in seen.items() if pid in table and table[pid].created == created}
        server = servers.get(arm)
        if arm not in self._running:
            return roots if server is None else roots | {server}
        if server is not None and server not in roots:
            roots.add(self._root(arm, server, servers, table))
        named = {pid for pid in self._running[arm] if pid in roots or pid not in seen}
        group = self._groups.get(arm)
        if group is None:
            return roots | named
        return roots.union(named, (pid for pid in table if _is_within(self._system.group_of(pid), group)))

    def _root(self, arm: str, server: int, servers: Mapping[str, int], table: Table) -> int:
        """The root of a server. Searched once: after its parents end, its new parent may be any process."""
        others = self._of_others(arm, servers)
        apart = set[int]().union(*({pid, *ancestors(pid, table)} for pid in (*self._own, *others)))
        root = root_of(server, table, apart, self._system.starts_others)
        group = own_group(server, {*self._own, *others, *ancestors(root, table)[:1]}, self._system.group_of)
        if group is not None:
            self._groups[arm] = group
        return root

    def _of_others(self, arm: str, servers: Mapping[str, int]) -> set[int]:
        """The servers of other arms and their pids given by the user, without those shared with this arm."""
        named = (pids for other, pids in self._running.items() if other != arm)
        return set(servers.values()).union(*named) - {servers[arm], *self._running[arm]}

    def _remember(self, arm: str, family: set[int], table: Table) -> None:
        seen = self._seen.setdefault(arm, {})
        new = {pid for pid in family & table.keys() if seen.get(pid) != table[pid].created}
        seen.update((pid, table[pid].created) for pid in new)
        if arm in self._running:
            commands = self.commands.setdefault(arm, {})
            shown = sorted(new)[: MAX_PROCESSES_RECORDED - len(commands)]
            commands.update((pid, self._system.command_of(pid)) for pid in shown)


# -- rules -----------------------------------------------------------------------------------------------


def root_of(
    server: int, table: Table, apart: Container[int], starts_others: Callable[[int, int], bool]
) -> int:
    """The highest ancestor below `apart`, and below every process that also starts other programs."""
    root = server
    for parent in ancestors(server, table):
        if parent in apart or parent == INIT or starts_others(parent, root):
            break
        root = parent
    return root


def own_group(server: int, outsiders: Iterable[int], group_of: Callable[[int], str | None]) -> str | None:
    """The control group of the server; None if an outsider is in it too."""
    group = group_of(server)
    if group is None or group == "/":
        return None
    return None if any(_is_within(group_of(pid), group) for pid in outsiders) else group


def _is_within(path: str | None, group: str) -> bool:
    return path is not None and (path == group or path.startswith(f"{group}/"))


def ancestors(pid: int, table: Table) -> list[int]:
    """The ancestors from the parent upwards, as far as they are visible."""
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


def with_descendants(
    roots: Iterable[int], children: Mapping[int, list[int]], others: Container[int] = ()
) -> set[int]:
    """The roots and all their descendants, except `others` and their descendants."""
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
        cpu = found["cpu_times"]  # None for another user's process, on systems that hide it
        table[process.pid] = Process(
            parent=found["ppid"],
            created=found["create_time"] or 0.0,
            cpu_ms=0.0 if cpu is None else (cpu.user + cpu.system) * 1e3,
            ended_ms=0.0 if cpu is None else (cpu.children_user + cpu.children_system) * 1e3,
        )
    return table


def starts_others(parent: int, child: int) -> bool:
    """Whether the parent also starts other programs: a service manager, a terminal, or a shell in one."""
    try:
        return (
            psutil.Process(parent).name() in SERVICE_MANAGERS
            or _leads_at_terminal(child)  # so the parent is tmux, sshd, a terminal window …
            or (_leads_at_terminal(parent) and _is_job(child, parent))
        )
    except (psutil.Error, OSError):
        return False


def _leads_at_terminal(pid: int) -> bool:
    """Whether it is the first process of a terminal session, such as a user's shell."""
    return os.getsid(pid) == pid and psutil.Process(pid).terminal() is not None


def _is_job(child: int, shell: int) -> bool:
    """Whether the child is a job: a shell in a terminal gives each job its own process group."""
    return os.getsid(child) == shell and os.getpgid(child) != os.getpgid(shell)


def command_of(pid: int) -> str:
    """A short form of its command: `python server.py`, `python -m uvicorn`, `gunicorn`.

    Without folders and arguments, which may be long or secret.
    """
    try:
        process = psutil.Process(pid)
        name, words = process.name(), process.cmdline()
    except psutil.Error:
        return "?"
    return short_command(name, words)


def short_command(name: str, words: Iterable[str]) -> str:
    """The name of a program, for Python with its script or module."""
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
