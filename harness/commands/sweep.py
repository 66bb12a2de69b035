"""`execbench sweep`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands import choosing, flags
from harness.commands.run import go_on, preview, run_new
from harness.commands.terminal import print_message
from harness.errors import UsageError
from harness.wire import bounds
from harness.wire.panel import Panel

if TYPE_CHECKING:
    from harness.plans.from_flags import Flags
    from harness.plans.plan import Plan

EXAMPLES = (
    "execbench sweep --strategy process --over workers=1,2,4",
    "execbench sweep --strategy thread --strategy process --over workers=1,2 --over torch_threads=1,2 -c 16",
    "execbench sweep --strategy batch --over max_batch=8,16,32 --dry-run",
    "execbench sweep --strategy batch --over max_batch=2,4,8,16 --slo 'p95 < 100 ms' --minutes 5",
)
LEAST_MINUTES = 0.05


def _help() -> dict[str, str]:
    from harness.plans import grid

    return {"--blocks": f"Run every arm under every load this often. [{grid.BLOCKS}]"}


@flags.with_settings
def sweep(
    *,
    over: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OPTION=VALUES",
            help="Vary this option, like workers=1,2,4. Repeatable: all combinations are run.",
            rich_help_panel=Panel.COMPARE,
        ),
    ] = None,
    slo: flags.Objectives = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=LEAST_MINUTES,
            max=bounds.A_DAY_S / 60,
            metavar="N",
            help="With --slo: choose in this time. Bad settings get less of it.",
            rich_help_panel=Panel.COMPARE,
        ),
    ] = None,
    strategy: flags.Strategies = None,
    command: flags.Commands = None,
    given: Flags = flags.settings(flags.every, help=_help),
    any_size: Annotated[
        bool,
        typer.Option(
            "--any-size", help="Allow more than 64 settings and 4 hours.", rich_help_panel=Panel.COMPARE
        ),
    ] = False,
    dry_run: flags.DryRun = False,
    resume: flags.Resume = None,
    out: flags.Out = None,
    full: flags.Full = False,
    as_json: flags.AsJson = False,
) -> None:
    """Run every combination of some options, and show the best.

    Each strategy is run with the options that it takes; `execbench settings` marks them with ✓. In a command,
    an option is a name in braces, such as {workers}. The default strategy is process.

    With --slo and --minutes, choose the best combination that keeps the objectives, in a given time.
    """
    flags.refuse_full_json(full=full, as_json=as_json)
    from harness.plans import from_flags, grid

    given = given.but(strategies=tuple(strategy or ()), commands=tuple(command or ()))
    if dry_run:
        flags.refuse_resume(resume)
    if resume is not None:
        if over or slo or minutes is not None or given != from_flags.Flags():
            raise UsageError(
                "--resume continues with the settings of the run.",
                stage="resume",
                hint="Remove the other flags.",
            )
        go_on(resume, None, out, full=full, as_json=as_json)
        return
    choosing.refuse_half(slo, minutes)
    chosen = grid.plan(given, grid.axes(over or (), given.commands), allow_any_size=any_size)
    _explain_fresh(chosen, is_asked_for="fresh" in given.plan)
    if slo and minutes is not None:
        wanted = choosing.Wanted(chosen, slo, minutes, given)
        if dry_run:
            choosing.preview(wanted, as_json=as_json)
        else:
            choosing.run(wanted, out, full=full, as_json=as_json)
    elif dry_run:
        preview(chosen, as_json=as_json)
    else:
        run_new(chosen, out, full=full, as_json=as_json)


def _explain_fresh(plan: Plan, *, is_asked_for: bool) -> None:
    if plan.fresh and not is_asked_for:
        print_message(
            "Each trial starts a new server: all servers together need much memory (--resident keeps them)."
        )
