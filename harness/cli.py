"""The command line: the list of commands, and the only place that turns errors into messages and exit codes.

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
from harness.commands import command
from harness.commands.capacity import capacity
from harness.commands.check import check
from harness.commands.compare import compare
from harness.commands.faults import faults
from harness.commands.init import init
from harness.commands.list import list_
from harness.commands.load import load
from harness.commands.peers import peers
from harness.commands.reference import reference
from harness.commands.report import report
from harness.commands.roofline import roofline
from harness.commands.run import run
from harness.commands.schema import schema
from harness.commands.serve import serve
from harness.commands.settings import settings
from harness.commands.study import study
from harness.commands.sweep import sweep
from harness.commands.terminal import print_message
from harness.errors import HarnessError, as_harness_error
from harness.system import signals, streams

FUNCTIONS: dict[str, Any] = {
    function.__name__.strip("_"): function
    for function in (
        *(run, sweep, capacity, compare, report),
        *(serve, load, init, list_, settings, schema, reference),
        *(check, roofline, study, faults, peers),
    )
}


class Execbench(TyperGroup):
    """Makes a command when it is first used, and turns its errors into one message and an exit code."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands: dict[str, Any] = dict.fromkeys(FUNCTIONS)  # None until a command is used

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - click's signature
        if cmd_name in FUNCTIONS and self.commands[cmd_name] is None:
            self.commands[cmd_name] = command.made(FUNCTIONS[cmd_name], cmd_name)
        return self.commands.get(cmd_name)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - click's signature
        """List each command with the first line of its help, without making it."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, str(function.__doc__).partition("\n")[0]) for name, function in FUNCTIONS.items()]
            )

    def invoke(self, ctx: Any) -> Any:
        signals.raise_on_signal()
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except TyperException as error:  # typer shows it
            error.message = error.message.replace("Value error, ", "")
            raise
        except KeyboardInterrupt as interrupt:
            print_message(signals.INTERRUPTED)
            raise typer.Exit(signals.exit_code(interrupt)) from None
        except Exception as error:  # noqa: BLE001 - the last handler: a traceback is shown only with --debug
            if ctx.params.get("debug"):
                traceback.print_exception(error)
            shown = as_harness_error(error)
            _complain(shown)
            raise typer.Exit(shown.exit_code) from None


app = typer.Typer(
    cls=Execbench,
    name="execbench",
    context_settings=command.CONTEXT,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,  # noqa: ARG001 - read by Execbench
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
    print_message(f"Error ({error.stage}): {error.what}", style="red")
    if error.hint:
        print_message(error.hint)


if __name__ == "__main__":
    main()
