"""Going on with a killed run: to the same plan, by the same code, in the same environment, or not at all."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from harness import environment, workloads
from harness.analysis import summaries
from harness.errors import HarnessError
from harness.plans import plan_checks, plan_files
from harness.plans.plan import Plan
from harness.results import recorded, store
from harness.run.precision import Precision
from harness.run.record import Before
from harness.wire.records import MEASURE, PILOT_BLOCK, SCHEMA_VERSION, Trial


def reopen(folder: Path, wanted: Plan | None = None) -> tuple[Plan, store.Writer, Before]:
    """The plan of the run in `folder`, a writer that appends to it, and what is done already.

    Raises HarnessError when it is finished, has no plan or is a capacity run, and when code, environment or
    the plan `wanted` (if one is given) differ, saying in what.
    """
    run = store.read(folder)
    for what, hint in _of_the_record(run):
        raise HarnessError(what, stage="resume", hint=hint)
    had = plan_files.restore(run.record["plan"])
    plan = wanted or had  # they differ at most in headers that were not written down, and in pids
    for what, hint in itertools.chain(_of_the_plan(had, plan, folder), _of_what_it_names(plan, run)):
        raise HarnessError(what, stage="resume", hint=hint)
    done = frozenset(run.trials[["block", "arm", "load"]].itertuples(index=False, name=None))
    finished = run.trials["trial"].tolist()
    before = Before(run.record, done, max(finished, default=0), _precision(plan, run))
    return plan, store.Writer.reopen(folder, finished), before


Obstacle = tuple[str, str]  # what stands in the way, and the way out


def _of_the_record(run: store.Run) -> Iterator[Obstacle]:
    if run.record.get("state") == "finished":
        yield (
            f"{run.folder} is finished: {len(run.trials)} trials.",
            f"`execbench report {run.folder}` shows it.",
        )
    if "capacity" in run.record:  # its plan says neither which rates come next nor that there are any
        yield (
            f"{run.folder} is a capacity run: each rate depends on what was seen before, so none is resumed.",
            f"`execbench report {run.folder}` shows what is finished; `execbench capacity` begins anew.",
        )
    if run.record["schema"] != SCHEMA_VERSION:
        yield f"{run.folder} has an older layout: it can be read, not resumed.", ""
    if not run.record.get("plan"):
        yield f"{run.folder} was not made from a plan, so it cannot be resumed.", ""
    if said := recorded.fault(run.record, recorded.Resumable):
        yield f"{run.folder} cannot be resumed: run.json is damaged: {said}.", ""


def _of_the_plan(had: Plan, wanted: Plan, folder: Path) -> Iterator[Obstacle]:
    """HarnessError when headers cannot be sent any more."""
    pids = {"arms": {"__all__": {"pid"}}}  # a server that was started anew has others
    old, new = (one.model_dump(mode="json", exclude=pids) for one in (had, wanted))
    if found := [f"{key} {new[key]} instead of {old[key]}" for key in old if old[key] != new[key]]:
        yield (
            f"The plan asked for differs from the plan of {folder}: {', '.join(found)}.",
            "--resume alone goes on with the plan of the run.",
        )
    if wanted.has_running_servers:
        plan_checks.check_headers(wanted.ask, stage="resume")


def _of_what_it_names(plan: Plan, run: store.Run) -> Iterator[Obstacle]:
    """Environment, arms, files and code: a plan names them, and they must be what they were."""
    if found := environment.differences(run.record["environment"], environment.collect()):
        yield (
            f"{run.folder} cannot be resumed here; this differs: {'; '.join(found)}.",
            "Blocks of two environments are not one run. Run the plan anew, or restore what differs.",
        )
    planned = {(cell.arm.name, str(cell.law)) for cell in plan.cells()}
    trials = run.trials[run.trials["block"] > PILOT_BLOCK]
    for arm, load in zip(trials["arm"], trials["load"], strict=True):
        if (arm, load) not in planned:
            yield (
                f"{run.folder} has a trial of arm {arm!r} under {load} that is not in its plan any more.",
                "Restore the plan in run.json, or run the new one from the start.",
            )
    yield from _other_schedules(plan, run)
    if workloads.payloads_sha256(plan.workload) != run.record.get("payloads_sha256"):
        yield (
            f"The file of texts {plan.workload.payloads} is not what it was in {run.folder}.",
            "Restore it, or run the plan anew.",
        )
    code = workloads.source_sha256(plan.workload)
    for about in [(arm.get("about") or {}) for arm in (run.record.get("arms") or {}).values()]:
        if about.get("source_sha256", code) != code:
            yield (
                f"The workload {plan.workload.name} is not what it was in {run.folder}.",
                "Restore it, or run the plan anew.",
            )


def _other_schedules(plan: Plan, run: store.Run) -> Iterator[Obstacle]:
    for law in plan.arrivals:
        for block, digest in run.record.get("schedules", {}).get(str(law), {}).items():
            if plan.load_options("", law, int(block)).schedule != digest:
                yield (
                    f"The schedule of {law} is not what it was in {run.folder} (block {block}).",
                    "Restore the file that it replays, or run the plan anew.",
                )


def _precision(plan: Plan, run: store.Run) -> Precision:
    """As if the finished trials had just been run."""
    precision = Precision.for_plan(plan)
    derived = summaries.derive(run.requests, run.trials)
    rows = derived[derived["phase"] == MEASURE]
    latency = rows["latency_ms"].where(rows["ok"], float("inf"))
    medians = latency.groupby(rows["trial"]).median()
    for cells in run.trials.to_dict("records"):
        trial = Trial(**{str(name): value for name, value in cells.items()})
        precision.note_median(trial, float(medians.get(trial.trial, float("inf"))))
    return precision
