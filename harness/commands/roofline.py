"""`execbench roofline`."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.commands import flags
from harness.commands.terminal import console, print_json
from harness.wire import bounds


def roofline(
    concurrency: Annotated[
        int, typer.Option("--concurrency", "-c", min=1, max=bounds.USERS, help="Connections.")
    ] = 32,
    requests: Annotated[
        int, typer.Option(min=100, max=bounds.REQUESTS, help="Requests per transport.")
    ] = 6000,
    as_json: flags.AsJson = False,
) -> None:
    """What our load generator itself costs: CPU and requests/s against a server that does nothing."""
    from harness.commands.progress import Progress
    from harness.run import client_limit as measuring
    from harness.run.load_generator import Loader
    from harness.run.supervisor import Supervisor

    results = []
    with Supervisor() as supervisor, Loader(supervisor) as loader, Progress(console(stderr=True)) as progress:
        for transport in measuring.TRANSPORTS:
            progress.stage(f"{transport}: {requests} requests")
            results.append(measuring.measure(supervisor, loader, transport, requests, concurrency))
    if as_json:
        print_json([result._asdict() for result in results])
        return
    for result in results:
        console().print(str(result))
