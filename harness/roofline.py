"""What the load generator costs: no arm can be measured beyond what it can send and receive."""

from __future__ import annotations

from typing import NamedTuple

from harness.errors import HarnessError
from harness.loader import Loader
from harness.options import LoadOptions, Transport
from harness.run import Listener
from harness.server import bind
from harness.supervisor import Supervisor

TRANSPORTS: tuple[Transport, ...] = ("aiohttp", "httpx")


class Roofline(NamedTuple):
    """One transport against the server that does nothing."""

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


def measure(concurrency: int, requests: int, listener: Listener) -> list[Roofline]:
    """Run both transports against a null server in a process of its own; closed loop, GET, 2-byte answer."""
    with Supervisor() as supervisor:  # which also ends the null server
        with bind(0) as listening:
            url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
            descriptor = listening.fileno()
            supervisor.spawn("harness.null_app", str(descriptor), stderr=None, pass_fds=[descriptor])
        with Loader(supervisor) as loader:
            return [_measure(loader, url, name, concurrency, requests, listener) for name in TRANSPORTS]


def _measure(
    loader: Loader, url: str, transport: Transport, concurrency: int, requests: int, listener: Listener
) -> Roofline:
    listener.stage(f"{transport}: {requests} requests")
    options = LoadOptions(
        url=url,
        concurrency=concurrency,
        requests=requests,
        warmup_requests=10 * concurrency,
        transport=transport,
    )
    outcome = loader.run(options, listener.progress)
    errors = {shot.error for shot in outcome.shots if shot.error}
    if errors:
        raise HarnessError(
            f"The null server failed to answer: {', '.join(sorted(errors))}.", stage="roofline"
        )
    return Roofline(
        transport,
        concurrency,
        len(outcome.shots),
        requests / (outcome.window_end_ms - outcome.window_start_ms) * 1e3,
        outcome.client_cpu_ms / len(outcome.shots),
    )
