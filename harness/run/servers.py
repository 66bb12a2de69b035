"""The servers of a run: start them, or connect to servers that already run, and record what they are."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from harness import environment, workloads
from harness.errors import HarnessError
from harness.plans import filled_command, interpreters
from harness.plans.arm import Arm
from harness.plans.plan import Plan
from harness.results.store import Writer
from harness.run import command_server, meter, server_process
from harness.run.command_server import CommandServer
from harness.run.foreign_server import RunningServer, check_processes, first_answer
from harness.run.generators import LoadGenerator
from harness.run.listener import Listener
from harness.run.record import Record
from harness.run.supervisor import Supervisor
from harness.wire.arrivals import closed
from harness.wire.options import ServerOptions
from harness.wire.records import PILOT_BLOCK
from harness.workloads.io import kinds
from harness.workloads.io.service import Services

_HOW_TO_ASK = "Set the request with --method, --header and --body"
_HOW_TO_ASK_COMMAND = (
    "Set the request with --path, --method, --header and --body (in a plan: path, method and body of the arm)"
)

Started = server_process.Server | CommandServer  # a server that the run has started

UNAVAILABLE = 503


class NotReadyYet(HarnessError):
    """A server that is not ours answers that it is not available."""


@dataclass
class Servers:
    """One server per arm for the whole run (resident), or a fresh one for each trial."""

    plan: Plan
    writer: Writer
    supervisor: Supervisor
    stack: ExitStack
    record: Record
    cpus: tuple[int, ...]  # CPUs of the servers; empty: any
    services: Services  # the databases and services that the servers use
    loader: LoadGenerator
    listener: Listener
    pids: dict[str, int] = field(default_factory=dict)
    keepers: set[int] = field(
        default_factory=set
    )  # of commands: no part of the server whose family they lead
    options: dict[str, ServerOptions] = field(default_factory=dict)  # of the servers started here
    _resident: dict[str, Started] = field(default_factory=dict)
    _stacks: dict[str, ExitStack] = field(default_factory=dict)  # resident arm → what ends its server
    _running: dict[str, RunningServer] = field(default_factory=dict)

    def io_nominal_ms(self, arm: Arm) -> float | None:
        """The nominal I/O; None if unknown, as for a database or a server that already runs."""
        if arm.name not in self.options:
            return None
        workload = self.options[arm.name].workload
        is_set = kinds.takes_ms(workload.io) and not workloads.has_io(workload.name)
        return workload.io_ms if is_set else None

    def start(self, arms: list[Arm], lone_model_ms: float | None = None) -> None:
        """Start servers in parallel (loading a model is mostly waiting), then wait until all are ready."""
        for arm in arms:
            if arm.is_foreign:
                continue
            options = arm.server_options(self.plan.workload, lone_model_ms)
            connected = self.services.connected(options.workload)
            self.options[arm.name] = options.model_copy(update={"workload": connected})
        if self.plan.fresh:
            return
        for arm in arms:
            self._stacks[arm.name] = self.stack.enter_context(ExitStack())
            self._resident[arm.name] = self._stacks[arm.name].enter_context(self._started(arm))
        for child in self._resident.values():
            self.stack.callback(child.ask_to_stop)  # on exit these run first, so all share one deadline
        for arm in arms:
            self._wait_ready(arm, self._resident[arm.name])
        for child in self._resident.values():
            with self._awake(child):
                pass  # commands are suspended from now on

    def stop(self, arms: Iterable[str]) -> None:
        """Stop the resident servers of these arms, which are not measured again; does nothing for others."""
        ended = [arm for arm in arms if arm in self._resident]
        for arm in ended:
            self._resident.pop(arm).ask_to_stop()
        for arm in ended:
            self._stacks.pop(arm).close()

    def ask_running(self) -> None:
        """Send one request to each server that already runs. Raises HarnessError for an unexpected answer."""
        for arm in self.plan.every_arm:
            assert arm.url is not None
            check_processes(arm.name, arm.pid)
            ended = self._ask_once(arm, arm.url)
            running = RunningServer(arm.url, keeps_connections=not ended)
            self._running[arm.name] = running
            self.record.note_arm(arm.name, url=arm.url, is_here=running.is_here, about={})
            self._locate(arm.name)

    def _ask_once(self, arm: Arm, url: str, log: str = "") -> bool:
        """Send one request to a server that is not ours; return whether it closes its connections.

        Raises HarnessError, whose message ends with `log`, for an unexpected answer.
        """
        once = self.plan.model_copy(
            update={"requests": 1}
        )  # a plan of open loops may say nothing of closed ones
        load = once.load_options("", closed(1), PILOT_BLOCK, arm).at(url)
        whose = f"The server of arm {arm.name!r}, {load.url if arm.url is None else url},"
        first = first_answer(self.loader, load, self.listener, whose=whose)
        if error := first.shots[0].error:
            text = first.bad_answers.get(error)
            raise (NotReadyYet if first.shots[0].status == UNAVAILABLE else HarnessError)(
                f"{whose} answers {load.method} with {error}, not with {load.expected_status}."
                + (f" It says: {text}" if text else "")
                + log,
                stage="load",
                hint=(_HOW_TO_ASK if arm.command is None else _HOW_TO_ASK_COMMAND)
                + ", and the status of a good answer with --expect-status.",
            )
        return first.ended

    def _first_good_answer(self, arm: Arm, child: CommandServer) -> bool:
        """As `_ask_once`, but ask again while the command says that it is not available yet."""
        deadline = time.monotonic() + command_server.READY_WITHIN_S
        while True:
            try:
                return self._ask_once(arm, child.url, child.tail())
            except NotReadyYet:
                if time.monotonic() > deadline:
                    raise
                child.check_alive(stage="start")
                time.sleep(command_server.ASKS_EVERY_S)

    @contextmanager
    def serving(self, arm: Arm) -> Iterator[Started | RunningServer]:
        """Yield a ready server of `arm`: the resident one, or a fresh one that is stopped after the trial."""
        if arm.name in self._running:
            yield self._locate(arm.name)
            return
        if arm.name in self._resident:
            with self._awake(self._resident[arm.name]) as child:
                yield child
            return
        with self._started(arm) as child:
            self._wait_ready(arm, child)
            yield child
            self._note_memory_of(arm.name, child.pid)

    @contextmanager
    def _awake(self, child: Started) -> Iterator[Started]:
        """Let a command that is suspended while it is idle go on for the moment."""
        if not self.plan.suspend_idle or not isinstance(child, CommandServer):
            yield child
            return
        child.resume()
        try:
            yield child
        finally:
            child.suspend()

    def _locate(self, arm: str) -> RunningServer:
        """The running server of `arm`; adds its process, if known, to those whose CPU is not foreign."""
        running = self._running[arm]
        self.pids.pop(arm, None)
        if running.pid is not None:
            self.pids[arm] = running.pid
        return running

    def note_memory(self) -> None:
        """Record the memory of each server after the last trial, when every model has run."""
        for name, child in self._resident.items():
            self._note_memory_of(name, child.pid)

    @contextmanager
    def _started(self, arm: Arm) -> Iterator[Started]:
        with self._start(arm) as child:
            self.pids[arm.name] = child.pid
            if arm.command is not None:
                self.keepers.add(child.pid)
            try:
                yield child
            finally:
                del self.pids[arm.name]
                self.keepers.discard(child.pid)

    def _start(self, arm: Arm) -> AbstractContextManager[Started]:
        log = self.writer.log(arm.name)
        if arm.command is not None:
            return command_server.start(arm, self.supervisor, log=log, cpus=self.cpus)
        options = self.options[arm.name]
        return server_process.start(
            arm.name,
            options,
            self.supervisor,
            log=log,
            cpus=self.cpus,
            interpreter=arm.python,
            host=self.plan.bind,
        )

    def _wait_ready(self, arm: Arm, child: Started) -> None:
        if isinstance(child, CommandServer):
            self._wait_for_command(arm, child)
            return
        health = child.wait_ready()
        self._refuse_another_environment(arm.name, health["environment"])
        self.record.note_arm(
            arm.name,
            options=self.options[arm.name].model_dump(),
            about=health["about"],
            environment=health["environment"],
            ready_s=child.ready_s,
            when_worker_dies=arm.when_worker_dies,
        )

    def _wait_for_command(self, arm: Arm, child: CommandServer) -> None:
        child.wait_ready()
        child.keeps_connections = not self._first_good_answer(arm, child)
        child.note_first_answer()
        times = {"ready_s": child.ready_s, "first_answer_s": child.first_answer_s}
        self.record.note_arm(arm.name, about={}, **times)
        if arm.packages:
            program = filled_command.resolved(arm).words[0]
            self.record.note_arm(arm.name, environment=interpreters.environment_of(program, arm.packages))

    def _refuse_another_environment(self, arm: str, now: dict[str, Any]) -> None:
        """Raise HarnessError if an earlier server of this arm ran with other versions."""
        before = (self.record["arms"].get(arm) or {}).get("environment")
        if before and (found := environment.between_servers(before, now)):
            changes = "; ".join(f"{name}: was {one}, is {other}" for name, one, other in found)
            raise HarnessError(
                f"The environment of arm {arm!r} has changed since the run began: {changes}.",
                stage="server",
                hint="Blocks of two environments are not one run. Start a new run, or restore it.",
            )

    def _note_memory_of(self, arm: str, pid: int) -> None:
        self.record.note_arm(arm, uss_bytes=meter.memory_uss_bytes(pid, without_root=pid in self.keepers))
