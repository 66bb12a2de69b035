"""The I/O that a request awaits after the model: a database, a service, or a sleep in place of them.

There is one module per kind. I/O runs in the server's process, on its event loop. The run starts the service
that a kind needs (`harness.workloads.io.service`) before the servers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module
from typing import Any, NamedTuple, Protocol

from harness import workloads
from harness.errors import UsageError, did_you_mean, one_line
from harness.wire.options import IO_OPTIONS, WorkloadOptions, obeyed_by
from harness.wire.records import DOWNSTREAM
from harness.wire.spelling import TIMED_IO, io_kind
from harness.workloads import Workload

NAMES = ("sleep", "socket", "pgvector", "http")


class IoResult(NamedTuple):
    """The result of one awaited call."""

    value: Any  # the answer's body: small, serialisable as JSON
    server_ms: float | None = None  # the service's own time, as it reports it; None if it does not


class DownstreamError(Exception):
    """The service gave no good answer. The message names the kind of I/O and the reason."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(f"{DOWNSTREAM}{kind}: {why}")


class DownstreamTimeout(DownstreamError):
    """The service did not answer in time."""


@asynccontextmanager
async def within(name: str, timeout_s: float, *failures: type[Exception]) -> AsyncIterator[None]:
    """Turn these failures of the service into `DownstreamError`, and a time-out into `DownstreamTimeout`."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError:
        raise DownstreamTimeout(name, f"no answer within {timeout_s:g} s") from None
    except failures as error:
        raise DownstreamError(name, f"{type(error).__name__}: {error}") from error


IoCall = Callable[[Any], Awaitable[IoResult]]  # takes the model's result for one item


class Kind(Protocol):
    """What each module of a kind implements."""

    SUMMARY: str
    PACKAGES: tuple[str, ...]  # what a server needs for it, such as "asyncpg>=0.30"
    SERVICE: str | None  # module of the child process that it needs (`service`); None: it needs none

    def check(self, options: WorkloadOptions) -> None:
        """Raise HarnessError for options that cannot work, before anything is started."""
        ...

    def opened(self, workload: Workload, options: WorkloadOptions) -> AbstractAsyncContextManager[IoCall]:
        """The call that each request awaits, connected. The call raises `DownstreamError` if it fails."""
        ...


def kind(options: WorkloadOptions) -> Kind:
    """The module of the I/O that `options` name. Raises UsageError if there is none."""
    name = io_kind(options.io)
    if name not in NAMES:
        hint = did_you_mean(name, NAMES, "Choose from: sleep:5ms, socket:5ms, pgvector, http:URL.")
        raise UsageError(f"There is no I/O {options.io!r}.", stage="plan", hint=hint)
    module: Kind = import_module(f"harness.workloads.io.{name}")
    return module


def summaries() -> list[tuple[str, str]]:
    """The name and the summary of every kind."""
    return [(name, import_module(f"harness.workloads.io.{name}").SUMMARY) for name in NAMES]


def packages(options: WorkloadOptions) -> tuple[str, ...]:
    """The packages that a server needs for the I/O; none if the workload has its own."""
    return () if workloads.has_io(options.name) else kind(options).PACKAGES


def takes_ms(io: str) -> bool:
    """Whether the duration of this I/O can be set."""
    return io_kind(io) in TIMED_IO


def check(options: WorkloadOptions) -> None:
    """Raise HarnessError unless the I/O can work, takes the options that were set, and suits the workload."""
    module = kind(options)
    takes = obeyed_by(io_kind(options.io))
    for unknown in sorted((options.model_fields_set & IO_OPTIONS) - takes - {"io"}):
        raise UsageError(
            f"The I/O {options.io!r} does not take the option {unknown}.",
            stage="plan",
            hint=f"It takes: {', '.join(sorted(takes))}.",
        )
    module.check(options)


@asynccontextmanager
async def opened(workload: Workload, options: WorkloadOptions) -> AsyncIterator[IoCall]:
    """The call that each request awaits, connected before the first request and closed on leaving.

    If the workload has its own `io`, this is the call.
    """
    if workload.io is not None:
        yield _own(workload.io)
        return
    async with kind(options).opened(workload, options) as call:
        yield call


def _own(io: Callable[[Any], Awaitable[Any]]) -> IoCall:
    async def call(result: Any) -> IoResult:
        try:
            return IoResult(await io(result))
        except Exception:  # the request's handler turns it into an answer
            raise
        except BaseException as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise  # this task should end; otherwise the user's code raised the CancelledError
            raise RuntimeError(one_line(error)) from error  # SystemExit would end the server

    return call
