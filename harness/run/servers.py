"""The servers of a run: started, found ready or running already, and asked what they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from harness import workloads
from harness.errors import HarnessError
from harness.plans.arm import Arm
from harness.plans.plan import Plan
from harness.results.store import Writer
from harness.run import meter, server_process
from harness.run.foreign_server import Standing, check_processes, first_answer
from harness.run.listener import Listener
from harness.run.load_generator import Loader
from harness.run.record import Record
from harness.run.supervisor import Supervisor
from harness.wire.arrivals import closed
from harness.wire.options import ServerOptions
from harness.wire.records import PILOT_BLOCK
from harness.workloads.io import kinds
from harness.workloads.io.service import Services


@dataclass
class Servers:
    """One for each arm all along (resident), or a fresh one for each trial."""

    plan: Plan
    writer: Writer
    supervisor: Supervisor
    stack: ExitStack
    record: Record
    cpus: tuple[int, ...]  # on which they run; empty: any
    services: Services  # what they ask
    pids: dict[str, int] = field(default_factory=dict)
    options: dict[str, ServerOptions] = field(default_factory=dict)  # of those that are started here
    _resident: dict[str, server_process.Server] = field(default_factory=dict)
    _standing: dict[str, Standing] = field(default_factory=dict)

    def io_nominal_ms(self, arm: Arm) -> float | None:
        """The I/O that was asked for; None where nobody knows: of a database, of servers that run already."""
        if arm.name not in self.options:
            return None
        workload = self.options[arm.name].workload
        is_told = kinds.takes_ms(workload.io) and not workloads.has_io(workload.name)
        return workload.io_ms if is_told else None

    def start(self, arms: list[Arm], lone_model_ms: float | None = None) -> None:
        """Start them side by side (loading a model is mostly waiting), then wait until all are ready."""
        for arm in arms:
            options = arm.server_options(self.plan.workload, lone_model_ms)
            connected = self.services.connected(options.workload)
            self.options[arm.name] = options.model_copy(update={"workload": connected})
        if self.plan.fresh:
            return
        for arm in arms:
            self._resident[arm.name] = self.stack.enter_context(self._started(arm))
        for child in self._resident.values():
            self.stack.callback(child.ask_to_stop)  # on leaving these come first: one deadline for all
        for arm in arms:
            self._wait_ready(arm, self._resident[arm.name])

    def ask_once(self, loader: Loader, listener: Listener) -> None:
        """Servers that run already: HarnessError when one does not answer as expected."""
        for arm in self.plan.every_arm:
            assert arm.url is not None
            check_processes(arm.name, arm.pid)
            load = self.plan.load_options("", closed(1), PILOT_BLOCK).at(arm.url)
            whose = f"The server of arm {arm.name!r}, {arm.url},"
            first = first_answer(loader, load, listener, whose=whose)
            if error := first.shots[0].error:
                said = first.bad_answers.get(error)
                raise HarnessError(
                    f"{whose} answers {load.method} with {error}, not with {load.expected_status}."
                    + (f" It says: {said}" if said else ""),
                    stage="load",
                    hint="--method, --header and --body say what is asked, --expect-status what is right.",
                )
            self._standing[arm.name] = standing = Standing(arm.url, keeps_connections=not first.ended)
            self.record.note_arm(arm.name, url=arm.url, is_here=standing.is_here, about={})
            self._found(arm.name)

    @contextmanager
    def serving(self, arm: Arm) -> Iterator[server_process.Server | Standing]:
        """A ready server of `arm`: the resident one, or a fresh one that ends with the trial."""
        if arm.name in self._standing:
            yield self._found(arm.name)
            return
        if arm.name in self._resident:
            yield self._resident[arm.name]
            return
        with self._started(arm) as child:
            self._wait_ready(arm, child)
            yield child
            self._note_memory_of(arm.name, child.pid)

    def _found(self, arm: str) -> Standing:
        """With its process, where that is known, among those whose CPU is not foreign."""
        standing = self._standing[arm]
        self.pids.pop(arm, None)
        if standing.pid is not None:
            self.pids[arm] = standing.pid
        return standing

    def note_memory(self) -> None:
        """After the last trial: every model has run, and shared pages are not counted."""
        for name, child in self._resident.items():
            self._note_memory_of(name, child.pid)

    @contextmanager
    def _started(self, arm: Arm) -> Iterator[server_process.Server]:
        options, log = self.options[arm.name], self.writer.log(arm.name)
        with server_process.start(arm.name, options, self.supervisor, log=log, cpus=self.cpus) as child:
            self.pids[arm.name] = child.pid
            try:
                yield child
            finally:
                del self.pids[arm.name]

    def _wait_ready(self, arm: Arm, child: server_process.Server) -> None:
        about = child.wait_ready()["about"]
        self.record.note_arm(
            arm.name,
            options=self.options[arm.name].model_dump(),
            about=about,
            when_worker_dies=arm.when_worker_dies,
        )

    def _note_memory_of(self, arm: str, pid: int) -> None:
        self.record.note_arm(arm, uss_bytes=meter.memory_uss_bytes(pid))
