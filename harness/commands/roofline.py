"""`execbench roofline`."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.commands import flags
from harness.commands.terminal import console, print_json
from harness.wire import bounds
from harness.wire.panel import Panel

EXAMPLES = ("execbench roofline", "execbench roofline -c 8", "execbench roofline --json")


def roofline(
    concurrency: Annotated[
        int,
        typer.Option(
            "--concurrency",
            "-c",
            min=1,
            max=bounds.USERS,
            metavar="N",
            help="Measure over this many connections. [32]",
            rich_help_panel=Panel.LOAD,
        ),
    ] = 32,
    requests: Annotated[
        int,
        typer.Option(
            min=100,
            max=bounds.REQUESTS,
            metavar="N",
            help="Send this many requests with each client. [6,000]",
            rich_help_panel=Panel.LOAD,
        ),
    ] = 6000,
    as_json: flags.AsJson = False,
) -> None:
    """Measure the CPU and the highest rate of the load generator itself."""
    from harness.commands.progress import Progress
    from harness.run import client_limit as measuring
    from harness.run.load_generator import Loader
    from harness.run.local_generator import LocalProcess
    from harness.run.supervisor import Supervisor

    results = []
    with (
        Supervisor() as supervisor,
        Loader(LocalProcess(supervisor)) as loader,
        Progress(console(stderr=True)) as progress,
    ):
        for transport in measuring.TRANSPORTS:
            progress.stage(f"{transport}: {requests} requests")
            results.append(measuring.measure(supervisor, loader, transport, requests, concurrency))
    if as_json:
        print_json([result._asdict() for result in results])
        return
    for result in results:
        console().print(str(result))
