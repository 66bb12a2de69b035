"""A child process that requests ask, as the run sees it and as the child itself does.

It gets its order as a line of JSON on stdin, and says on stdout what it does (`stage`), where it can be asked
(`address`), what went wrong (`error`), or what it could not tidy up (`left`). It ends, and takes along all it
has started, when its stdin closes: that is when the run ends, and also when the run dies of SIGKILL.
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

ENDS_WITHIN_S = 20.0

Keep = Callable[[WorkloadOptions], Awaitable[None]]


@dataclass
class Service:
    """Context manager: started and ready inside, gone with all it has made outside."""

    module: str
    order: WorkloadOptions
    log: Path
    listen: Callable[[str], None]
    warn: Callable[[str], None]
    address: str = ""

    def __enter__(self) -> Service:
        with children.open_log(self.log) as stream:
            self._process: subprocess.Popen[str] = children.start(
                children.python(self.module),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
                process_group=0,  # the terminal's Ctrl-C is for the run, which stops things in order
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
            stdin.write(self.order.model_dump_json(exclude_unset=True) + "\n")
            stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None
        for line in stdout:
            said = json.loads(line)
            if "error" in said:
                raise from_child(said["error"])
            if "address" in said:
                return str(said["address"])
            if "left" in said:
                self.warn(said["left"])
            else:
                self.listen(said["stage"])
        raise self._ended()

    def why_dead(self) -> str:
        """What to say when it has ended by itself; empty while it runs."""
        return "" if self._process.poll() is None else self._ended().what

    def _ended(self) -> HarnessError:
        code = self._process.wait(ENDS_WITHIN_S)
        return HarnessError(
            f"The service {self.order.io} that requests ask has ended (exit code {code}).",
            stage="io",
            hint=f"Its last words: {self.log}",
        )

    def __exit__(self, *_: object) -> None:
        stdin, stdout = self._pipes()
        stdin.close()
        try:
            self._process.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        if self._process.wait() < 0:  # killed, it has tidied up nothing; what it had started is of its group
            if self.order.io_dsn is not None:
                self.warn(
                    f"The service {self.order.io} was killed before it had dropped its schema: {self.address}"
                )
            keeper.end(self._process.pid)
        for line in stdout:
            # a line without an end is of one that was killed meanwhile
            if line.endswith("\n") and (left := json.loads(line).get("left")):
                self.warn(left)
        stdout.close()

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        return self._process.stdin, self._process.stdout


_DIFFERS_ALONE = {"io_ms", "io_timeout_s", "backend", "torch_threads", "onnx_threads"}  # not in what is asked


class Services(ExitStack):
    """Context manager over the services of a run: each is started when the first arm needs it.

    `listen` hears what they do, `warn` (or `listen` too) what they could not tidy up, which shows on leaving.
    """

    def __init__(
        self,
        log: Callable[[str], Path],
        listen: Callable[[str], None],
        warn: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__()
        self._log = log
        self._listen = listen
        self._warn = warn or listen
        self._started: dict[str, Service] = {}
        self._told: set[str] = set()

    def connected(self, options: WorkloadOptions) -> WorkloadOptions:
        """The options with the address of what they ask; as they are where nothing needs to be started.

        Raises HarnessError when it cannot be had.
        """
        module = kinds.kind(options).SERVICE
        if module is None:
            return options
        key = options.model_dump_json(exclude=_DIFFERS_ALONE)
        if key not in self._started:
            self._listen(f"starting {options.io}")
            log = self._log(f"io-{options.io}")
            service = Service(module, options, log=log, listen=self._listen, warn=self._warn)
            self._started[key] = self.enter_context(service)
        return options.model_copy(update={"io_address": self._started[key].address})

    def newly_dead(self) -> list[str]:
        """What to say of services that have ended by themselves; each is told once."""
        said = {key: service.why_dead() for key, service in self._started.items() if key not in self._told}
        self._told |= {key for key, why in said.items() if why}
        return [why for why in said.values() if why]


# -- the child's side ----------------------------------------------------------------------------------


def main(keep: Keep) -> None:
    """Run `keep` until stdin closes; what it raises is told, and ends this process with code 1."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)  # only the end of the pipe counts: then nothing is left behind
    with keeper.watching():
        order = WorkloadOptions.model_validate_json(sys.stdin.readline())
        code = asyncio.run(_until_the_pipe_closes(keep(order)))
    sys.exit(code)


async def _until_the_pipe_closes(work: Awaitable[None]) -> int:
    task = asyncio.ensure_future(work)
    loop, stdin = asyncio.get_running_loop(), sys.stdin.fileno()

    def look() -> None:
        if not os.read(stdin, 1024):
            loop.remove_reader(stdin)  # once: a second cancellation would cut the tidying short
            task.cancel()

    loop.add_reader(stdin, look)
    try:
        await task
    except asyncio.CancelledError:
        return 0
    except Exception as error:  # noqa: BLE001 - the parent shows it
        say(error=to_parent(error))
    return 1


def say(**message: Any) -> None:
    """A line for the run; when it has died meanwhile, nobody reads it."""
    with suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()
