"""Resume an interrupted run, but only with the same plan, code and environment."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from harness import environment, workloads
from harness.errors import HarnessError
from harness.plans import plan_checks, plan_files
from harness.plans.plan import Plan
from harness.results import record_schema, store
from harness.run.record import Checkpoint
from harness.wire.records import PILOT_BLOCK, SCHEMA_VERSION


def reopen(folder: Path, wanted: Plan | None = None) -> tuple[Plan, store.Writer, Checkpoint]:
    """Return the plan of the run in `folder`, a writer that appends to it, and its state.

    Raises HarnessError if the run is finished, has no plan, is a capacity run or a choice by halving, or if
    the code, the environment or the plan `wanted` differ; the message names the differences.
    """
    run = store.read(folder)
    for what, hint in _record_obstacles(run):
        raise HarnessError(what, stage="resume", hint=hint)
    recorded_plan = plan_files.restore(run.record["plan"])
    plan = wanted or recorded_plan  # they differ at most in headers, which are not recorded, and in pids
    for what, hint in itertools.chain(
        _plan_obstacles(recorded_plan, plan, folder), _environment_obstacles(plan, run)
    ):
        raise HarnessError(what, stage="resume", hint=hint)
    done = frozenset(run.trials[["block", "arm", "load"]].itertuples(index=False, name=None))
    finished = run.trials["trial"].tolist()
    checkpoint = Checkpoint(run.record, done, max(finished, default=0))
    return plan, store.Writer.reopen(folder, finished), checkpoint


Obstacle = tuple[str, str]  # a reason not to resume, and a hint


def _record_obstacles(run: store.Run) -> Iterator[Obstacle]:
    if run.record.get("state") == "finished":
        yield (
            f"{run.folder} is finished: {len(run.trials)} trials.",
            f"`execbench report {run.folder}` shows it.",
        )
    if "capacity" in run.record:  # its plan does not contain the rates
        yield (
            f"{run.folder} is a capacity run, which cannot be resumed: each rate depends on earlier results.",
            f"`execbench report {run.folder}` shows the finished part; `execbench capacity` starts again.",
        )
    if "halving" in run.record:
        yield (
            f"{run.folder} is a run of `sweep --slo`, which cannot be resumed: its time has passed.",
            f"`execbench report {run.folder}` shows the finished part; `execbench sweep` starts again.",
        )
    if run.record["schema"] != SCHEMA_VERSION:
        yield f"{run.folder} has an older layout, which can be read but not resumed.", ""
    if not run.record.get("plan"):
        yield f"{run.folder} was not made from a plan, so it cannot be resumed.", ""
    if damage := record_schema.fault(run.record, record_schema.Resumable):
        yield f"{run.folder} cannot be resumed: run.json is damaged: {damage}.", ""


def _plan_obstacles(recorded_plan: Plan, wanted: Plan, folder: Path) -> Iterator[Obstacle]:
    """Raises HarnessError if a header of the plan cannot be sent any more."""
    pids = {"arms": {"__all__": {"pid"}}}  # a restarted server has new process IDs
    old, new = (one.model_dump(mode="json", exclude=pids) for one in (recorded_plan, wanted))
    if found := [f"{key} {new[key]} instead of {old[key]}" for key in old if old[key] != new[key]]:
        yield (
            f"The given plan differs from the plan of {folder}: {', '.join(found)}.",
            "--resume without a plan continues with the plan of the run.",
        )
    if wanted.has_foreign_servers:
        plan_checks.check_headers(wanted.ask, stage="resume")


def _environment_obstacles(plan: Plan, run: store.Run) -> Iterator[Obstacle]:
    """Changes of the environment, the arms, the files or the code since the run began."""
    if found := environment.differences(run.record["environment"], environment.collect()):
        yield (
            f"{run.folder} cannot be resumed here, because the environment differs: {'; '.join(found)}.",
            "Blocks of two environments are not one run. Start a new run, or restore the environment.",
        )
    planned = {(cell.arm.name, str(cell.law)) for cell in plan.cells()}
    trials = run.trials[run.trials["block"] > PILOT_BLOCK]
    for arm, load in zip(trials["arm"], trials["load"], strict=True):
        if (arm, load) not in planned:
            yield (
                f"{run.folder} has a trial of arm {arm!r} under {load} that is no longer in its plan.",
                "Restore the plan in run.json, or start a new run.",
            )
    yield from _schedule_obstacles(plan, run)
    if workloads.payloads_sha256(plan.workload) != run.record.get("payloads_sha256"):
        yield (
            f"The file of texts {plan.workload.payloads} has changed since {run.folder} was started.",
            "Restore it, or start a new run.",
        )
    code = workloads.source_sha256(plan.workload)
    for about in [(arm.get("about") or {}) for arm in (run.record.get("arms") or {}).values()]:
        if about.get("source_sha256", code) != code:
            yield (
                f"The workload {plan.workload.name} has changed since {run.folder} was started.",
                "Restore it, or start a new run.",
            )


def _schedule_obstacles(plan: Plan, run: store.Run) -> Iterator[Obstacle]:
    for law in plan.arrivals:
        for block, digest in run.record.get("schedules", {}).get(str(law), {}).items():
            if plan.load_options("", law, int(block)).schedule != digest:
                yield (
                    f"The schedule of {law} has changed since {run.folder} was started (block {block}).",
                    "Restore the file that it replays, or start a new run.",
                )
