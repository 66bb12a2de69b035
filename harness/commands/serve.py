"""`execbench serve`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands import completion, flags

if TYPE_CHECKING:
    from harness.plans.from_flags import Flags
    from harness.plans.plan import Plan
    from harness.run.server_process import Server
    from harness.workloads.io.service import Services


EXAMPLES = (
    "execbench serve thread",
    "execbench serve batch --workers 2 --option over=process --port 9000",
    "execbench serve process --workload my_model.py",
)
_SHOWN_AT_ONCE = 65_536  # bytes


@flags.with_settings
def serve(
    *,
    strategy: Annotated[
        str,
        typer.Argument(
            metavar="STRATEGY",
            help="Where the model runs: NAME or NAME:key=value,… (see `list`).",
            autocompletion=completion.strategies,
        ),
    ],
    port: Annotated[
        int,
        typer.Option(
            min=0,
            max=65535,
            metavar="N",
            help="Listen on this port; 0 takes a free one. [8000]",
            rich_help_panel="Server",
        ),
    ] = 8000,
    given: Flags = flags.settings(
        lambda one: one.section in ("options", "arm", "workload") or one.name == "bind"
    ),
) -> None:
    """Serve the app on this host, for curl or any other client, until Ctrl-C."""
    from harness.plans import from_flags

    _serve(from_flags.from_flags(given.but(strategies=(strategy,))), port)


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
        with server_process.start(
            arm.name, options, supervisor, log=log, port=port, interpreter=arm.python, host=plan.bind
        ) as child:
            child.wait_ready()
            typer.echo(f"{arm.name} serves {plan.workload.name} on {child.url}/ - Ctrl-C stops it")
            _follow(child, io, log)


def _follow(child: Server, io: Services, log: Path) -> None:
    """Show the server's log as it grows, until the server ends. Users' code may print any bytes into it."""
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
