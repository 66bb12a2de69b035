"""What a request does: a blocking model, then awaited I/O. Imports `system` and `wire`.

A workload is one file and its name below. Or it is the user's own code, named `package.module:attribute` or
`path/to/file.py`: `own` makes it one.

A workload travels to workers and to the load generator as `WorkloadOptions` (its name and options), so
importing this package, or a workload's module, must not import the model's library: `load` does that.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, Protocol

from harness.errors import UsageError, did_you_mean, shortened
from harness.wire.options import EVERY_WORKLOAD_TAKES, IO_OPTIONS, WorkloadOptions, obeyed_by
from harness.wire.spelling import is_own
from harness.workloads import own, own_code, payload_texts

NAMES = ("embed", "synthetic")


class Workload(Protocol):
    """Contract. The class in each module is called `Workload` and takes the options."""

    warmup_item: str  # what a worker runs once before it is ready, and what `GET /` asks
    io: Callable[[Any], Awaitable[Any]] | None  # I/O of its own: result → the answer's body; None: `--io`
    gives_vectors: bool  # whether a result is a vector, by which a database can search
    modules: tuple[str, ...]  # what `load` imports: a fork server imports it once for all workers

    def __init__(self, options: WorkloadOptions) -> None:
        """Cheap; raises UsageError for options that contradict each other."""

    def environment(self) -> Mapping[str, str]:
        """Environment variables that must stand before a worker's process starts."""
        ...

    def load(self) -> Any:
        """Return the model. Runs in the worker, once per process; raises HarnessError if it cannot."""
        ...

    def predict(self, model: Any, items: list[str]) -> list[Any]:
        """Run the model, blocking; one result per item, in order."""
        ...

    def answer(self, result: Any) -> Any:
        """The answer's body (JSON-able, small) where the awaited I/O finds none."""
        ...

    def payloads(self, seed: int) -> Iterator[str]:
        """Endless texts to ask; the same seed gives the same texts."""
        ...

    def about(self, model: Any) -> dict[str, str | int | float | bool | None]:
        """Facts about the loaded model as observed in the worker, for the run's record."""
        ...


def summary(name: str) -> str:
    """The workload in one line."""
    return str(_module(name).SUMMARY)


def create(options: WorkloadOptions) -> Workload:
    """The workload that `options` names; raises UsageError for a name that does not exist."""
    check_name(options.name)
    workload: Workload = _module(options.name).Workload(options)
    return workload


def _module(name: str) -> Any:
    return own if is_own(name) else import_module(f"harness.workloads.{name}")


def texts(options: WorkloadOptions, seed: int) -> Iterator[str]:
    """Endless texts to ask: drawn from the user's file if there is one, else the workload's own."""
    if options.payloads is not None:
        return payload_texts.draw(payload_texts.read(options.payloads), seed)
    return create(options).payloads(seed)


def source_sha256(options: WorkloadOptions) -> str | None:
    """Of the user's own code, as it is now; None for a workload that is built in."""
    return own.Workload(options).source_sha256 if is_own(options.name) else None


def has_io(name: str) -> bool:
    """Whether a workload of the user's own awaits I/O of its own: then nothing else is awaited."""
    return is_own(name) and own_code.find(name).io is not None


def payloads_sha256(options: WorkloadOptions) -> str | None:
    """Of the user's file of texts; None without one."""
    return None if options.payloads is None else payload_texts.sha256(options.payloads)


def check(options: WorkloadOptions) -> None:
    """Raise UsageError unless the workload exists and obeys every option that was set, all together.

    A file of texts must be readable, and the user's own code as it should be: it is imported here.
    """
    check_name(options.name)
    takes = obeyed_by("own" if is_own(options.name) else options.name) | EVERY_WORKLOAD_TAKES
    idle = sorted(options.model_fields_set - takes)
    if idle:
        raise UsageError(
            f"The workload {options.name!r} knows no option {', '.join(idle)}.",
            stage="plan",
            hint=f"It takes: {', '.join(sorted(takes - {'name'}))}.",
        )
    if options.payloads is not None:
        payload_texts.read(options.payloads)
    create(options)
    if is_own(options.name):
        own.check(options, idle_with_io=IO_OPTIONS)


def check_name(name: str) -> None:
    """Raise UsageError, with the nearest name, unless `name` is a workload, or may be the user's own."""
    if name in NAMES or is_own(name):
        return
    every = f"Choose from: {', '.join(NAMES)}; or your own: FILE.py, package.module:attribute."
    file = f"{name}.py"
    hint = f"Did you mean {file!r}?" if os.path.lexists(file) else did_you_mean(name, NAMES, every)
    raise UsageError(f"There is no workload {shortened(name)!r}.", stage="plan", hint=hint)
