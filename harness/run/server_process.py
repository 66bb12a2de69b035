"""One arm's server as a child process: start, wait until ready, stop. Never imports the app."""

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
from harness.run.supervisor import Supervisor
from harness.system import children, pinning
from harness.wire.loop_lag import Lag
from harness.wire.options import ServerOptions

HOST = "127.0.0.1"
READY_WITHIN_S = 180.0  # a cold disk reads torch and the weights for tens of seconds
STOP_WITHIN_S = 5.0
ORPHANS_END_WITHIN_S = 1.0
HEALTH_WITHIN_S = 2.0
WATCH_WITHIN_S = 10.0  # an inline server answers when its model lets it
_LONGEST_ANSWER = 2**20  # bytes of what /health says
_TAIL_LINES = 40


class ServerEnded(HarnessError):
    """The server's process has exited when it should be serving."""


@dataclass(eq=False)
class Server:
    """A running child. `name` is how messages call it (the arm)."""

    keeps_connections: ClassVar[bool] = True  # after an answer, for the next request

    name: str
    _process: subprocess.Popen[str]
    _port: int
    _log: Path
    _log_from: int  # what stands before is of earlier servers of this arm
    _processes: int  # uvicorn's own, behind one port
    _stop_by: float | None = None  # once asked to
    _family: list[psutil.Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.url = f"http://{HOST}:{self._port}"
        self.pid = self._process.pid

    def wait_ready(self, within_s: float = READY_WITHIN_S) -> dict[str, Any]:
        """Return what `/health` says once it is green in every one of the server's processes.

        Raises HarnessError when the child died or is late.
        """
        deadline = time.monotonic() + within_s
        answered: set[int] = set()
        while time.monotonic() < deadline:
            self.check_alive(stage="start")
            if self._processes > 1 and (reported := self._reported()):  # its parent may not know it yet
                raise reported
            health = self._ask("GET", "/health", HEALTH_WITHIN_S)
            if health is not None:
                answered.add(health["pid"])
                if len(answered) >= self._processes:
                    return health
            time.sleep(0.05)
        raise HarnessError(
            f"The server of arm {self.name!r} was not ready within {within_s:.0f} s.{self._tail()}",
            stage="server",
            hint="`execbench serve` with the same options shows its start in the foreground.",
        )

    def check_alive(self, stage: str) -> None:
        """Raise HarnessError, with the cause or the log's tail, when the child has exited."""
        code = self._process.poll()
        if code is None:
            return
        raise self._reported() or ServerEnded(
            f"The server of arm {self.name!r} ended (exit code {code}, at {stage}).{self._tail()}",
            stage="server",
            hint="`execbench serve` with the same options shows it in the foreground.",
        )

    def watch(self) -> None:
        """Have the server measure how late its event loop is, from now on. A dead server is let be.

        So is one of several processes: which of them would be asked is chance.
        """
        if self._processes == 1:
            self._ask("POST", "/-/watch", WATCH_WITHIN_S)

    def unwatch(self) -> Lag | None:
        """End that; how late the loop was, or None when the server does not answer any more."""
        lag = self._ask("DELETE", "/-/watch", WATCH_WITHIN_S) if self._processes == 1 else None
        return None if lag is None else Lag(lag["samples"], lag["lag_p99_ms"], lag["lag_max_ms"])

    def ask_to_stop(self) -> None:
        """TERM, and return at once: several servers can be asked before `stop` waits for each."""
        if self._stop_by is None:
            with suppress(psutil.NoSuchProcess):
                self._family = psutil.Process(self.pid).children(recursive=True)
            self._process.terminate()
            self._stop_by = time.monotonic() + STOP_WITHIN_S

    def stop(self) -> None:
        """TERM, then KILL; its workers too. Safe to call twice."""
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

    def _ask(self, method: str, path: str, within_s: float) -> dict[str, Any] | None:
        """The JSON of a good answer; None for a bad one, and when there is none."""
        connection = http.client.HTTPConnection(HOST, self._port, timeout=within_s)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            body = json.loads(answer.read(_LONGEST_ANSWER))
        except (OSError, http.client.HTTPException, ValueError, RecursionError):
            return None  # not listening to us yet, or no more
        finally:
            connection.close()
        return body if answer.status == 200 and isinstance(body, dict) else None

    def _reported(self) -> HarnessError | None:
        """The error that the child reported, with its whole log as a note: a traceback shows that."""
        lines = self._lines()
        for line in lines:
            if line.startswith(ERROR_MARK):
                told = json.loads(line.removeprefix(ERROR_MARK))
                error = from_child(told, ServerEnded if told["stage"] == "server" else HarnessError)
                error.add_note("\n".join([f"The log of the server of arm {self.name!r}:", *lines]))
                return error
        return None

    def _tail(self) -> str:
        lines = self._lines()[-_TAIL_LINES:]
        return "".join(f"\n  | {line}" for line in ["The end of its log:", *lines]) if lines else ""

    def _lines(self) -> list[str]:
        try:
            with self._log.open("rb") as stream:
                stream.seek(self._log_from)
                return stream.read().decode(errors="replace").splitlines()
        except FileNotFoundError:
            return []  # the run's folder was removed meanwhile


@contextmanager
def start(
    name: str,
    options: ServerOptions,
    supervisor: Supervisor,
    *,
    log: Path,
    port: int = 0,
    cpus: tuple[int, ...] = (),
) -> Iterator[Server]:
    """Start a server on 127.0.0.1 (port 0: a free one) and stop it on leaving; it is not waited for.

    The socket is bound here and handed over, so that no other process can take the port in between.
    Both output streams of the child are appended to `log`. With `cpus` it and its workers run on these only;
    it waits for its options until they are set, so that the model's library counts no others.
    """
    with bind(port) as listening, children.open_log(log) as stream:
        log_from = stream.tell()
        process = supervisor.spawn(
            "harness.server",
            str(listening.fileno()),
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=stream,
            pass_fds=[listening.fileno()],
            text=True,
        )
        port = listening.getsockname()[1]
    server = Server(name, process, port, log, log_from, options.server_processes)
    try:
        if cpus:
            pinning.apply(process.pid, cpus)
        with suppress(BrokenPipeError), process.stdin as stdin:  # it died at once; `check_alive` says why
            stdin.write(options.model_dump_json())
        yield server
    finally:
        server.stop()


def bind(port: int) -> socket.socket:
    """A listening socket on 127.0.0.1, port 0 for any free one; HarnessError when it cannot be had."""
    try:
        return socket.create_server((HOST, port), backlog=2048)
    except OSError as error:
        raise HarnessError(
            f"Port {port} of {HOST} cannot be used: {os.strerror(error.errno or 0)}.",
            stage="server",
            hint="Choose another with --port, or 0 for any free one.",
        ) from error


def _survivors(family: list[psutil.Process], within_s: float) -> list[psutil.Process]:
    """Those still running after `within_s`. A zombie is not: it has ended, and its new parent is slow."""
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
