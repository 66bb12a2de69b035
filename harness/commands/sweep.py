"""`execbench sweep`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands import flag_groups, flags
from harness.commands.run import go_on, preview, run_new
from harness.commands.terminal import tell
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.plans.plan import Plan


@flags.spread
def sweep(
    *,
    over: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OPTION=VALUES", help="An axis, like workers=1,2,4; repeatable: all combinations."
        ),
    ] = None,
    strategy: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME or NAME:key=value,…; repeatable (process). It goes through the axes it takes."
        ),
    ] = None,
    measuring: flag_groups.Measuring,
    server: flag_groups.Server,
    any_size: Annotated[bool, typer.Option("--any-size", help="Run it however long it takes.")] = False,
    dry_run: flags.DryRun = False,
    resume: flags.Resume = None,
    out: flags.Out = None,
    as_json: flags.AsJson = False,
) -> None:
    """Run every combination of some options; then show the best, and what cannot be told from it."""
    from harness.plans import from_flags, grid

    said = from_flags.Flags(
        strategies=tuple(strategy or ()), **measuring.as_plan_flags(), **server.as_plan_flags()
    )
    if dry_run:
        flag_groups.refuse_resume(resume)
    if resume is not None:
        if over or said != from_flags.Flags():
            raise UsageError(
                "--resume goes on with the settings of the run.",
                stage="resume",
                hint="Leave the other flags away.",
            )
        go_on(resume, None, out, as_json=as_json)
        return
    chosen = grid.plan(said, grid.axes(over or ()), allow_any_size=any_size)
    _announce(chosen, asked_for=said.fresh)
    if dry_run:
        preview(chosen, as_json=as_json)
    else:
        run_new(chosen, out, as_json=as_json)


def _announce(plan: Plan, *, asked_for: bool | None) -> None:
    from harness.plans import grid

    said = f"Sweep: {grid.size(plan)}."
    if plan.fresh and asked_for is None:
        said += " A new server for each trial: so many at once take much memory (--resident: all stay)."
    tell(said)
