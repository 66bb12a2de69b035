"""`execbench faults`."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness.commands import flags
from harness.commands.terminal import console, print_json, print_message
from harness.errors import UsageError
from harness.wire.panel import Panel

if TYPE_CHECKING:
    from harness.evidence.faults.records import FaultRow
    from harness.evidence.faults.saved import Saved
    from harness.plans.arm import Arm


EXAMPLES = (
    "execbench faults --strategy thread --strategy supervised:workers=2",
    "execbench faults --fault kill-running --strategy process",
    "execbench faults --storm --workload embed --out storm.md",
    "execbench faults --from storm.csv",
)


def faults(
    strategy: flags.Strategies = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Inject only this fault (see --list). Repeatable.", rich_help_panel="Faults"
        ),
    ] = None,
    storm: Annotated[
        bool, typer.Option("--storm", help="Inject only overload and kill-storm.", rich_help_panel="Faults")
    ] = False,
    workload: Annotated[
        Literal["synthetic", "embed"] | None,
        typer.Option(
            metavar="synthetic|embed",
            help="Run this model; embed for kill-storm only [synthetic].",
            rich_help_panel=Panel.MODEL,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="PAGE.md",
            help="Write this page, and its picture and rows next to it.",
            rich_help_panel=Panel.OUTPUT,
        ),
    ] = None,
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE.csv",
            help="Make the page again from these rows; inject none.",
            rich_help_panel=Panel.OUTPUT,
        ),
    ] = None,
    list_: Annotated[
        bool, typer.Option("--list", help="Show the faults; inject none.", rich_help_panel=Panel.OUTPUT)
    ] = False,
    as_json: flags.AsJson = False,
) -> None:
    """Inject faults, such as kills and overload, into each strategy; all take half an hour."""
    from harness.evidence.faults import arms, page
    from harness.evidence.faults.records import empty_row
    from harness.evidence.faults.saved import Saved
    from harness.evidence.page import made

    if from_ is not None:
        _refuse_beside_from(strategy, fault, storm, workload, list_)
        _again(from_, out, as_json=as_json)
        return
    chosen = _chosen(fault or [], storm=storm, workload=workload)
    if list_:
        _list(as_json=as_json)
        return
    here, absent = arms.chosen(strategy or [])
    how = made(_command(strategy or [], fault or [], storm=storm, workload=workload))
    rows: list[FaultRow] = []
    try:
        for row in _meet_all(chosen, here, workload or "synthetic"):
            rows.append(row)
    finally:
        partial = len(rows) < len(chosen) * len(here)
        rows += [empty_row(name, arm, "not available", why) for name in chosen for arm, why in absent.items()]
        if out is not None and partial:  # it never replaces a whole page
            out = out.with_stem(f"{out.stem}-partial")
        _keep(Saved(page.sorted_by_fault(rows), how, partial), out, as_json=as_json)


def _refuse_beside_from(*others: object) -> None:
    """Raise UsageError if a flag that chooses faults, strategies or a model is given."""
    if any(others):
        raise UsageError(
            "--from reads recorded rows and injects no fault.",
            stage="faults",
            hint="Leave out --strategy, --fault, --storm, --workload and --list.",
        )


def _again(rows: Path, out: Path | None, *, as_json: bool) -> None:
    """Write the page of recorded rows, by default beside them."""
    from harness.evidence.faults import saved

    _keep(saved.read(rows), out or rows.with_suffix(".md"), as_json=as_json)


def _chosen(asked: list[str], *, storm: bool, workload: str | None) -> list[str]:
    """Return names of faults. Raises UsageError for one that is unknown or needs another workload."""
    from harness.evidence.faults.catalogue import FAULTS, STORMS

    able = [name for name, fault in FAULTS.items() if fault.any_workload or workload != "embed"]
    for name in asked:
        if name not in FAULTS:
            near = [one for one in FAULTS if one.startswith(f"{name}-")] or difflib.get_close_matches(
                name, FAULTS
            )
            hint = f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(FAULTS)}."
            raise UsageError(f"There is no fault {name!r}.", stage="faults", hint=hint)
        if name not in able:
            raise UsageError(
                f"The workload 'embed' cannot have the fault {name!r}.",
                stage="faults",
                hint="Only the synthetic model can misbehave: leave --workload out.",
            )
    wanted = {*asked, *(STORMS if storm else ())} or set(FAULTS)
    return [name for name in able if name in wanted]


def _meet_all(names: list[str], here: list[Arm], workload: str) -> Iterator[FaultRow]:
    """One row after another."""
    from harness.commands.progress import Progress
    from harness.evidence.faults.catalogue import EMBED, SYNTHETIC, run_fault
    from harness.evidence.faults.site import Pace

    options, pace = SYNTHETIC, Pace()
    if workload == "embed":
        options, pace = EMBED, Pace(recovers_within_s=60.0, storm_s=60.0, storm_every_s=20.0)
    total = len(names) * len(here)
    with Progress(console(stderr=True)) as progress:
        for number, (name, arm) in enumerate(((name, arm) for name in names for arm in here), 1):
            progress.stage(f"{number}/{total}: {name}, {arm.name}")
            yield run_fault(name, arm, options, pace)


def _command(strategies: list[str], names: list[str], *, storm: bool, workload: str | None) -> str:
    words = [*(f"--strategy {text}" for text in strategies), *(f"--fault {name}" for name in names)]
    words += ["--storm"] if storm else []
    words += [f"--workload {workload}"] if workload else []
    return " ".join(["execbench faults", *words])


def _keep(saved: Saved, out: Path | None, *, as_json: bool) -> None:
    """Write and show these rows."""
    from harness.evidence.faults.records import FaultRow
    from harness.evidence.faults.saved import write
    from harness.evidence.frames import frame
    from harness.evidence.page import as_json as document

    if out is not None:
        write(out, saved)
        print_message(f"Written: {out}, its picture (.svg) and its rows (.csv)")
    if as_json:
        print_json(document(saved.how, frame(FaultRow, saved.rows), partial=saved.partial))
        return
    for fault in dict.fromkeys(row.fault for row in saved.rows):
        console().print(_table(fault, [row for row in saved.rows if row.fault == fault]))


def _table(fault: str, rows: list[FaultRow]) -> Any:
    from rich.text import Text

    from harness.commands.screen import folding, spaced
    from harness.evidence.faults import page

    table = spaced(fault, *map(folding, ("arm", "outcome", "details")))
    for row in rows:
        style = "red" if row.outcome in page.BAD else ""
        table.add_row(Text(row.arm), Text(page.cell(row), style=style), Text(page.details(row)))
    return table


def _list(*, as_json: bool) -> None:
    from rich.table import Table

    from harness.evidence.faults.catalogue import FAULTS

    if as_json:
        print_json({name: fault.summary for name, fault in FAULTS.items()})
        return
    table = Table("fault", "injects", box=None, pad_edge=False)
    for name, fault in FAULTS.items():
        table.add_row(name, fault.summary)
    console().print(table)
