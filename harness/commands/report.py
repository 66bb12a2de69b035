"""`execbench report`."""

from __future__ import annotations

import shlex
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

    from harness.report.page.parts import Page
    from harness.results.store import Run

PRINTED = "report.txt"
PAGE = "report.html"
EXAMPLES = (
    "execbench report results/20261129-073812-article",
    "execbench report results/20261129-073812-article --full",
    "execbench report results/20261129-073812-article --reference process",
    "execbench report results/20261129-073812-article --json > report.json",
    "execbench report results/20261129-073812-article --trace",
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
    full: flags.Full = False,
    as_json: flags.AsJson = False,
    trace: Annotated[
        bool,
        typer.Option(
            "--trace",
            help="Write trace.json.gz too, for ui.perfetto.dev.",
            rich_help_panel=Panel.OUTPUT,
        ),
    ] = False,
) -> None:
    """Show a run: make its tables and charts again from its CSVs."""
    flags.refuse_full_json(full=full, as_json=as_json)
    if trace and reference is not None:
        raise UsageError("--trace writes a file, and --reference writes none.", stage="report")
    traced = _write_trace(run) if trace else ""  # before the page, which links to it
    show(run, full=full, as_json=as_json, reference=reference)
    if traced:
        console(stderr=as_json).print(traced, soft_wrap=True)


def show(folder: Path, *, full: bool, as_json: bool, reference: str | None = None) -> None:
    """Compute the report of a run, print all of it or the short one, and write it into the run's folder.

    If its files cannot be written, a line on stderr says so. With a `reference` nothing is written: the
    folder keeps the comparisons that its plan has set.
    """
    import_matplotlib()
    from harness.capacity.report import is_capacity
    from harness.results import store

    run = store.read(folder)
    made = _of_capacity(run, reference) if is_capacity(run.record) else _of_arms(run, reference)
    unwritten = _write(run, made) if reference is None else ""
    if as_json:
        print_json(made.data)
    else:
        print_parts(console(), made.parts if full else made.brief)
        contents = "Rows" if unwritten else "Rows, tables and charts"
        where = f"{contents}: {folder}"
        page = folder / PAGE
        if not (full or unwritten or reference) and page.exists():
            where = f"Page: {page}"
        for line in [f"\n{where}"] if full else [where, _more(folder, reference)]:
            console().print(line, soft_wrap=True)
    if unwritten:
        print_message(unwritten, style="yellow")


def _more(folder: Path, reference: str | None) -> str:
    """The command that prints all tables."""
    against = ["--reference", reference] if reference else []
    return f"More: {shlex.join(['execbench', 'report', str(folder), *against, '--full'])}"


class _Made(NamedTuple):
    """A report for the terminal and for programs, and the function that writes its files into a folder."""

    parts: list[RenderableType]
    brief: list[RenderableType]
    data: dict[str, Any]
    write_into: Callable[[Path], None]
    page: Callable[[list[str]], Page]  # takes the names of the folder's files, which it links to


def _of_arms(run: Run, reference: str | None) -> _Made:
    from harness.commands import brief, tables
    from harness.report import export, report
    from harness.report.page import run_page

    found = report.build(run, reference)
    return _Made(
        [*tables.render(found)],
        [*brief.render(found)],
        export.as_json(found),
        lambda new: export.write_into(new, found),
        lambda files: run_page.page(found, files),
    )


def _of_capacity(run: Run, reference: str | None) -> _Made:
    from harness.capacity import page, report
    from harness.commands import capacity_tables

    if reference is not None:
        raise UsageError("--reference is not for the report of a capacity run.", stage="report")
    found = report.build(run)
    return _Made(
        [*capacity_tables.render(found)],
        [*capacity_tables.brief(found)],
        report.as_json(found),
        lambda new: report.write_into(new, found),
        lambda files: page.page(found, files),
    )


def _write(run: Run, made: _Made) -> str:
    """Write the files; return why they cannot be written, in a sentence, or ""."""
    from harness.report.page import html
    from harness.results import derived_files, parquet

    try:
        with derived_files.replacing(run.folder) as new:
            made.write_into(new)
            derived_files.write_text(new, PRINTED, as_text(made.parts))
            parquet.write(new, run.folder, len(run.rows), run.record["schema"])
            files = sorted({file.name for folder in (run.folder, new) for file in folder.iterdir()})
            derived_files.write_text(new, PAGE, html.render(made.page(files)))
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


def _write_trace(folder: Path) -> str:
    """Write the run's trace into its folder; return where to open it and what it leaves out."""
    from harness.report import trace
    from harness.results import derived_files, store

    run = store.read(folder)
    with derived_files.replacing(folder, stage="report") as new:
        left_out = trace.write(new, run)
    path = folder / trace.NAME
    opened = f'Open it at {trace.VIEWER} with "Open trace file". {left_out}'.rstrip()
    return f"Trace: {path} ({path.stat().st_size / 1e6:.1f} MB)\n{opened}"
