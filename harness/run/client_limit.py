"""The roofline of the load generator: no arm can be measured beyond the rate that it can send and receive."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, cast

from harness.errors import HarnessError
from harness.run.generators import LoadGenerator
from harness.run.load_generator import Loader
from harness.run.local_generator import LocalProcess
from harness.run.server_process import bind
from harness.run.supervisor import Supervisor
from harness.system import pinning
from harness.wire.arrivals import Law, closed
from harness.wire.load_options import LoadOptions, Transport
from harness.wire.records import MEASURE, Outcome

TRANSPORTS: tuple[Transport, ...] = ("aiohttp", "httpx")
CONNECTIONS = 32
QUICK_S = 1.5  # of each of the two windows of `quick`


class Roofline(NamedTuple):
    """One transport against a server that does nothing."""

    transport: str
    concurrency: int
    requests: int
    requests_per_s: float  # over the measured window
    cpu_ms_per_request: float  # of the load generator's process, over the whole trial

    def __str__(self) -> str:
        return (
            f"{self.transport:8} {self.cpu_ms_per_request:.2f} ms of CPU a request, "
            f"{self.requests_per_s:.0f} requests/s at {self.concurrency} connections "
            f"({self.requests} requests)"
        )


class Quick(NamedTuple):
    """The self-check before a run: the roofline, and the dispatch lag at half of it."""

    requests_per_s: float
    cpu_ms_per_request: float
    dispatch_lag_p50_ms: float
    dispatch_lag_p99_ms: float


@contextmanager
def null_server(supervisor: Supervisor, cpus: tuple[int, ...] = ()) -> Iterator[str]:
    """Start a server that does nothing in its own process, on `cpus` only if given; yield its address."""
    with bind(0) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        descriptor = listening.fileno()
        process = supervisor.spawn(
            "harness.server.null_app", str(descriptor), stderr=None, pass_fds=[descriptor]
        )
    try:
        if cpus:
            pinning.apply(process.pid, cpus)
        yield url
    finally:
        process.kill()
        process.wait()


def measure(
    supervisor: Supervisor,
    loader: LoadGenerator,
    transport: Transport,
    requests: int,
    connections: int = CONNECTIONS,
) -> Roofline:
    """Measure one transport in a closed loop: GET requests, answers of 2 bytes."""
    with null_server(supervisor) as url:
        return _closed(loader, url, transport, connections, requests=requests)


def quick(
    supervisor: Supervisor, loader: LoadGenerator, transport: Transport, cpus: tuple[int, ...] = ()
) -> Quick:
    """Measure the roofline in a closed loop, then the dispatch lag at half of it; takes about 4 s."""
    with null_server(supervisor, cpus) as url:
        limit = _closed(loader, url, transport, duration_s=QUICK_S)
        half = Law("constant", limit.requests_per_s / 2)
        options = LoadOptions(url=url, arrivals=half, settle_s=0.5, duration_s=QUICK_S, transport=transport)
        shots = _run(loader, options, keep_shots=True).shots
    lags = [shot.sent_ms - shot.due_ms for shot in shots if shot.phase == MEASURE]
    return Quick(
        requests_per_s=limit.requests_per_s,
        cpu_ms_per_request=limit.cpu_ms_per_request,
        dispatch_lag_p50_ms=statistics.median(lags),
        dispatch_lag_p99_ms=statistics.quantiles(lags, n=100, method="inclusive")[98],
    )


def of_run(
    supervisor: Supervisor, loader: LoadGenerator, transport: Transport, cpus: tuple[int, ...] = ()
) -> Quick:
    """Return the limit of the run's load generators: of those on other hosts, the sum of what each measures.

    The cost of a request is their mean, the dispatch lag that of the slowest.
    """
    there = [Quick(**found) for found in loader.limits_there(transport)]
    if not there:
        return quick(supervisor, loader, transport, cpus)
    return Quick(
        requests_per_s=sum(one.requests_per_s for one in there),
        cpu_ms_per_request=statistics.fmean(one.cpu_ms_per_request for one in there),
        dispatch_lag_p50_ms=max(one.dispatch_lag_p50_ms for one in there),
        dispatch_lag_p99_ms=max(one.dispatch_lag_p99_ms for one in there),
    )


def _closed(
    loader: LoadGenerator,
    url: str,
    transport: Transport,
    connections: int = CONNECTIONS,
    *,
    requests: int | None = None,
    duration_s: float | None = None,
) -> Roofline:
    options = LoadOptions(
        url=url,
        arrivals=closed(connections),
        warmup_requests=10 * connections,
        transport=transport,
        requests=requests,
        duration_s=duration_s,
    )
    outcome = _run(loader, options, keep_shots=False)
    window_s = (outcome.window_end_ms - outcome.window_start_ms) / 1e3
    measured, sent = outcome.counts.measured, outcome.counts.requests
    return Roofline(transport, connections, sent, measured / window_s, outcome.client_cpu_ms / sent)


def _run(loader: LoadGenerator, options: LoadOptions, *, keep_shots: bool) -> Outcome:
    outcome = loader.run(options, keep_shots=keep_shots)
    if errors := outcome.counts.errors:
        raise HarnessError(
            f"Requests to the null server failed: {', '.join(sorted(errors))}.", stage="roofline"
        )
    return outcome


def main() -> None:
    """Measure the limit of a load generator here, with the given transport; write it as JSON."""
    (transport,) = sys.argv[1:]
    with Supervisor() as supervisor, Loader(LocalProcess(supervisor)) as loader:
        found = quick(supervisor, loader, cast(Transport, transport))
    sys.stdout.write(json.dumps(found._asdict()))


if __name__ == "__main__":
    main()
