"""`execbench check`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.commands import flags
from harness.commands.terminal import console, print_json
from harness.errors import HarnessError, UsageError
from harness.report.charts.plotting import import_matplotlib
from harness.wire.panel import Panel

if TYPE_CHECKING:
    from harness.evidence.check.bench import Check, Result


EXAMPLES = ("execbench check", "execbench check --only timeouts", "execbench check --full --with wrk")


def check(
    full: Annotated[
        bool, typer.Option("--full", help="Include slow checks (see --list).", rich_help_panel="Checks")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Run only this check. Repeatable.", rich_help_panel="Checks"),
    ] = None,
    with_: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="wrk|hey",
            help="With --full: compare with this load generator. Repeatable.",
            rich_help_panel="Checks",
        ),
    ] = None,
    list_: Annotated[
        bool, typer.Option("--list", help="Show the checks; run none.", rich_help_panel=Panel.OUTPUT)
    ] = False,
    as_json: flags.AsJson = False,
) -> None:
    """Check that the instrument measures correctly on this machine, in under 3 minutes.

    Each check runs a workload of known cost and compares the measured numbers with the truth.
    """
    import_matplotlib()
    programs = _programs(with_ or [], asked_for=full or bool(only))
    if list_:
        _show_checks(as_json=as_json)
        return
    chosen = _chosen(full, only or [])
    results = _carry_out(chosen, programs, as_json=as_json)
    failed = [result.name for result in results if not result.passed]
    if failed:
        raise HarnessError(
            f"{len(failed)} of {len(results)} checks failed: {', '.join(failed)}.",
            stage="check",
            hint="Timing checks fail on a busy machine: wait, then repeat with --only NAME (see --list).",
        )


def _programs(wanted: list[str], *, asked_for: bool) -> tuple[str, ...]:
    """Return the load generators to compare with. Raises UsageError for one that cannot be used."""
    if not wanted:
        return ()
    import shutil

    from harness.evidence.check.peers import PROGRAMS

    for name in wanted:
        if name not in PROGRAMS:
            raise UsageError(
                f"--with {name!r} is unknown.", stage="check", hint=f"There are: {', '.join(PROGRAMS)}."
            )
        if not asked_for:
            raise UsageError(f"--with {name} needs the full checks.", stage="check", hint="Add --full.")
        if shutil.which(name) is None:
            raise UsageError(
                f"The program {name} is not installed.",
                stage="check",
                hint=f"Install it with: apt-get install {name}",
            )
    return tuple(wanted)


def _chosen(full: bool, only: list[str]) -> list[Check]:
    """Return the quick checks, or all, or those named."""
    from harness.evidence.check import full as longer
    from harness.evidence.check import quick

    every = {check.name: check for check in (*quick.CHECKS, *longer.CHECKS)}
    for name in only:
        if name not in every:
            raise UsageError(
                f"There is no check {name!r}.", stage="check", hint=f"There are: {', '.join(every)}."
            )
    if only:
        return [check for name, check in every.items() if name in only]
    return list(every.values()) if full else list(quick.CHECKS)


def _carry_out(checks: list[Check], programs: tuple[str, ...], *, as_json: bool) -> list[Result]:
    """Run the checks one after another; print the finished ones also after an interruption."""
    from harness.commands.progress import Progress
    from harness.evidence.check.bench import Bench, carry_out
    from harness.evidence.check.quick import facts

    results: list[Result] = []
    machine: dict[str, float] = {}
    try:
        with Progress(console(stderr=True)) as progress:
            progress.stage("duration of sleeps on this machine")
            machine |= facts()
            with Bench(progress, programs) as bench:
                results.extend(carry_out(checks, bench))
    finally:
        _show(results, machine, as_json=as_json)
    return results


def _show(results: list[Result], machine: dict[str, float], *, as_json: bool) -> None:
    if as_json:
        print_json({"checks": [result._asdict() for result in results], "machine_ms": machine})
        return
    terminal = console()
    if results:
        terminal.print(_table(results))
    for result in results:
        if result.note:
            terminal.print(f"{result.name}: {result.note}")
    sleeps = ", ".join(f"{asked} {took:.2f}" for asked, took in machine.items())
    if sleeps:
        terminal.print(f"Median duration of sleeps on this machine, in ms: {sleeps}.")


def _table(results: list[Result]) -> Any:
    from rich.table import Column, Table
    from rich.text import Text

    heads = (("check", 18), ("goal", None), ("measured", None), ("", 4))
    table = Table(*(Column(head, width=width) for head, width in heads), box=None, pad_edge=False)
    for result in results:
        verdict = Text("pass", style="green") if result.passed else Text("FAIL", style="bold red")
        table.add_row(Text(result.name), Text(result.goal), Text(result.measured), verdict)
    return table


def _show_checks(*, as_json: bool) -> None:
    from rich.table import Table

    from harness.evidence.check import full as longer
    from harness.evidence.check import quick

    names = ("name", "summary", "seconds", "kind")
    lists = {"quick": quick.CHECKS, "full": longer.CHECKS}
    rows = [
        (check.name, check.summary, check.seconds, kind) for kind, checks in lists.items() for check in checks
    ]
    if as_json:
        print_json([dict(zip(names, row, strict=True)) for row in rows])
        return
    table = Table("name", "checks", "seconds", "", box=None, pad_edge=False)
    for name, summary, seconds, kind in rows:
        table.add_row(name, summary, f"{seconds:.0f}", kind if kind == "full" else "")
    console().print(table)
