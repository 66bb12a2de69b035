"""The command line: a table of contents. The only place that turns errors into messages and exit codes.

Commands import what they need inside: `execbench --help` must not load pandas, FastAPI or torch.
"""

from __future__ import annotations

from harness.system import early  # noqa: F401 - before the others, which take a while to import

# isort: split
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from harness import __version__
from harness.commands.capacity import capacity
from harness.commands.check import check
from harness.commands.compare import compare
from harness.commands.faults import faults
from harness.commands.init import init
from harness.commands.list import list_
from harness.commands.load import load
from harness.commands.report import report
from harness.commands.roofline import roofline
from harness.commands.run import run
from harness.commands.serve import serve
from harness.commands.study import study
from harness.commands.sweep import sweep
from harness.commands.terminal import tell
from harness.errors import HarnessError, as_harness_error
from harness.system import signals, streams


class Guarded(TyperGroup):
    """Turns what a command raises into one message and an exit code, in one place."""

    def invoke(self, ctx: Any) -> Any:
        signals.raise_on_signal()
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, TyperException):
            raise  # typer shows these itself
        except KeyboardInterrupt as interrupt:
            tell(signals.INTERRUPTED)
            raise typer.Exit(signals.exit_code(interrupt)) from None
        except Exception as error:  # noqa: BLE001 - the last handler: no user meets a traceback unasked
            if ctx.params.get("debug"):
                traceback.print_exception(error)
            told = as_harness_error(error)
            _complain(told)
            raise typer.Exit(told.exit_code) from None


app = typer.Typer(
    cls=Guarded,
    name="execbench",
    help="Measure where a FastAPI service should run its model: on the event loop, in threads, in processes.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
_COMMANDS = (run, serve, capacity, load, report, compare, sweep, list_, check, study, faults, roofline, init)
for command in _COMMANDS:
    app.command(name=command.__name__.strip("_"))(command)


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,  # noqa: ARG001 - read by Guarded
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """Measure where a FastAPI service should run its model: on the event loop, in threads, in processes."""
    if version:
        typer.echo(f"execbench {__version__}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


def main() -> None:
    """The console script `execbench`."""
    signals.exit_on_signal()
    streams.prepare()
    try:
        app()
    finally:
        signals.exit_on_signal()


def _complain(error: HarnessError) -> None:
    tell(f"Error ({error.stage}): {error.what}", style="red")
    if error.hint:
        tell(error.hint)


if __name__ == "__main__":
    main()
