"""What a request awaits once the model is done: a database, a service, or a sleep that stands for them.

One file a kind. It runs in the server's process, on its event loop; a service that must be there for it is
started by the run (`harness.workloads.io.service`), beside the servers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module
from typing import Any, NamedTuple, Protocol

from harness.errors import UsageError, did_you_mean, one_line
from harness.wire.options import IO_OPTIONS, WorkloadOptions, obeyed_by
from harness.wire.records import DOWNSTREAM
from harness.wire.spelling import TIMED_IO, io_kind
from harness.workloads import Workload

NAMES = ("sleep", "socket", "pgvector", "http")


class Found(NamedTuple):
    """What came of one awaited call."""

    value: Any  # the answer's body: JSON-able, small
    server_ms: float | None = None  # what the other side says it took itself; None: it does not say


class Broken(Exception):
    """The other side gave no good answer. Its text names the kind of I/O and the reason."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(f"{DOWNSTREAM}{kind}: {why}")


class Late(Broken):
    """It did not answer in time."""


@asynccontextmanager
async def within(name: str, timeout_s: float, *failures: type[Exception]) -> AsyncIterator[None]:
    """These failures of the other side, and too long a silence, become `Broken`."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError:
        raise Late(name, f"no answer within {timeout_s:g} s") from None
    except failures as error:
        raise Broken(name, f"{type(error).__name__}: {error}") from error


Ask = Callable[[Any], Awaitable[Found]]  # the model's result for one item → what was found with it


class Kind(Protocol):
    """Contract of each module."""

    SUMMARY: str
    SERVICE: str | None  # module of the child process that it needs (`service`); None: it needs none

    def check(self, options: WorkloadOptions) -> None:
        """Raise HarnessError for options that cannot work, before anything is started."""
        ...

    def opened(self, workload: Workload, options: WorkloadOptions) -> AbstractAsyncContextManager[Ask]:
        """What each request awaits, ready; what it raises is `Broken`."""
        ...


def kind(options: WorkloadOptions) -> Kind:
    """The module of the I/O that `options` name; UsageError when there is none."""
    name = io_kind(options.io)
    if name not in NAMES:
        hint = did_you_mean(name, NAMES, "Choose from: sleep:5ms, socket:5ms, pgvector, http:URL.")
        raise UsageError(f"There is no I/O {options.io!r}.", stage="plan", hint=hint)
    module: Kind = import_module(f"harness.workloads.io.{name}")
    return module


def summaries() -> list[tuple[str, str]]:
    """Every kind in a line."""
    return [(name, import_module(f"harness.workloads.io.{name}").SUMMARY) for name in NAMES]


def takes_ms(io: str) -> bool:
    """Whether this I/O can be told how long to take."""
    return io_kind(io) in TIMED_IO


def check(options: WorkloadOptions) -> None:
    """Raise HarnessError unless the I/O can work, is told only what it obeys, and suits the workload."""
    module = kind(options)
    takes = obeyed_by(io_kind(options.io))
    for idle in sorted((options.model_fields_set & IO_OPTIONS) - takes - {"io"}):
        raise UsageError(
            f"The I/O {options.io!r} knows no option {idle}.",
            stage="plan",
            hint=f"It takes: {', '.join(sorted(takes))}.",
        )
    module.check(options)


@asynccontextmanager
async def opened(workload: Workload, options: WorkloadOptions) -> AsyncIterator[Ask]:
    """What each request awaits, connected before the first of them; closed on leaving.

    A workload that has I/O of its own is asked itself.
    """
    if workload.io is not None:
        yield _own(workload.io)
        return
    async with kind(options).opened(workload, options) as ask:
        yield ask


def _own(io: Callable[[Any], Awaitable[Any]]) -> Ask:
    async def ask(result: Any) -> Found:
        try:
            return Found(await io(result))
        except Exception:  # passed on as it is: the request's handler makes an answer of it
            raise
        except BaseException as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise  # this task should end; else the user's code has raised the CancelledError
            raise RuntimeError(one_line(error)) from error  # SystemExit would end the server

    return ask
