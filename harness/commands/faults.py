"""`execbench faults`."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness.commands import completion, flags
from harness.commands.terminal import console, print_json, print_message
from harness.errors import UsageError
from harness.wire.panel import Panel

if TYPE_CHECKING:
    from harness.evidence.faults.records import FaultRow
    from harness.evidence.faults.saved import Saved
    from harness.evidence.faults.targets import Chosen, Target
    from harness.plans.from_flags import Flags
    from harness.plans.settings import Known


EXAMPLES = (
    "execbench faults --strategy thread --strategy supervised:workers=2",
    "execbench faults --fault kill-running --strategy process",
    "execbench faults --command mine='node server.js {port}' --path /embed --ready /health",
    "execbench faults --storm --workload embed --out storm.md",
    "execbench faults --from storm.csv",
)


def _is_about_requests(one: Known) -> bool:
    """Whether a setting says how commands are asked. No fault pings them."""
    from harness.wire.server_command import ONLY_OF_COMMANDS

    return (one.section == "ask" and one.name != "ping_path") or (
        one.section == "arm" and one.name in ONLY_OF_COMMANDS
    )


@flags.with_settings
def faults(
    *,
    plan: Annotated[
        str | None,
        typer.Argument(
            metavar="PLAN",
            help="Name or TOML file of a plan: test its arms.",
            autocompletion=completion.plans,
        ),
    ] = None,
    strategy: flags.Strategies = None,
    command: flags.Commands = None,
    ready: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="A GET of this path gets a 2xx if the command can serve; for the fault health.",
            rich_help_panel=Panel.RUNNING,
        ),
    ] = None,
    given: Flags = flags.settings(_is_about_requests, stage="faults"),
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
    """Inject faults, such as kills and overload, into servers; all take half an hour for all strategies.

    Without PLAN and --command, the servers are those of all strategies. A command can have those faults that
    need only its processes, signals and HTTP; --list shows them. With PLAN, --strategy selects arms.
    """
    from harness.evidence.faults import page, targets
    from harness.evidence.faults.records import empty_row
    from harness.evidence.faults.saved import Saved
    from harness.evidence.page import made

    arm = given.arm if ready is None else {**given.arm, "ready": ready}
    given = given.but(strategies=tuple(strategy or ()), commands=tuple(command or ()), arm=arm)
    if from_ is not None:
        _refuse_beside_from(plan, given != type(given)(), fault, storm, workload, list_)
        _again(from_, out, as_json=as_json)
        return
    wanted = _wanted(fault or [], storm=storm, workload=workload)
    if list_:
        _list(as_json=as_json)
        return
    found = targets.chosen(plan, given)
    names = _chosen(fault or [], wanted, found, workload)
    how = made(made_by(plan, given, fault or [], storm=storm, workload=workload))
    _check(found.targets)
    rows: list[FaultRow] = []
    try:
        for row in _meet_all(names, found.targets, workload or "synthetic"):
            rows.append(row)
    finally:
        partial = len(rows) < len(names) * len(found.targets)
        rows += [
            empty_row(name, arm, "not available", why) for name in names for arm, why in found.absent.items()
        ]
        if out is not None and partial:  # it never replaces a whole page
            out = out.with_stem(f"{out.stem}-partial")
        _keep(Saved(page.sorted_by_fault(rows), how, partial), out, as_json=as_json)


def _refuse_beside_from(*others: object) -> None:
    """Raise UsageError if anything is given that chooses faults, servers or a model."""
    if any(others):
        raise UsageError(
            "--from reads recorded rows and injects no fault.",
            stage="faults",
            hint="Leave out the plan, --strategy, --command, --fault, --storm, --workload and --list.",
        )


def _again(rows: Path, out: Path | None, *, as_json: bool) -> None:
    """Write the page of recorded rows, by default beside them."""
    from harness.evidence.faults import saved

    _keep(saved.read(rows), out or rows.with_suffix(".md"), as_json=as_json)


def _wanted(asked: list[str], *, storm: bool, workload: str | None) -> list[str]:
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


def _chosen(asked: list[str], wanted: list[str], found: Chosen, workload: str | None) -> list[str]:
    """Return the faults to inject: those of commands alone only if there is a command, or on request."""
    from harness.evidence.faults.catalogue import FAULTS

    if workload is not None and all(target.request is not None for target in found.targets):
        raise UsageError(
            "--workload is about strategies: a command runs its own model.",
            stage="faults",
            hint="Leave --workload out.",
        )
    return [name for name in wanted if FAULTS[name].run or found.have_commands or name in asked]


def _check(found: list[Target]) -> None:
    """Raise HarnessError for a command that does not start, or does not answer as it should."""
    from harness.evidence.faults import command_faults
    from harness.evidence.faults.site import Pace

    for target in found:
        if target.request is not None:
            command_faults.check(target.arm, target.request, Pace())


def _meet_all(names: list[str], found: list[Target], workload: str) -> Iterator[FaultRow]:
    """One row after another."""
    from harness.commands.progress import Progress
    from harness.evidence.faults import catalogue, command_faults
    from harness.evidence.faults.site import Pace

    options, pace = catalogue.SYNTHETIC, Pace()
    if workload == "embed":
        options, pace = catalogue.EMBED, Pace(recovers_within_s=60.0, storm_s=60.0, storm_every_s=20.0)
    cells = [(name, target) for name in names for target in found]
    with Progress(console(stderr=True)) as progress:
        for number, (name, (arm, request)) in enumerate(cells, 1):
            progress.stage(f"{number}/{len(cells)}: {name}, {arm.name}")
            if request is None:
                yield catalogue.run_fault(name, arm, options, pace)
            else:
                yield command_faults.run_fault(name, arm, request, pace)


def made_by(plan: str | None, given: Flags, names: list[str], *, storm: bool, workload: str | None) -> str:
    """Return the command that makes the same rows; it shows no value of a header."""
    words = [] if plan is None else [plan]
    words += [word for text in given.strategies for word in ("--strategy", text)]
    words += [word for text in given.commands for word in ("--command", text)]
    words += _words_of_requests(given)
    words += [word for name in names for word in ("--fault", name)]
    words += ["--storm"] if storm else []
    words += ["--workload", workload] if workload else []
    return " ".join(["execbench", "faults", *map(shlex.quote, words)])


def _words_of_requests(given: Flags) -> list[str]:
    """The flags that say how commands are asked."""
    from harness.plans import settings
    from harness.wire import sending

    words = [
        str(word)
        for section, values in ((settings.ARM, given.arm), (settings.ASK, given.ask))
        for name, value in values.items()
        if name != "headers"
        for word in (settings.find(name, section).flag or f"--{name}", value)
    ]
    headers = [sending.for_command(header) for header in given.ask.get("headers", ())]
    return [*words, *(word for name, value in headers for word in ("--header", f"{name}: {value}"))]


def _keep(saved: Saved, out: Path | None, *, as_json: bool) -> None:
    """Write and show these rows."""
    from harness.evidence.faults import page
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
    concerned = page.concerned(saved.rows)
    for fault in concerned:
        console().print(_table(fault, [row for row in saved.rows if row.fault == fault]))
    others = [row for row in saved.rows if row.fault not in concerned]
    for why in dict.fromkeys(row.notes for row in others):
        names = dict.fromkeys(row.fault for row in others if row.notes == why)
        console().print(f"Not applicable, as {why}: {', '.join(names)}", highlight=False)


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

    from harness.evidence.faults import command_faults
    from harness.evidence.faults.catalogue import FAULTS

    if as_json:
        print_json({name: fault.summary for name, fault in FAULTS.items()})
        return
    table = Table("fault", "injects", "commands", box=None, pad_edge=False)
    for name, fault in FAULTS.items():
        table.add_row(name, fault.summary, "yes" if command_faults.can_have(name) else "")
    console().print(table)
