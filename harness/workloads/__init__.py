"""What a request does: run a blocking model, then await I/O. Imports `system` and `wire`.

A built-in workload is one module, listed in `NAMES`. `own` wraps the user's code, which is named
`package.module:attribute` or `path/to/file.py`.

Workers and the load generator receive a workload as `WorkloadOptions` (its name and options). So importing
this package or a workload's module must not import the model's library; `load` does that.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, Protocol

from harness.errors import UsageError, did_you_mean, shortened
from harness.wire.options import EVERY_WORKLOAD_TAKES, HIDDEN_OPTIONS, IO_OPTIONS, WorkloadOptions, obeyed_by
from harness.wire.spelling import is_own
from harness.workloads import own, own_code, payload_texts

NAMES = ("embed", "synthetic")


class Workload(Protocol):
    """What each workload module implements, in a class called `Workload`."""

    warmup_item: str  # a worker runs it once before it is ready; `GET /` sends it to the model
    io: Callable[[Any], Awaitable[Any]] | None  # the workload's own I/O: result → body; None: use `--io`
    gives_vectors: bool  # whether a result is a vector that a database can search by
    packages: tuple[str, ...]  # what `load` needs, such as "torch>=2.6"; another Python is asked for these
    modules: tuple[str, ...]  # modules that `load` imports; a fork server imports them once for all workers

    def __init__(self, options: WorkloadOptions) -> None:
        """Keep the options. Must be cheap. Raises UsageError for options that contradict each other."""

    def environment(self) -> Mapping[str, str]:
        """Environment variables to set before a worker's process starts."""
        ...

    def load(self) -> Any:
        """Load and return the model, once per worker process. Raises HarnessError if it cannot."""
        ...

    def predict(self, model: Any, items: list[str]) -> list[Any]:
        """Run the model, blocking. Returns one result per item, in order."""
        ...

    def answer(self, result: Any) -> Any:
        """The answer's body (small, serialisable as JSON) if the awaited I/O returns none."""
        ...

    def payloads(self, seed: int) -> Iterator[str]:
        """Endless request texts; the same seed gives the same texts."""
        ...

    def about(self, model: Any) -> dict[str, str | int | float | bool | None]:
        """Facts about the loaded model, as observed in the worker, for the run's record."""
        ...


def summary(name: str) -> str:
    """One line that describes the workload."""
    return str(_module(name).SUMMARY)


def create(options: WorkloadOptions) -> Workload:
    """Create the workload that `options` names. Raises UsageError for an unknown name."""
    check_name(options.name)
    workload: Workload = _module(options.name).Workload(options)
    return workload


def _module(name: str) -> Any:
    return own if is_own(name) else import_module(f"harness.workloads.{name}")


def texts(options: WorkloadOptions, seed: int) -> Iterator[str]:
    """Endless request texts: drawn from the user's file if there is one, else the workload's own."""
    if options.payloads is not None:
        return payload_texts.draw(payload_texts.read(options.payloads), seed)
    return create(options).payloads(seed)


def source_sha256(options: WorkloadOptions) -> str | None:
    """Hash of the user's own code as it is now; None for a built-in workload."""
    return own.Workload(options).source_sha256 if is_own(options.name) else None


def packages(options: WorkloadOptions) -> tuple[str, ...]:
    """The packages that the workload needs where its model is loaded, such as "torch>=2.6"."""
    return create(options).packages


def has_io(name: str) -> bool:
    """Whether the user's own workload has its own `io` function, which replaces `--io`."""
    return is_own(name) and own_code.find(name).io is not None


def payloads_sha256(options: WorkloadOptions) -> str | None:
    """Hash of the user's file of texts; None without a file."""
    return None if options.payloads is None else payload_texts.sha256(options.payloads)


def check(options: WorkloadOptions) -> None:
    """Raise UsageError unless the workload exists and takes every option that was set, in this combination.

    Reads the file of texts, if there is one. Imports the user's own code and checks its functions.
    """
    check_name(options.name)
    takes = obeyed_by("own" if is_own(options.name) else options.name) | EVERY_WORKLOAD_TAKES
    idle = sorted(options.model_fields_set - takes)
    if idle:
        raise UsageError(
            f"The workload {options.name!r} does not take the option {', '.join(idle)}.",
            stage="plan",
            hint=f"It takes: {', '.join(sorted(takes - HIDDEN_OPTIONS - {'name'}))}.",
        )
    if options.payloads is not None:
        payload_texts.read(options.payloads)
    create(options)
    if is_own(options.name):
        own.check(options, io_options=IO_OPTIONS)


def check_name(name: str) -> None:
    """Raise UsageError that suggests the nearest name, unless `name` is built in or may be the user's own."""
    if name in NAMES or is_own(name):
        return
    every = f"Choose from: {', '.join(NAMES)}; or your own: FILE.py, package.module:attribute."
    file = f"{name}.py"
    hint = f"Did you mean {file!r}?" if os.path.lexists(file) else did_you_mean(name, NAMES, every)
    raise UsageError(f"There is no workload {shortened(name)!r}.", stage="plan", hint=hint)
