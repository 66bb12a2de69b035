"""One arm's server that is a command of the user: start it, wait until it answers, stop it."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import HarnessError
from harness.plans import filled_command
from harness.plans.arm import Arm
from harness.run import command_keeper, server_process
from harness.run.command_keeper import Spec
from harness.run.server_log import ServerLog
from harness.run.server_process import HOST, ServerEnded
from harness.run.supervisor import MARK, Supervisor
from harness.system import children, pinning
from harness.wire.clock import now_ms
from harness.wire.loop_lag import Lag

READY_WITHIN_S = 180.0
ASKS_EVERY_S = 0.05
STOP_WITHIN_S = 5.0
KILLS_WITHIN_S = 8.0  # the keeper kills what is left after `STOP_WITHIN_S`, and looks for at most 5 s


@dataclass(eq=False)
class CommandServer:
    """A running command, with the interface of `server_process.Server` that a trial uses."""

    name: str
    url: str
    pid: int  # of its keeper, whose descendants are the server's processes
    _ready_path: str | None
    _port: int
    _process: subprocess.Popen[bytes]
    _log: ServerLog
    keeps_connections: bool = True  # after an answer, for the next request
    ready_s: float | None = None  # from its start until it was ready; None before `wait_ready`
    first_answer_s: float | None = None  # from its start until its first good answer
    _stop_by: float | None = None  # deadline, once the server was asked to stop
    _started_ms: float = field(default_factory=now_ms)

    def wait_ready(self, within_s: float = READY_WITHIN_S) -> None:
        """Wait until the server is ready, and set `ready_s`.

        It is ready if its path `ready` gets an answer with a status from 200 to 299. Without such a path, it
        is ready if it accepts a connection. Raises HarnessError, with the end of its log, if the server ends
        or takes longer.
        """
        deadline, last = time.monotonic() + within_s, ""
        while time.monotonic() < deadline:
            self.check_alive(stage="start")
            last = self._why_not_ready()
            if not last:
                self.ready_s = self._since_start_s()
                return
            time.sleep(ASKS_EVERY_S)
        what = "a connection" if self._ready_path is None else f"GET {self._ready_path}"
        raise HarnessError(
            f"The command of arm {self.name!r} was not ready within {within_s:.0f} s: {what} gets {last}."
            f"{self._log.tail()}",
            stage="server",
            hint="Does it listen on 127.0.0.1 and on the port that replaces {port}?",
        )

    def note_first_answer(self) -> None:
        """Set `first_answer_s`: the first good answer has arrived just now."""
        self.first_answer_s = self._since_start_s()

    def check_alive(self, stage: str) -> None:
        """Raise HarnessError, with the cause or the end of the log, if no process of the command is left."""
        code = self._process.poll()
        if code is not None:
            # an app of `harness.server.asgi` reports its error as our own servers do
            raise server_process.reported_error(self._log, self.name) or ServerEnded(
                f"The command of arm {self.name!r} ended (exit code {code}, at {stage}).{self._log.tail()}",
                stage="server",
                hint="A server must run until it gets a signal. Try the command in a terminal.",
            )

    def watch(self) -> None:
        """Do nothing: its event loop cannot be measured."""

    def unwatch(self) -> Lag | None:
        return None

    def suspend(self) -> None:
        """Suspend all of its processes, so that they use no CPU while other arms are measured."""
        self._tell_keeper(command_keeper.SUSPEND)

    def resume(self) -> None:
        """Let its processes go on."""
        self._tell_keeper(command_keeper.RESUME)

    def _tell_keeper(self, what: bytes) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended; `check_alive` raises
            self._process.stdin.write(what)
            self._process.stdin.flush()

    def ask_to_stop(self) -> None:
        """Send the stop signal and return at once, so that servers stop while `stop` waits for the first."""
        if self._stop_by is None:
            self._process.terminate()  # the keeper sends the signal of the arm to the command
            self._stop_by = time.monotonic() + STOP_WITHIN_S + KILLS_WITHIN_S

    def stop(self) -> None:
        """Stop all processes of the command: with its signal, after 5 s with SIGKILL. Safe to call twice."""
        self.ask_to_stop()
        assert self._stop_by is not None
        assert self._process.stdin is not None
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, self._stop_by - time.monotonic()))
        with suppress(OSError):
            self._process.stdin.close()  # the keeper kills at once what it still has
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(KILLS_WITHIN_S)
        self._process.kill()
        self._process.wait()

    def tail(self) -> str:
        """The end of its log, as the end of a message."""
        return self._log.tail()

    def _since_start_s(self) -> float:
        return round((now_ms() - self._started_ms) / 1e3, 3)

    def _why_not_ready(self) -> str:
        """What was received instead of a sign that the server is ready; "" if it is ready."""
        connection = http.client.HTTPConnection(HOST, self._port, timeout=server_process.HEALTH_WITHIN_S)
        try:
            if self._ready_path is None:
                connection.connect()
                return ""
            connection.request("GET", self._ready_path)
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            return "no answer" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
        finally:
            connection.close()
        return "" if 200 <= status < 300 else f"status {status}"


@contextmanager
def start(
    arm: Arm, supervisor: Supervisor, *, log: Path, cpus: tuple[int, ...] = ()
) -> Iterator[CommandServer]:
    """Start the command of `arm` with a free port, without waiting for it; stop it on exit.

    Its output is appended to `log`. With `cpus`, its processes run on these CPUs only.
    """
    port = _free_port()
    found = filled_command.resolved(arm, port=port)
    environment = {**os.environ, "PORT": str(port), **found.env, MARK: supervisor.mark}
    spec = Spec(list(found.words), found.cwd, environment, arm.stop, STOP_WITHIN_S)
    with children.open_log(log) as stream:
        written = ServerLog(log, stream.tell())
        process = supervisor.spawn_keeper(
            "harness.run.command_keeper", stdin=subprocess.PIPE, stdout=stream, stderr=stream
        )
    server = CommandServer(arm.name, f"http://{HOST}:{port}", process.pid, arm.ready, port, process, written)
    try:
        if cpus:
            pinning.apply(process.pid, cpus)
        with suppress(BrokenPipeError):  # the keeper died at once; `check_alive` raises
            process.stdin.write(json.dumps(spec._asdict()).encode() + b"\n")
            process.stdin.flush()
        yield server
    finally:
        server.stop()


def _free_port() -> int:
    """A port that is free now. Another program could take it before the command does: then that fails."""
    with server_process.bind(0) as listening:
        port: int = listening.getsockname()[1]
        return port
