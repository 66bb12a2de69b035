"""`execbench reference`: the pages of docs/reference that are made from the code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, get_args

import typer

from harness import errors
from harness.commands import reference_commands, reference_csv
from harness.system import signals

Page = Literal["commands", "csv", "exit-codes"]
EXAMPLES = ("execbench reference exit-codes", "execbench reference csv > csv.md")


def reference(
    ctx: typer.Context,
    page: Annotated[Page, typer.Argument(metavar="PAGE", help=f"One of {', '.join(get_args(Page))}.")],
) -> None:
    """Show a page of the reference as Markdown: all commands, CSV columns or exit codes.

    `settings` shows all settings.
    """
    group: Any = ctx.find_root().command
    pages: dict[Page, Callable[[], Iterator[str]]] = {
        "commands": lambda: reference_commands.lines(group),
        "csv": reference_csv.lines,
        "exit-codes": _exit_codes,
    }
    for line in pages[page]():
        typer.echo(line)


def _exit_codes() -> Iterator[str]:
    yield "# Exit codes"
    yield ""
    yield "Every command ends with one of these. An error is one message on stderr, without a traceback."
    yield "`execbench --debug COMMAND` shows the traceback too."
    yield ""
    yield "`execbench reference exit-codes` writes this page."
    yield ""
    yield "| code | meaning |"
    yield "|---:|---|"
    for code, meaning in sorted((errors.EXIT_CODES | signals.exit_codes()).items()):
        yield f"| {code} | {meaning} |"
