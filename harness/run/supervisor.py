"""Supervisors: tiny processes that kill every process of a run when their pipe closes.

The pipe closes when the run ends, and also when the CLI dies of SIGKILL, because the kernel closes it. Every
process of a run joins the supervisors' process group, and so do its children unless they choose another
group. There are two supervisors, so that one is left if the CLI and the other one are killed.

A command of the user may leave the group, so it has a keeper of its own (`run.command_keeper`) outside the
group, and its processes carry a mark in their environment, by which they are found if the keeper is killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any

from harness.system import children

KEEPERS = 2
MARK = "EXECBENCH_RUN"  # the environment variable with the mark of a run
_PROCESSES = Path("/proc")
_MOST_ROUNDS = 100  # of killing: a process may start others while they are looked up


class Supervisor:
    """Context manager: no process that `spawn` starts outlives it, or the current process. POSIX only."""

    def __enter__(self) -> Supervisor:
        children.check_files()
        self._group = 0  # 0: the first keeper creates a group
        self.mark = uuid.uuid4().hex
        self._keepers: list[subprocess.Popen[bytes]] = []
        with ExitStack() as stack:
            stack.push(self)
            for _ in range(KEEPERS):
                keeper = children.start(
                    children.python("harness.run.supervisor", self.mark),
                    stdin=subprocess.PIPE,
                    process_group=self._group,
                )
                self._keepers.append(keeper)
                self._group = self._keepers[0].pid
            stack.pop_all()
        return self

    def spawn(
        self,
        module: str,
        *arguments: str,
        stderr: IO[bytes] | int | None,
        interpreter: str | None = None,
        **options: Any,
    ) -> Any:
        """Start `python -m module` in the supervised group, in this Python or another `interpreter`.

        `options` are those of Popen.

        The group does not receive the terminal's Ctrl-C, so the CLI can stop its processes in order.
        """
        command = children.python(module, *arguments, interpreter=interpreter)
        env = children.environment_of(interpreter)
        return children.start(command, process_group=self._group, stderr=stderr, env=env, **options)

    def spawn_keeper(self, module: str, **options: Any) -> Any:
        """Start `python -m module` in a group of its own: it must outlive the group to end what it keeps."""
        return children.start(children.python(module), process_group=0, **options)

    def __exit__(self, *_: object) -> None:
        """Kill the group here, as a keeper may have been stopped or killed.

        The group's number cannot be reused yet, because the first keeper has not been reaped.
        """
        kill_marked(self.mark)
        if self._keepers:
            with suppress(ProcessLookupError, PermissionError):  # the latter on macOS, for zombies
                os.killpg(self._group, signal.SIGKILL)
        for keeper in self._keepers:
            keeper.communicate()


def main() -> None:
    """Wait until the pipe closes, then kill what is marked and the group, including this process."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    while os.read(0, 1024):
        pass
    kill_marked(sys.argv[1])
    os.killpg(0, signal.SIGKILL)


def kill_marked(mark: str) -> None:
    """Kill every process that has the mark in its environment. Linux only; elsewhere does nothing."""
    for _ in range(_MOST_ROUNDS):
        found = list(_marked(f"{MARK}={mark}".encode()))
        if not found:
            return
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def _marked(variable: bytes) -> Iterator[int]:
    """The processes of this user with this variable. That of a zombie is empty."""
    for folder in _PROCESSES.glob("[0-9]*"):
        with suppress(OSError):
            if variable in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name)


if __name__ == "__main__":
    main()
