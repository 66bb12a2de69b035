"""`execbench report`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from harness.commands import completion, flags
from harness.commands.terminal import PIPED_WIDTH, console, print_json, print_message, print_parts
from harness.errors import HarnessError, UsageError
from harness.report.charts.plotting import import_matplotlib
from harness.wire.panel import Panel

if TYPE_CHECKING:
    from rich.console import RenderableType

    from harness.results.store import Run

PRINTED = "report.txt"
EXAMPLES = (
    "execbench report results/20261121-103412-article",
    "execbench report results/20261121-103412-article --reference process",
    "execbench report results/20261121-103412-article --json > report.json",
)


def report(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="Folder of a run, such as results/<time>-<plan>.",
            autocompletion=completion.runs,
        ),
    ],
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="ARM",
            help="Compare with this arm instead; write no files.",
            rich_help_panel=Panel.COMPARE,
        ),
    ] = None,
    as_json: flags.AsJson = False,
) -> None:
    """Show a run: make its tables and charts again from its CSVs."""
    show(run, as_json=as_json, reference=reference)


def show(folder: Path, *, as_json: bool, reference: str | None = None) -> None:
    """Compute the report of a run, print it, and write it into the run's folder.

    If its files cannot be written, a line on stderr says so. With a `reference` nothing is written: the
    folder keeps the comparisons that its plan has set.
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
        contents = "Rows" if unwritten else "Rows, tables and charts"
        console().print(f"\n{contents}: {folder}", soft_wrap=True)
    if unwritten:
        print_message(unwritten, style="yellow")


class _Made(NamedTuple):
    """A report for the terminal and for programs, and the function that writes its files into a folder."""

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
        raise UsageError("--reference is not for the report of a capacity run.", stage="report")
    found = report.build(run)
    return _Made(
        [*capacity_tables.render(found)], report.as_json(found), lambda new: report.write_into(new, found)
    )


def _write(folder: Path, made: _Made) -> str:
    """Write the files; return why they cannot be written, in a sentence, or ""."""
    from harness.results import derived_files

    try:
        with derived_files.replacing(folder) as new:
            made.write_into(new)
            derived_files.write_text(new, PRINTED, as_text(made.parts))
    except HarnessError as error:
        return error.what
    return ""


def as_text(parts: Iterable[RenderableType]) -> str:
    """Return the parts as printed, 80 columns wide, without colours."""
    from io import StringIO

    from harness.commands.screen import Screen

    written = StringIO()
    print_parts(Screen(file=written, width=PIPED_WIDTH, color_system=None), parts)
    return "".join(f"{line.rstrip()}\n" for line in written.getvalue().splitlines())
