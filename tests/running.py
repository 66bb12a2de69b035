"""Real servers and real load for tests. They end with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from harness.run import server_process
from harness.run.load_generator import Loader
from harness.run.local_generator import LocalProcess
from harness.run.supervisor import Supervisor
from harness.wire.arrivals import closed
from harness.wire.load_options import LoadOptions
from harness.wire.options import ServerOptions, WorkloadOptions
from harness.wire.records import MEASURE, Outcome, Shot

READY_WITHIN_S = 60.0

Fire = Callable[..., Outcome]  # (url, **options of a load) → outcome


def synthetic(service_ms: float = 5.0, io_ms: float = 5.0, **options: Any) -> WorkloadOptions:
    return WorkloadOptions.model_validate(
        {"name": "synthetic", "service_ms": service_ms, "io_ms": io_ms, **options}
    )


@contextmanager
def serving(log: Path, strategy: str = "thread", **options: Any) -> Iterator[server_process.Server]:
    """Start a server and wait until it is ready. The default workload is synthetic."""
    options.setdefault("workload", synthetic())
    chosen = ServerOptions(strategy=strategy, **options)
    with Supervisor() as supervisor, server_process.start(strategy, chosen, supervisor, log=log) as child:
        child.wait_ready(READY_WITHIN_S)
        yield child


@contextmanager
def resident(folder: Path, arms: dict[str, ServerOptions]) -> Iterator[dict[str, server_process.Server]]:
    """Start all servers at the same time, because each imports for a second, and wait until all are ready."""
    with Supervisor() as supervisor, ExitStack() as stack:
        servers = {
            name: stack.enter_context(
                server_process.start(name, options, supervisor, log=folder / f"{name}.log")
            )
            for name, options in arms.items()
        }
        for child in servers.values():
            child.wait_ready(READY_WITHIN_S)
        yield servers


@contextmanager
def loading() -> Iterator[Fire]:
    """Start a load generator and yield a function that runs a trial; `concurrency` means a closed loop."""
    with Supervisor() as supervisor, Loader(LocalProcess(supervisor)) as loader:

        def fire(url: str, **options: Any) -> Outcome:
            if "concurrency" in options:
                options["arrivals"] = closed(options.pop("concurrency"))
            return loader.run(LoadOptions(url=url, **options), lambda answered, median_ms: None)

        yield fire


def fire(url: str, **options: Any) -> Outcome:
    """Run one trial on a running server with a new load generator."""
    with loading() as once:
        return once(url, **options)


def measured(outcome: Outcome) -> list[Shot]:
    return [shot for shot in outcome.shots if shot.phase == MEASURE]
