"""One arm's server as a child process: start it, wait until it is ready, stop it. Never imports the app."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import psutil

from harness.errors import ERROR_MARK, HarnessError, from_child
from harness.run.server_log import ServerLog
from harness.run.supervisor import Supervisor
from harness.system import children, pinning
from harness.wire.clock import now_ms
from harness.wire.loop_lag import Lag
from harness.wire.options import ServerOptions

HOST = "127.0.0.1"
READY_WITHIN_S = 180.0  # a cold disk reads torch and the weights for tens of seconds
STOP_WITHIN_S = 5.0
ORPHANS_END_WITHIN_S = 1.0
HEALTH_WITHIN_S = 2.0
WATCH_WITHIN_S = 10.0  # an inline server answers only between calls of its model
_LONGEST_ANSWER = 2**20  # bytes


class ServerEnded(HarnessError):
    """The server's process has exited although it should be serving."""


@dataclass(eq=False)
class Server:
    """A running server process. Messages call it by `name`, the arm."""

    keeps_connections: ClassVar[bool] = True  # after an answer, for the next request

    name: str
    _process: subprocess.Popen[str]
    _port: int
    _log: ServerLog
    _processes: int  # uvicorn's worker processes behind one port
    _stop_by: float | None = None  # deadline, once the server was asked to stop
    _family: list[psutil.Process] = field(default_factory=list)
    _started_ms: float = field(default_factory=now_ms)
    # From starting the process until all workers were warm; None before `wait_ready`. The server stamps the
    # end, so it does not matter how late this process asks. Servers that start together slow each other down.
    ready_s: float | None = None

    _host: str = HOST

    def __post_init__(self) -> None:
        self.url = f"http://{self._host}:{self._port}"
        self.pid = self._process.pid

    def wait_ready(self, within_s: float = READY_WITHIN_S) -> dict[str, Any]:
        """Wait until `/health` is green in every process of the server; return its answer and set `ready_s`.

        Raises HarnessError if the server dies or is not ready in time.
        """
        deadline = time.monotonic() + within_s
        ready_ms: dict[int, float] = {}  # pid → when it was ready
        while time.monotonic() < deadline:
            self.check_alive(stage="start")
            if self._processes > 1 and (
                reported := reported_error(self._log, self.name)
            ):  # uvicorn may not have noticed
                raise reported
            health = self._request("GET", "/health", HEALTH_WITHIN_S)
            if health is not None:
                ready_ms[health["pid"]] = health["ready_ms"]
                if len(ready_ms) >= self._processes:
                    self.ready_s = round((max(ready_ms.values()) - self._started_ms) / 1e3, 3)
                    return health
            time.sleep(0.05)
        raise HarnessError(
            f"The server of arm {self.name!r} was not ready within {within_s:.0f} s.{self._log.tail()}",
            stage="server",
            hint="Run `execbench serve` with the same options to see it start in the foreground.",
        )

    def _raise_reported(self) -> None:
        if reported := reported_error(self._log, self.name):
            raise reported

    def check_alive(self, stage: str) -> None:
        """Raise HarnessError, with the cause or the end of the log, if the server has exited."""
        code = self._process.poll()
        if code is None:
            return
        raise reported_error(self._log, self.name) or ServerEnded(
            f"The server of arm {self.name!r} ended (exit code {code}, at {stage}).{self._log.tail()}",
            stage="server",
            hint="Run `execbench serve` with the same options to see it in the foreground.",
        )

    def watch(self) -> None:
        """Make the server measure its loop lag from now on.

        Does nothing for a dead server, or for one with several processes: the one that answers would be
        random.
        """
        if self._processes == 1:
            self._request("POST", "/-/watch", WATCH_WITHIN_S)

    def unwatch(self) -> Lag | None:
        """Stop measuring; return the loop lag, or None if the server no longer answers."""
        lag = self._request("DELETE", "/-/watch", WATCH_WITHIN_S) if self._processes == 1 else None
        return None if lag is None else Lag(lag["samples"], lag["lag_p99_ms"], lag["lag_max_ms"])

    def ask_to_stop(self) -> None:
        """Send SIGTERM and return at once, so that several servers stop while `stop` waits for each."""
        if self._stop_by is None:
            with suppress(psutil.NoSuchProcess):
                self._family = psutil.Process(self.pid).children(recursive=True)
            self._process.terminate()
            self._stop_by = time.monotonic() + STOP_WITHIN_S

    def stop(self) -> None:
        """Send SIGTERM, then SIGKILL if needed, to the server and its workers. Safe to call twice."""
        self.ask_to_stop()
        assert self._stop_by is not None
        try:
            self._process.wait(max(0.0, self._stop_by - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for process in _survivors(self._family, ORPHANS_END_WITHIN_S):
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def _request(self, method: str, path: str, within_s: float) -> dict[str, Any] | None:
        """The JSON of a good answer; None for a bad answer or none."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=within_s)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            body = json.loads(answer.read(_LONGEST_ANSWER))
        except (OSError, http.client.HTTPException, ValueError, RecursionError):
            return None  # does not listen yet, or no longer
        finally:
            connection.close()
        return body if answer.status == 200 and isinstance(body, dict) else None


def reported_error(log: ServerLog, arm: str) -> HarnessError | None:
    """The error that a server of ours reported, with its whole log as a note, which tracebacks show."""
    lines = log.lines()
    for line in lines:
        if line.startswith(ERROR_MARK):
            report = json.loads(line.removeprefix(ERROR_MARK))
            error = from_child(report, ServerEnded if report["stage"] == "server" else HarnessError)
            error.add_note("\n".join([f"The log of the server of arm {arm!r}:", *lines]))
            return error
    return None


@contextmanager
def start(
    name: str,
    options: ServerOptions,
    supervisor: Supervisor,
    *,
    log: Path,
    port: int = 0,
    cpus: tuple[int, ...] = (),
    interpreter: str | None = None,
    host: str = HOST,
) -> Iterator[Server]:
    """Start a server on `host` (port 0: any free port), without waiting for it; stop it on exit.

    The socket is bound here and handed over, so that no other process can take the port in between. Both
    output streams of the server are appended to `log`. With `cpus`, the server and its workers run on these
    CPUs only; they are set before the server gets its options, so that the model's library counts no other
    CPUs. `interpreter`: the path of another Python than this one.
    """
    with bind(port, host) as listening, children.open_log(log) as stream:
        written = ServerLog(log, stream.tell())
        started_ms = now_ms()
        process = supervisor.spawn(
            "harness.server",
            str(listening.fileno()),
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=stream,
            pass_fds=[listening.fileno()],
            text=True,
            interpreter=interpreter,
        )
        port = listening.getsockname()[1]
    server = Server(
        name, process, port, written, options.server_processes, _started_ms=started_ms, _host=host
    )
    try:
        if cpus:
            pinning.apply(process.pid, cpus)
        with suppress(BrokenPipeError), process.stdin as stdin:  # it died at once; `check_alive` raises why
            stdin.write(options.model_dump_json())
        yield server
    finally:
        server.stop()


def bind(port: int, host: str = HOST) -> socket.socket:
    """A listening socket on `host` (port 0: any free port). Raises HarnessError if it cannot be bound."""
    try:
        return socket.create_server((host, port), backlog=2048)
    except OSError as error:
        why = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        raise HarnessError(
            f"Port {port} of {host} cannot be used: {why}.",
            stage="server",
            hint="Choose another port with --port, or 0 for any free port."
            if host == HOST
            else "Give an address of this machine to --bind.",
        ) from error


def _survivors(family: list[psutil.Process], within_s: float) -> list[psutil.Process]:
    """The processes that still run after `within_s`. A zombie has ended, but is not reaped yet."""
    deadline = time.monotonic() + within_s
    while running := [process for process in family if _runs(process)]:
        if time.monotonic() > deadline:
            return running
        time.sleep(0.01)
    return []


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
