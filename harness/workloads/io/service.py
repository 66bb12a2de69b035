"""A child process that serves the I/O of requests: the run's side and the child's side.

The child gets the options as a line of JSON on stdin. On stdout it reports its current work (`stage`), its
address (`address`), an error (`error`), or what it could not clean up (`left`). It ends, with everything it
has started, when its stdin closes. That happens at the end of the run, and also if SIGKILL ends the run.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from harness.errors import HarnessError, from_child, to_parent
from harness.system import children
from harness.wire.options import WorkloadOptions
from harness.workloads.io import keeper, kinds

SERVICE_ENDS_WITHIN_S = 20.0

Serve = Callable[[WorkloadOptions], Awaitable[None]]


@dataclass
class Service:
    """Context manager: start the child and wait until it is ready; on leaving, end it and let it clean up."""

    module: str
    options: WorkloadOptions
    log: Path
    on_stage: Callable[[str], None]
    on_warning: Callable[[str], None]
    address: str = ""

    def __enter__(self) -> Service:
        with children.open_log(self.log) as stream:
            self._process: subprocess.Popen[str] = children.start(
                children.python(self.module),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
                process_group=0,  # Ctrl-C in the terminal reaches only the run, which ends things in order
            )
        try:
            self.address = self._wait_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _wait_ready(self) -> str:
        stdin, stdout = self._pipes()
        try:
            stdin.write(self.options.model_dump_json(exclude_unset=True) + "\n")
            stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None
        for line in stdout:
            message = json.loads(line)
            if "error" in message:
                raise from_child(message["error"])
            if "address" in message:
                return str(message["address"])
            if "left" in message:
                self.on_warning(message["left"])
            else:
                self.on_stage(message["stage"])
        raise self._ended()

    def why_dead(self) -> str:
        """The message if the child has ended by itself; empty while it runs."""
        return "" if self._process.poll() is None else self._ended().what

    def _ended(self) -> HarnessError:
        code = self._process.wait(SERVICE_ENDS_WITHIN_S)
        return HarnessError(
            f"The service for the I/O {self.options.io} has ended (exit code {code}).",
            stage="io",
            hint=f"See its log: {self.log}",
        )

    def __exit__(self, *_: object) -> None:
        stdin, stdout = self._pipes()
        stdin.close()
        try:
            self._process.wait(SERVICE_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        if self._process.wait() < 0:  # killed before it cleaned up; its children are still in its group
            if self.options.io_dsn is not None:
                self.on_warning(
                    f"The service for the I/O {self.options.io} was killed before it dropped its schema: "
                    f"{self.address}"
                )
            keeper.end(self._process.pid)
        for line in stdout:
            # a child that is killed may leave a line without an end
            if line.endswith("\n") and (left := json.loads(line).get("left")):
                self.on_warning(left)
        stdout.close()

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        return self._process.stdin, self._process.stdout


# arms that differ only in these options share a service
_OPTIONS_WITHOUT_EFFECT = {
    *("io_ms", "io_timeout_s", "backend", "torch_threads", "onnx_threads", "max_cosine_difference"),
}


class Services(ExitStack):
    """Context manager over the services of a run. A service starts when the first arm needs it.

    `on_stage` gets what they are doing. `on_warning` (default: `on_stage`) gets what they could not clean
    up, on leaving.
    """

    def __init__(
        self,
        log: Callable[[str], Path],
        on_stage: Callable[[str], None],
        on_warning: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__()
        self._log = log
        self._on_stage = on_stage
        self._on_warning = on_warning or on_stage
        self._started: dict[str, Service] = {}
        self._reported: set[str] = set()

    def connected(self, options: WorkloadOptions) -> WorkloadOptions:
        """The options with the address of their service, started if necessary; unchanged if they need none.

        Raises HarnessError if the service does not start.
        """
        module = kinds.kind(options).SERVICE
        if module is None:
            return options
        key = options.model_dump_json(exclude=_OPTIONS_WITHOUT_EFFECT)
        if key not in self._started:
            self._on_stage(f"starting {options.io}")
            log = self._log(f"io-{options.io}")
            service = Service(module, options, log, self._on_stage, self._on_warning)
            self._started[key] = self.enter_context(service)
        return options.model_copy(update={"io_address": self._started[key].address})

    def newly_dead(self) -> list[str]:
        """A message for each service that has ended by itself; each is reported once."""
        unreported = {key: service for key, service in self._started.items() if key not in self._reported}
        messages = {key: message for key, service in unreported.items() if (message := service.why_dead())}
        self._reported |= messages.keys()
        return list(messages.values())


# -- the child's side ----------------------------------------------------------------------------------


def main(serve: Serve) -> None:
    """Run `serve` until stdin closes. If it raises, report the error and exit with code 1."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)  # only the end of the pipe ends it, after it has cleaned up
    with keeper.watching():
        options = WorkloadOptions.model_validate_json(sys.stdin.readline())
        code = asyncio.run(_until_the_pipe_closes(serve(options)))
    sys.exit(code)


async def _until_the_pipe_closes(work: Awaitable[None]) -> int:
    task = asyncio.ensure_future(work)
    loop, stdin = asyncio.get_running_loop(), sys.stdin.fileno()

    def look() -> None:
        if not os.read(stdin, 1024):
            loop.remove_reader(stdin)  # a second cancellation would interrupt the clean-up
            task.cancel()

    loop.add_reader(stdin, look)
    try:
        await task
    except asyncio.CancelledError:
        return 0
    except Exception as error:  # noqa: BLE001 - the parent shows it
        report(error=to_parent(error))
    return 1


def report(**message: Any) -> None:
    """Send the run a line of JSON, unless the run has died."""
    with suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()
