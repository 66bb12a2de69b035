"""The code that a strategy runs in its workers. This module holds the loaded model."""

from __future__ import annotations

import os
import threading
import time
from typing import Any, NamedTuple

from harness import workloads
from harness.server.server_timing import Done, timed
from harness.system import garbage, interpreter
from harness.wire.options import WorkloadOptions


class About(NamedTuple):
    """An item that requests facts instead of a prediction: `about` the model, and the `environment`."""


class _Loaded(NamedTuple):
    options: WorkloadOptions
    injected_ms: float
    workload: workloads.Workload
    model: Any
    predict: timed


_loaded: _Loaded | None = None
_loading = threading.Lock()


def setup(options: WorkloadOptions, injected_ms: float = 0.0) -> str:
    """Load the model unless this process has loaded it; return an item to warm up with.

    The threads of a process share one model, as in a real service.
    """
    global _loaded
    with _loading:
        if _loaded is None or (_loaded.options, _loaded.injected_ms) != (options, injected_ms):
            workload = workloads.create(options)
            model = workload.load()
            if options.gc_freeze:
                garbage.freeze()

            def predict(items: list[str]) -> list[Any]:
                values = workload.predict(model, items)
                if injected_ms:
                    time.sleep(injected_ms / 1e3)
                return values

            _loaded = _Loaded(options, injected_ms, workload, model, timed(predict))
        return _loaded.workload.warmup_item


def call(items: list[Any]) -> list[Done]:
    """Run the model on `items` in one call, timed inside the worker."""
    loaded = _loaded
    assert loaded is not None, "a strategy must run setup() in every worker before call()"
    if isinstance(items[0], About):
        return [
            Done({"about": _about(loaded), "environment": interpreter.facts()}, 0.0, 0.0, 0.0, os.getpid())
        ]
    done = loaded.predict(items)
    return [done._replace(value=value, batch=len(items)) for value in done.value]


def _about(loaded: _Loaded) -> dict[str, Any]:
    """Return the workload's facts about its model, and the native thread pools of this process.

    The pools are read in the thread that runs the model, after a run, because their real sizes may differ
    from the configured ones. Libraries linked into another one (MKL within torch) do not show up; torch's own
    thread count is among the workload's facts.
    """
    return {**loaded.workload.about(loaded.model), "threadpools": _thread_pools()}


def _thread_pools() -> list[dict[str, Any]] | None:
    """The pools; None if another Python lacks the package that reads them."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return None
    shown = ("user_api", "internal_api", "num_threads", "version")
    return [{key: pool[key] for key in shown} for pool in threadpool_info()]
