"""`execbench report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands import flags
from harness.errors import UsageError
from harness.terminal import console, print_json

if TYPE_CHECKING:
    from rich.console import Console

    from harness.report import Report

PRINTED = "report.txt"


def report(
    run: Annotated[Path, typer.Argument(help="A run's folder, such as results/<time>-<plan>.")],
    reference: Annotated[
        str | None,
        typer.Option(metavar="ARM", help="Compare with this arm instead; shown only, nothing is written."),
    ] = None,
    as_json: flags.AsJson = False,
) -> None:
    """Make tables and charts again from a run's CSVs."""
    show(run, as_json=as_json, reference=reference)


def show(folder: Path, *, as_json: bool, reference: str | None = None) -> None:
    """Compute everything that is shown of the run, print it, and write it into its folder.

    Against another reference than the plan's nothing is written: the folder keeps what its run decided.
    """
    from harness import report as reporting
    from harness import store
    from harness.capacity import report as capacity
    from harness.commands import capacity_view

    run = store.read(folder)
    if capacity.is_capacity(run.record):
        if reference is not None:
            raise UsageError(
                "--reference is for runs of arms; this one searched for capacities.", stage="report"
            )
        found = capacity.build(run)
        capacity.write(found)
        capacity_view.show(found, as_json=as_json)
        return
    result = reporting.build(run, reference)
    if reference is None:
        reporting.write(result)
        store.write_text(folder, PRINTED, as_text(result))
    if as_json:
        print_json(reporting.as_json(result))
        return
    _print(console(), result)
    console().print(f"\nRows, tables and charts: {folder}", markup=False, soft_wrap=True)


def as_text(result: Report) -> str:
    """The report as printed, 80 columns wide, without colours."""
    from io import StringIO

    from rich.console import Console

    written = StringIO()
    _print(Console(file=written, width=80, color_system=None, highlight=False), result)
    return "".join(f"{line.rstrip()}\n" for line in written.getvalue().splitlines())


def _print(terminal: Console, result: Report) -> None:
    from rich.text import Text

    from harness import tables

    for part in tables.render(result):
        terminal.print(part, soft_wrap=isinstance(part, Text))  # tables fit; a sentence stays one line
