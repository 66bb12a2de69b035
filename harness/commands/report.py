"""`execbench report`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from harness.commands import flags
from harness.commands.terminal import PIPED_WIDTH, console, print_json, print_parts, tell
from harness.errors import HarnessError, UsageError
from harness.report.charts.plotting import import_matplotlib

if TYPE_CHECKING:
    from rich.console import RenderableType

    from harness.results.store import Run

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

    Where its files cannot be written, a line on stderr says so.
    Against another reference than the plan's nothing is written: the folder keeps what its run decided.
    """
    import_matplotlib()
    from harness.capacity.report import is_capacity
    from harness.results import store

    run = store.read(folder)
    made = _of_capacity(run, reference) if is_capacity(run.record) else _of_arms(run, reference)
    unwritten = _write(folder, made) if reference is None else ""
    if as_json:
        print_json(made.data)
    else:
        print_parts(console(), made.parts)
        lies_there = "Rows" if unwritten else "Rows, tables and charts"
        console().print(f"\n{lies_there}: {folder}", soft_wrap=True)
    if unwritten:
        tell(unwritten, style="yellow")


class _Made(NamedTuple):
    """A report as the terminal and as programs want it, and what writes its files into a folder."""

    parts: list[RenderableType]
    data: dict[str, Any]
    write_into: Callable[[Path], None]


def _of_arms(run: Run, reference: str | None) -> _Made:
    from harness.commands import tables
    from harness.report import export, report

    found = report.build(run, reference)
    return _Made([*tables.render(found)], export.as_json(found), lambda new: export.write_into(new, found))


def _of_capacity(run: Run, reference: str | None) -> _Made:
    from harness.capacity import report
    from harness.commands import capacity_tables

    if reference is not None:
        raise UsageError("--reference is for runs of arms; this one looked for capacities.", stage="report")
    found = report.build(run)
    return _Made(
        [*capacity_tables.render(found)], report.as_json(found), lambda new: report.write_into(new, found)
    )


def _write(folder: Path, made: _Made) -> str:
    """Why nothing was written, in a sentence; "" when all was."""
    from harness.results import written

    try:
        with written.replacing(folder) as new:
            made.write_into(new)
            written.write_text(new, PRINTED, as_text(made.parts))
    except HarnessError as error:
        return error.what
    return ""


def as_text(parts: Iterable[RenderableType]) -> str:
    """The parts as printed, 80 columns wide, without colours."""
    from io import StringIO

    from harness.commands.screen import Screen

    written = StringIO()
    print_parts(Screen(file=written, width=PIPED_WIDTH, color_system=None), parts)
    return "".join(f"{line.rstrip()}\n" for line in written.getvalue().splitlines())
