"""Supervisors: tiny processes that kill every process of a run when their pipe closes.

The pipe closes when the run ends, and also when the CLI dies of SIGKILL, because the kernel closes it. Every
process of a run joins the supervisors' process group, and so do its children unless they choose another
group. There are two supervisors, so that one is left if the CLI and the other one are killed.
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
    """Context manager: no process that `spawn` starts outlives it, or the current process. POSIX only."""

    def __enter__(self) -> Supervisor:
        children.check_files()
        self._group = 0  # 0: the first keeper creates a group
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

        The group does not receive the terminal's Ctrl-C, so the CLI can stop its processes in order.
        """
        command = children.python(module, *arguments)
        return children.start(command, process_group=self._group, stderr=stderr, **options)

    def __exit__(self, *_: object) -> None:
        """Kill the group here, as a keeper may have been stopped or killed.

        The group's number cannot be reused yet, because the first keeper has not been reaped.
        """
        if self._keepers:
            with suppress(ProcessLookupError, PermissionError):  # the latter on macOS, for zombies
                os.killpg(self._group, signal.SIGKILL)
        for keeper in self._keepers:
            keeper.communicate()


def main() -> None:
    """Wait until the pipe closes, then kill the group, including this process."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    while os.read(0, 1024):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
