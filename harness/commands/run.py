"""`execbench run`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands import completion, flags
from harness.commands.terminal import console, print_json, print_message
from harness.errors import HarnessError, UsageError
from harness.numbers import counted

if TYPE_CHECKING:
    from harness.plans.from_flags import Flags
    from harness.plans.plan import Plan
    from harness.results.store import Writer
    from harness.run.early_stop import Rule
    from harness.run.record import Checkpoint

EXAMPLES = (
    "execbench run --workload my_model.py --strategy thread:workers=2 --strategy process -c 8",
    "execbench run --strategy thread --command mine='uvicorn app:app --port {port}' --path /embed -c 8",
    "execbench run --url old=http://127.0.0.1:8000/ --url new=http://127.0.0.1:8001/ -c 8",
)


@flags.with_settings
def run(
    *,
    plan: Annotated[
        str | None,
        typer.Argument(
            metavar="PLAN",
            help="Name or TOML file of a plan, or folder of a run to repeat.",
            autocompletion=completion.plans,
        ),
    ] = None,
    strategy: flags.Strategies = None,
    command: flags.Commands = None,
    url: flags.Urls = None,
    url_pid: flags.UrlPids = None,
    given: Flags = flags.settings(flags.every),
    dry_run: flags.DryRun = False,
    resume: flags.Resume = None,
    out: flags.Out = None,
    full: flags.Full = False,
    as_json: flags.AsJson = False,
) -> None:
    """Compare arms under load: run a plan, save every request and show the report.

    Arms are strategies, commands or running servers. With PLAN, --strategy selects its arms.
    """
    flags.refuse_full_json(full=full, as_json=as_json)
    from harness.plans import from_flags

    given = given.but(
        strategies=tuple(strategy or ()),
        commands=tuple(command or ()),
        urls=tuple(url or ()),
        url_pids=tuple(url_pid or ()),
    )
    is_default = plan is None and given == from_flags.Flags()
    chosen = _chosen(plan, given)
    if dry_run:
        flags.refuse_resume(resume)
        preview(chosen, as_json=as_json)
    elif resume is not None:
        go_on(resume, None if is_default else chosen, out, full=full, as_json=as_json)
    else:
        run_new(chosen, out, full=full, as_json=as_json)


def _chosen(plan: str | None, given: Flags) -> Plan:
    from harness.plans import from_flags, plan_files, rerun

    if plan is None:
        return from_flags.from_flags(given)
    if rerun.is_folder(plan):
        return rerun.whole(rerun.read(Path(plan)), given)
    return from_flags.override(plan_files.load(plan), given)


def preview(plan: Plan, *, as_json: bool) -> None:
    """Show what the plan would do; start nothing."""
    from harness.plans import size as sizes

    _warn_of_few_blocks(plan)
    size = sizes.of_plan(plan)
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
        f"Model: {plan.workload.name}; I/O: {plan.workload.io}"
        if plan.has_strategies
        else "Model and I/O: each server's own",
        f"{counted(plan.blocks, 'block')}, {counted(size.trials, 'trial')}, {size.duration}.",
        "Nothing was started.",
    ):
        console().print(line, soft_wrap=True)


def run_new(plan: Plan, out: Path | None, *, full: bool, as_json: bool) -> None:
    """Run the plan into a new folder, and show its report."""
    from harness.plans import size
    from harness.results import store

    print_message(f"{size.in_words(plan)}.")
    _run_plan(plan, store.Writer(out or store.default_folder(plan.name)), None, full=full, as_json=as_json)


def go_on(folder: Path, wanted: Plan | None, out: Path | None, *, full: bool, as_json: bool) -> None:
    """Run what an interrupted run has left, if its plan is the one wanted (None: any)."""
    from harness.run import resume

    if out is not None:
        raise UsageError("--resume continues in the run's own folder: remove --out.", stage="resume")
    plan, writer, checkpoint = resume.reopen(folder, wanted)
    _run_plan(plan, writer, checkpoint, full=full, as_json=as_json)


def _run_plan(
    plan: Plan, writer: Writer, checkpoint: Checkpoint | None, *, full: bool, as_json: bool
) -> None:
    from harness.commands.progress import Progress
    from harness.run import session as running

    _warn_of_few_blocks(plan)
    try:
        with Progress(console(stderr=True)) as progress:
            trials = running.run(plan, writer, progress, checkpoint, rule=_rule(plan))
    except (KeyboardInterrupt, HarnessError):
        keep_what_is_finished(writer, resumable=True)
        raise
    show_all(writer, full=full, as_json=as_json)
    broken = _broken_downstream(writer)
    bad = [trial for trial in trials if trial.state != "ok"]
    if bad:
        states = ["failed" if trial.state == "failed" else "are invalid" for trial in bad]
        raise HarnessError(
            f"{len(bad)} of {len(trials)} trials {' or '.join(dict.fromkeys(states))}, "
            f"the first: {bad[0].error}",
            stage="run",
            hint=broken or f"The report shows the others. {where_to_look(writer)}",
        )
    if broken:
        raise HarnessError(broken, stage="io", hint=f"All rows are kept. {where_to_look(writer)}")
    if plan.left_out:
        raise HarnessError(
            f"Left out: {'; '.join(f'{arm}, as {reason}' for arm, reason in plan.left_out.items())}.",
            stage="run",
            hint="The other arms have run.",
        )


def _rule(plan: Plan) -> Rule | None:
    """Return when the plan may stop early; None if it runs all of its blocks."""
    from harness.run.early_stop import Rule
    from harness.verdicts import settled

    looks = settled.planned(plan.model_dump(mode="json"))
    return looks and Rule(looks, settled.look)


def _warn_of_few_blocks(plan: Plan) -> None:
    """Warn on stderr if the plan has too few blocks for a verdict."""
    from harness.analysis.stats import FEWEST_BLOCKS_FOR_VERDICT

    if plan.blocks >= FEWEST_BLOCKS_FOR_VERDICT or len(plan.arms) < 2:
        return
    print_message(
        f"{counted(plan.blocks, 'block')} will give no verdict: use at least {FEWEST_BLOCKS_FOR_VERDICT} "
        f"(--blocks {FEWEST_BLOCKS_FOR_VERDICT})."
    )


def _broken_downstream(writer: Writer) -> str:
    """Say in a sentence that the I/O has failed; return "" if it has not."""
    found = writer.record.get("downstream")
    if not found:
        return ""
    failed = f"{found['requests']} requests failed in their I/O, the first: {found['first']}."
    return " ".join([*([failed] if found["requests"] else []), *found["died"]])


def where_to_look(writer: Writer) -> str:
    """Say which file has more about the failure."""
    from harness.wire.records import has_logs

    if has_logs(writer.record):
        return f"Logs of the servers: {writer.folder / 'logs'}"
    return f"Each request's error: {writer.folder / 'requests.csv'}"


def show_all(writer: Writer, *, full: bool, as_json: bool) -> None:
    """Make and show the report. If that is interrupted, say where the rows are."""
    from harness.commands.report import show

    try:
        show(writer.folder, full=full, as_json=as_json)
    except KeyboardInterrupt:
        print_message(f"All rows are in {writer.folder}. Make the report with `{_report(writer)}`.")
        raise


def keep_what_is_finished(writer: Writer, *, resumable: bool = False) -> None:
    """Keep the finished trials and say where they are; remove a folder without any trial."""
    if not writer.trials:
        writer.discard()
        return
    if not writer.folder.exists():
        return
    print_message(f"Finished trials are kept. Show them with `{_report(writer)}`.")
    if resumable:
        print_message(f"Continue with `execbench run --resume {shlex.quote(str(writer.folder))}`.")


def _report(writer: Writer) -> str:
    return f"execbench report {shlex.quote(str(writer.folder))}"
