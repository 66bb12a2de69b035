"""`execbench report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.commands import flags
from harness.terminal import console, print_json


def report(
    run: Annotated[Path, typer.Argument(help="A run's folder, such as results/<time>-<plan>.")],
    as_json: flags.AsJson = False,
) -> None:
    """Make tables and charts again from a run's CSVs."""
    show(run, as_json=as_json)


def show(folder: Path, *, as_json: bool) -> None:
    """Compute everything that is shown of the run, write it into its folder, and print it."""
    from rich.text import Text

    from harness import report as reporting
    from harness import store, tables
    from harness.capacity import report as capacity
    from harness.commands import capacity_view

    run = store.read(folder)
    if capacity.is_capacity(run.record):
        found = capacity.build(run)
        capacity.write(found)
        capacity_view.show(found, as_json=as_json)
        return
    result = reporting.build(run)
    reporting.write(result)
    if as_json:
        print_json(reporting.as_json(result))
        return
    terminal = console()
    for part in tables.render(result):
        terminal.print(part, soft_wrap=isinstance(part, Text))  # tables fit; a sentence stays one line
