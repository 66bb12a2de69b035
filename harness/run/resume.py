"""Going on with a killed run: to the same plan, by the same code, in the same environment, or not at all."""

from __future__ import annotations

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
    _refuse_finished(run)
    _refuse_capacity(run)
    if run.record["schema"] != SCHEMA_VERSION:
        raise HarnessError(f"{folder} has an older layout: it can be read, not resumed.", stage="resume")
    if not run.record.get("plan"):
        raise HarnessError(f"{folder} was not made from a plan, so it cannot be resumed.", stage="resume")
    if said := recorded.fault(run.record, recorded.Resumable):
        raise HarnessError(f"{folder} cannot be resumed: run.json is damaged: {said}.", stage="resume")
    plan = plan_files.restore(run.record["plan"])
    _refuse_another_plan(plan, wanted, folder)
    plan = wanted or plan  # they differ at most in headers that were not written down, and in pids
    _refuse_unsendable(plan)
    _refuse_differences(run)
    _refuse_strangers(plan, run)
    _refuse_other_schedules(plan, run)
    _refuse_other_texts(plan, run)
    _refuse_other_code(plan, run)
    done = frozenset(
        (int(block), str(arm), str(load))
        for block, arm, load in zip(run.trials["block"], run.trials["arm"], run.trials["load"], strict=True)
    )
    finished = [int(trial) for trial in run.trials["trial"]]
    before = Before(run.record, done, max(finished, default=0), _precision(plan, run))
    return plan, store.Writer.reopen(folder, finished), before


def _refuse_finished(run: store.Run) -> None:
    if run.record.get("state") == "finished":
        raise HarnessError(
            f"{run.folder} is finished: {len(run.trials)} trials.",
            stage="resume",
            hint=f"`execbench report {run.folder}` shows it.",
        )


def _refuse_capacity(run: store.Run) -> None:
    """Its plan says neither which rates come next nor that there are any."""
    if "capacity" in run.record:
        raise HarnessError(
            f"{run.folder} is a capacity run: each rate depends on what was seen before, so none is resumed.",
            stage="resume",
            hint=f"`execbench report {run.folder}` shows what is finished; `execbench capacity` begins anew.",
        )


def _refuse_another_plan(plan: Plan, wanted: Plan | None, folder: Path) -> None:
    if wanted is None:
        return
    pids = {"arms": {"__all__": {"pid"}}}  # a server that was started anew has others
    had, has = (one.model_dump(mode="json", exclude=pids) for one in (plan, wanted))
    found = [f"{key} {has[key]} instead of {had[key]}" for key in had if had[key] != has[key]]
    if found:
        raise HarnessError(
            f"The plan asked for differs from the plan of {folder}: {', '.join(found)}.",
            stage="resume",
            hint="--resume alone goes on with the plan of the run.",
        )


def _refuse_unsendable(plan: Plan) -> None:
    if plan.runs_elsewhere:
        plan_checks.check_headers(plan.ask, stage="resume")


def _refuse_differences(run: store.Run) -> None:
    found = environment.differences(run.record["environment"], environment.collect())
    if found:
        raise HarnessError(
            f"{run.folder} cannot be resumed here; this differs: {'; '.join(found)}.",
            stage="resume",
            hint="Blocks of two environments are not one run. Run the plan anew, or restore what differs.",
        )


def _refuse_strangers(plan: Plan, run: store.Run) -> None:
    """Trials that the plan does not ask for: it was changed meanwhile."""
    planned = {(cell.arm.name, str(cell.law)) for cell in plan.cells()}
    trials = run.trials[run.trials["block"] > PILOT_BLOCK]
    for arm, load in zip(trials["arm"], trials["load"], strict=True):
        if (arm, load) not in planned:
            raise HarnessError(
                f"{run.folder} has a trial of arm {arm!r} under {load} that is not in its plan any more.",
                stage="resume",
                hint="Restore the plan in run.json, or run the new one from the start.",
            )


def _refuse_other_schedules(plan: Plan, run: store.Run) -> None:
    """The plan names the file of a replay; what stands in it must be the same as well."""
    for law in plan.arrivals:
        for block, digest in run.record.get("schedules", {}).get(str(law), {}).items():
            if plan.load_options("", law, int(block)).schedule != digest:
                raise HarnessError(
                    f"The schedule of {law} is not what it was in {run.folder} (block {block}).",
                    stage="resume",
                    hint="Restore the file that it replays, or run the plan anew.",
                )


def _refuse_other_texts(plan: Plan, run: store.Run) -> None:
    """The plan names the file of texts; what stands in it must be the same as well."""
    if workloads.payloads_sha256(plan.workload) != run.record.get("payloads_sha256"):
        raise HarnessError(
            f"The file of texts {plan.workload.payloads} is not what it was in {run.folder}.",
            stage="resume",
            hint="Restore it, or run the plan anew.",
        )


def _refuse_other_code(plan: Plan, run: store.Run) -> None:
    """The plan names the user's own code; it must be the same as well."""
    code = workloads.source_sha256(plan.workload)
    for arm in (run.record.get("arms") or {}).values():
        if (arm.get("about") or {}).get("source_sha256", code) != code:
            raise HarnessError(
                f"The workload {plan.workload.name} is not what it was in {run.folder}.",
                stage="resume",
                hint="Restore it, or run the plan anew.",
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
