"""`execbench run`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands import flag_groups, flags
from harness.commands.terminal import console, print_json, tell
from harness.errors import HarnessError, UsageError
from harness.numbers import counted

if TYPE_CHECKING:
    from harness.plans.from_flags import Flags
    from harness.plans.plan import Plan
    from harness.results.store import Writer
    from harness.run.record import Checkpoint


@flags.spread
def run(
    *,
    plan: Annotated[
        str | None,
        typer.Argument(
            help="A plan's name, its TOML file, or the folder of a run, to run it again; else flags make one."
        ),
    ] = None,
    strategy: flags.Strategies = None,
    url: flags.Urls = None,
    url_pid: flags.UrlPids = None,
    asking: flag_groups.Asking,
    ping_path: flags.PingPath = None,
    measuring: flag_groups.Measuring,
    server: flag_groups.Server,
    dry_run: flags.DryRun = False,
    resume: flags.Resume = None,
    out: flags.Out = None,
    as_json: flags.AsJson = False,
) -> None:
    """Run a plan: every strategy, or --url, under every load, in blocks of random order; then show it."""
    from harness.plans import from_flags

    said = from_flags.Flags(
        strategies=tuple(strategy or ()),
        urls=tuple(url or ()),
        url_pids=tuple(url_pid or ()),
        ask=asking.as_request(ping_path=ping_path),
        **measuring.as_plan_flags(),
        **server.as_plan_flags(),
    )
    said_something = plan is not None or said != from_flags.Flags()
    chosen = _chosen(plan, said)
    if dry_run:
        flag_groups.refuse_resume(resume)
        preview(chosen, as_json=as_json)
    elif resume is not None:
        go_on(resume, chosen if said_something else None, out, as_json=as_json)
    else:
        run_new(chosen, out, as_json=as_json)


def _chosen(plan: str | None, said: Flags) -> Plan:
    """What PLAN and the flags ask for."""
    from harness.plans import from_flags, plan_files, rerun

    if plan is None:
        return from_flags.from_flags(said)
    if rerun.is_folder(plan):
        return rerun.whole(rerun.read(Path(plan)), said)
    return from_flags.override(plan_files.load(plan), said)


def preview(plan: Plan, *, as_json: bool) -> None:
    """Show what the plan would do, and start nothing."""
    from harness.plans import grid

    _warn_of_few_blocks(plan)
    size = grid.size(plan)
    arms = [arm.name for arm in plan.every_arm]
    loads = [str(law) for law in plan.laws]
    if as_json:
        facts = {"arms": arms, "loads": loads, "blocks": plan.blocks, "trials": size.trials}
        print_json({**facts, "about_s": round(size.seconds), "plan": plan.model_dump(mode="json")})
        return
    for line in (
        f"Plan {plan.name}" + (f": {plan.summary}" if plan.summary else ""),
        f"Arms: {', '.join(arms)}",
        f"Loads: {', '.join(loads)}",
        f"{counted(plan.blocks, 'block')}, {size.trials} trials, about {size.long}.",
        "Nothing was started.",
    ):
        console().print(line, soft_wrap=True)


def run_new(plan: Plan, out: Path | None, *, as_json: bool) -> None:
    """Run the plan into a new folder and show what came of it."""
    from harness.results import store

    _run_plan(plan, store.Writer(out or store.default_folder(plan.name)), None, as_json=as_json)


def go_on(folder: Path, wanted: Plan | None, out: Path | None, *, as_json: bool) -> None:
    """Run what a killed run has left to do, if its plan is the one wanted (None: its own)."""
    from harness.run import resume

    if out is not None:
        raise UsageError("--resume goes on in the run's own folder: leave --out away.", stage="resume")
    plan, writer, checkpoint = resume.reopen(folder, wanted)
    _run_plan(plan, writer, checkpoint, as_json=as_json)


def _run_plan(plan: Plan, writer: Writer, checkpoint: Checkpoint | None, *, as_json: bool) -> None:
    from harness.commands.progress import Progress
    from harness.run import session as running

    _warn_of_few_blocks(plan)
    try:
        with Progress(console(stderr=True)) as progress:
            trials = running.run(plan, writer, progress, checkpoint)
    except (KeyboardInterrupt, HarnessError):
        keep_what_is_finished(writer, resumable=True)
        raise
    show_all(writer, as_json=as_json)
    broken = _broken_downstream(writer)
    spoilt = [trial for trial in trials if trial.state != "ok"]
    if spoilt:
        said = ["failed" if trial.state == "failed" else "are invalid" for trial in spoilt]
        kinds = " or ".join(dict.fromkeys(said))
        raise HarnessError(
            f"{len(spoilt)} of {len(trials)} trials {kinds}, the first: {spoilt[0].error}",
            stage="run",
            hint=broken or f"The others are kept and shown. {where_to_look(writer)}",
        )
    if broken:
        raise HarnessError(broken, stage="io", hint=f"Every row is kept. {where_to_look(writer)}")


def _warn_of_few_blocks(plan: Plan) -> None:
    """Say on stderr when no verdict can come of the plan's blocks."""
    from harness.analysis.stats import FEWEST_BLOCKS

    if plan.blocks >= FEWEST_BLOCKS or len(plan.arms) < 2:
        return
    tell(
        f"No verdict can come of {counted(plan.blocks, 'block')}: it takes {FEWEST_BLOCKS} "
        f"(--blocks {FEWEST_BLOCKS})."
    )


def _broken_downstream(writer: Writer) -> str:
    """That what requests await has failed, in a sentence; empty when it has not."""
    found = writer.record.get("downstream")
    if not found:
        return ""
    failed = f"{found['requests']} requests failed by what they await, the first: {found['first']}."
    return " ".join([*([failed] if found["requests"] else []), *found["died"]])


def where_to_look(writer: Writer) -> str:
    """Where more is said of what went wrong."""
    from harness.wire.records import has_logs

    if has_logs(writer.record):
        return f"Logs of the servers: {writer.folder / 'logs'}"
    return f"Each request's error: {writer.folder / 'requests.csv'}"


def show_all(writer: Writer, *, as_json: bool) -> None:
    """Make and show the report; if that is interrupted, say where the rows are."""
    from harness.commands.report import show

    try:
        show(writer.folder, as_json=as_json)
    except KeyboardInterrupt:
        tell(f"Every row is kept in {writer.folder}; `{_report(writer)}` makes the report.")
        raise


def keep_what_is_finished(writer: Writer, *, resumable: bool = False) -> None:
    """And say where it is; a folder without any trial would only be in the way of the next attempt."""
    if not writer.trials:
        writer.discard()
        return
    if not writer.folder.exists():
        return
    said = f"Finished trials are kept; `{_report(writer)}` shows them"
    said += f", `execbench run --resume {shlex.quote(str(writer.folder))}` goes on." if resumable else "."
    tell(said)


def _report(writer: Writer) -> str:
    return f"execbench report {shlex.quote(str(writer.folder))}"
