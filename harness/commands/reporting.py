"""`execbench report`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from harness.commands import flags
from harness.errors import UsageError
from harness.terminal import console, print_json

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from harness.store import Run

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
    from harness import store
    from harness.capacity.report import is_capacity

    run = store.read(folder)
    made = _of_capacity(run, reference) if is_capacity(run.record) else _of_arms(run, reference)
    if reference is None:
        store.write_text(folder, PRINTED, as_text(made.parts))
    if as_json:
        print_json(made.data)
        return
    _print(console(), made.parts)
    console().print(f"\nRows, tables and charts: {folder}", markup=False, soft_wrap=True)


class _Made(NamedTuple):
    """A report as the terminal and as programs want it."""

    parts: list[RenderableType]
    data: dict[str, Any]


def _of_arms(run: Run, reference: str | None) -> _Made:
    from harness import report, tables

    found = report.build(run, reference)
    if reference is None:
        report.write(found)
    return _Made([*tables.render(found)], report.as_json(found))


def _of_capacity(run: Run, reference: str | None) -> _Made:
    from harness.capacity import report
    from harness.commands import capacity_view

    if reference is not None:
        raise UsageError("--reference is for runs of arms; this one looked for capacities.", stage="report")
    found = report.build(run)
    report.write(found)
    return _Made([*capacity_view.render(found)], found.as_json())


def as_text(parts: Iterable[RenderableType]) -> str:
    """The parts as printed, 80 columns wide, without colours."""
    from io import StringIO

    from rich.console import Console

    written = StringIO()
    _print(Console(file=written, width=80, color_system=None, highlight=False), parts)
    return "".join(f"{line.rstrip()}\n" for line in written.getvalue().splitlines())


def _print(terminal: Console, parts: Iterable[RenderableType]) -> None:
    from rich.text import Text

    for part in parts:
        terminal.print(part, soft_wrap=isinstance(part, Text))  # tables fit; a sentence stays one line
