"""Tiny parents over every process of a run: when their pipe closes, they kill the whole group.

The pipe closes when the run ends, and also when the CLI dies of SIGKILL: the kernel closes it then. Every
process of a run joins the supervisors' process group; so do their children, unless they ask otherwise.
There are two, so that one is left when the CLI and the other are killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import ExitStack, suppress
from typing import IO, Any

from harness.system import children

KEEPERS = 2


class Supervisor:
    """Context manager: what `spawn` starts does not outlive it, nor this process. POSIX only."""

    def __enter__(self) -> Supervisor:
        children.check_files()
        self._group = 0  # 0: the first keeper makes one
        self._keepers: list[subprocess.Popen[bytes]] = []
        with ExitStack() as stack:
            stack.push(self)
            for _ in range(KEEPERS):
                keeper = children.start(
                    children.python("harness.run.supervisor"),
                    stdin=subprocess.PIPE,
                    process_group=self._group,
                )
                self._keepers.append(keeper)
                self._group = self._keepers[0].pid
            stack.pop_all()
        return self

    def spawn(self, module: str, *arguments: str, stderr: IO[bytes] | int | None, **options: Any) -> Any:
        """Start `python -m module` in the supervised group; `options` are those of Popen.

        In a group of its own it does not get the terminal's Ctrl-C: the CLI stops things in order.
        """
        command = children.python(module, *arguments)
        return children.start(command, process_group=self._group, stderr=stderr, **options)

    def __exit__(self, *_: object) -> None:
        """Kill the group: a keeper may have been stopped or killed, and would not do it.

        The number cannot be another group's by now: nobody has waited for the first keeper yet.
        """
        if self._keepers:
            with suppress(ProcessLookupError, PermissionError):  # the latter on macOS, of zombies
                os.killpg(self._group, signal.SIGKILL)
        for keeper in self._keepers:
            keeper.communicate()


def main() -> None:
    """Wait for the end of the pipe, then take the group, this process included, down."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    while os.read(0, 1024):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
