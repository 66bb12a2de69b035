"""Checks and their results, and the bench of servers and load generator that they measure with.

Each check has two parts: a judge (numbers → Result, pure, named `judge_…`) and a measurement that gets its
tools as arguments, so that a test can pass a broken one and see the check fail.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

from harness.errors import HarnessError
from harness.run import client_limit, server_process
from harness.run.listener import Listener, SilentListener
from harness.run.load_generator import Loader
from harness.run.local_generator import LocalProcess
from harness.run.server_process import Server
from harness.run.supervisor import Supervisor
from harness.wire.load_options import LoadOptions
from harness.wire.options import ServerOptions, WorkloadOptions
from harness.wire.records import MEASURE, Outcome, Shot

READY_WITHIN_S = 60.0  # synthetic servers need a second, but the machine may be busy

T = TypeVar("T")
Fire = Callable[..., Outcome]  # Bench.fire
Serve = Callable[..., AbstractContextManager[Server]]  # Bench.server


class Result(NamedTuple):
    """The result of one check."""

    name: str  # short, as in the method's table
    goal: str  # in words with numbers
    measured: str  # in words with numbers
    passed: bool
    note: str = ""  # the reason, or what a user can do


class Check(NamedTuple):
    """One row of the method's table; may give several results."""

    name: str
    summary: str
    seconds: float  # about how long it takes
    measure: Callable[[Bench], Result | list[Result]]


def carry_out(checks: Sequence[Check], bench: Bench) -> Iterator[Result]:
    """Run `checks` and yield each result as soon as it is known; a check that cannot be measured fails."""
    for number, check in enumerate(checks, 1):
        bench.listener.stage(f"check {number}/{len(checks)}: {check.summary}, about {check.seconds:.0f} s")
        try:
            found = check.measure(bench)
        except HarnessError as error:
            found = Result(check.name, check.summary, f"not measured: {error.what}", False, error.hint)
        yield from [found] if isinstance(found, Result) else found


class Bench:
    """Context manager with the tools of checks: a supervisor, a load generator, a folder for logs.

    Everything that it starts listens on 127.0.0.1 only, and ends with it.
    """

    def __init__(self, listener: Listener | None = None, programs: tuple[str, ...] = ()) -> None:
        self.listener: Listener = listener or SilentListener()
        self.programs = programs  # other load generators to compare with (`--with wrk`)

    def __enter__(self) -> Bench:
        with ExitStack() as stack:
            self.folder = Path(stack.enter_context(TemporaryDirectory(prefix="execbench-check-")))
            self.supervisor = stack.enter_context(Supervisor())
            self.loader = stack.enter_context(Loader(LocalProcess(self.supervisor)))
            self._stack = stack.pop_all()
        self._servers = 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def null_server(self) -> AbstractContextManager[str]:
        """Start a server that does nothing; yields its address."""
        return client_limit.null_server(self.supervisor)

    @contextmanager
    def server(self, strategy: str = "thread", **options: Any) -> Iterator[Server]:
        """Start a server and yield it once it is ready; the options are those of ServerOptions."""
        self._servers += 1
        log = self.folder / f"{self._servers}-{strategy}.log"
        chosen = ServerOptions(strategy=strategy, **options)
        with server_process.start(strategy, chosen, self.supervisor, log=log) as started:
            started.wait_ready(READY_WITHIN_S)
            yield started

    def fire(self, url: str, **options: Any) -> Outcome:
        """Run one trial on `url`; the options are those of LoadOptions."""
        chosen = LoadOptions.model_validate({"url": url, **options})
        return self.loader.run(chosen)


def measured(outcome: Outcome) -> list[Shot]:
    """The measured shots. Raises HarnessError if there are none, or one of them failed."""
    shots = good([shot for shot in outcome.shots if shot.phase == MEASURE])
    if not shots:
        raise HarnessError("The load of a check measured no request.", stage="check")
    return shots


def good(shots: list[Shot]) -> list[Shot]:
    """Return these shots. Raises HarnessError if one of them got no good answer."""
    errors = [shot.error for shot in shots if shot.error]
    if errors:
        raise HarnessError(
            f"{len(errors)} of {len(shots)} requests of a check got no good answer: {errors[0]}",
            stage="check",
        )
    return shots


def answered_per_s(outcome: Outcome) -> float:
    """Good answers per second within the window."""
    begin, end = outcome.window_start_ms, outcome.window_end_ms
    answered = sum(begin < shot.done_ms <= end and not shot.error for shot in outcome.shots)
    return answered / (end - begin) * 1e3


def synthetic(service_ms: float, *, io_ms: float = 0.0, mode: str = "sleep") -> WorkloadOptions:
    """The model of known cost, without I/O by default."""
    return WorkloadOptions.model_validate(
        {"name": "synthetic", "service_ms": service_ms, "io_ms": io_ms, "mode": mode}
    )


def in_blocks(windows: Mapping[str, Callable[[], T]], blocks: int, seed: int = 1) -> list[dict[str, T]]:
    """Run every window once in each block, in random order."""
    order = random.Random(seed)  # noqa: S311 - an order, not a secret
    return [
        {name: windows[name]() for name in order.sample(list(windows), len(windows))} for _ in range(blocks)
    ]
