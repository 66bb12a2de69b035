"""`execbench serve`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands import flag_groups, flags

if TYPE_CHECKING:
    from harness.plans.plan import Plan
    from harness.run.server_process import Server
    from harness.workloads.io.service import Services


_SHOWN_AT_ONCE = 65_536  # bytes


@flags.spread
def serve(
    *,
    strategy: Annotated[str, typer.Argument(help="Where the model runs; see `execbench list`.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8000,
    server: flag_groups.Server,
) -> None:
    """Serve the app alone on 127.0.0.1, for curl or any other client, until Ctrl-C."""
    from harness.plans import from_flags

    said = from_flags.Flags(strategies=(strategy,), **server.as_plan_flags())
    _serve(from_flags.from_flags(said), port)


def _serve(plan: Plan, port: int) -> None:
    import tempfile

    from harness.run import server_process
    from harness.run.supervisor import Supervisor
    from harness.workloads.io.service import Services

    arm = plan.arms[0]
    options = arm.server_options(plan.workload)
    with (
        tempfile.TemporaryDirectory() as folder,
        Supervisor() as supervisor,
        Services(lambda name: Path(folder) / f"{name}.log", lambda stage: typer.echo(stage, err=True)) as io,
    ):
        log = Path(folder) / "server.log"
        options = options.model_copy(update={"workload": io.connected(options.workload)})
        with server_process.start(arm.name, options, supervisor, log=log, port=port) as child:
            child.wait_ready()
            typer.echo(f"{arm.name} serves {plan.workload.name} on {child.url}/ - Ctrl-C stops it")
            _follow(child, io, log)


def _follow(child: Server, io: Services, log: Path) -> None:
    """Show the server's log as it grows, until the server ends. It may hold any bytes: users' code prints."""
    import codecs
    import time

    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    with log.open("rb") as stream:
        while True:
            while some := stream.read(_SHOWN_AT_ONCE):
                sys.stderr.write(decoder.decode(some))
            child.check_alive(stage="serving")
            for died in io.newly_dead():
                typer.echo(died, err=True)
            time.sleep(0.2)
