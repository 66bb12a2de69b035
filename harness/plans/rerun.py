"""Read a plan from the folder of an earlier run, as it is or changed by flags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness import workloads
from harness.errors import HarnessError, UsageError
from harness.plans import from_flags, grid, plan_files
from harness.plans.from_flags import Flags
from harness.plans.plan import Plan
from harness.results import store
from harness.wire import sending
from harness.wire.options import REVEALED, WorkloadOptions, is_own
from harness.workloads.io import kinds

Data = dict[str, Any]

# what `run` and `capacity` both tell servers and the load generator; loads, windows and blocks are their own
_OF_BOTH = (
    "arms",
    "ask",
    "cap",
    "delta_latency",
    "delta_throughput",
    "exclude",
    "pin",
    "ping_per_s",
    "probes",
    "reference",
    "route",
    "seed",
    "self_check",
    "timeout_s",
    "transport",
    "warmup_per_client",
    "workload",
)


def is_folder(name: str) -> bool:
    """Whether PLAN is the folder of a run rather than a plan's name or file."""
    try:
        return name not in plan_files.names() and store.is_folder(Path(name))
    except HarnessError:  # the path cannot be looked at
        return False


def read(folder: Path) -> Data:
    """The record of a run that has a plan; UsageError for any other, and for what is no run or damaged."""
    try:
        record = store.read_record(folder)
    except HarnessError as error:
        raise UsageError(error.what, stage="plan", hint=error.hint) from error
    if not record.get("plan"):
        url = (record.get("load") or {}).get("url") or "URL"
        raise UsageError(
            f"{folder} is a run of `execbench load`, which has no plan.",
            stage="plan",
            hint=f"Send the load again with `execbench load {url}`, or make a plan: "
            f"`execbench run --url NAME={url}`.",
        )
    return record


def whole(record: Data, flags: Flags) -> Plan:
    """The plan of a run with what the flags say in its place. A sweep of which arms are chosen is none."""
    return servers(record, flags) if "capacity" in record else _changed(record["plan"], flags)


def servers(record: Data, flags: Flags) -> Plan:
    """A plan of flags, with the arms of a run and all that its servers and its load generator were told."""
    kept = {key: record["plan"][key] for key in _OF_BOTH if key in record["plan"]}
    return _changed({**from_flags.WITHOUT_PLAN, "concurrency": [8], **kept}, flags)


def _changed(recorded: Data, flags: Flags) -> Plan:
    try:
        plan = plan_files.restore(recorded)
    except HarnessError as error:
        raise UsageError(error.what, stage="plan", hint="The version that wrote it can run it.") from error
    for axis, values in plan.sweep.axes.items() if plan.sweep else ():
        grid.refuse_fixed(axis, values, flags.model_copy(update={"strategies": ()}))
    said = plan.model_dump(exclude_defaults=True, context=REVEALED)
    said["workload"] = _said(plan.workload, flags.workload.get("name", plan.workload.name))
    if plan.runs_elsewhere:
        flags = _with_headers(plan, flags)
    return from_flags.override(plan_files.restore(said), flags, adds_strategies=True)


def _said(workload: WorkloadOptions, name: str) -> Data:
    """What a plan has to say of the workload: a record has every default, and a default may be refused.

    No I/O where the workload that will run, called `name`, has its own.
    """
    said = {"name": workload.name, **workload.model_dump(exclude_defaults=True)}
    if is_own(workload.name) and kinds.takes_ms(workload.io):
        said |= {"io_ms": workload.io_ms}  # of its own kind, its default is none
        if (workload.io, workload.io_ms) == ("sleep", 0.0):
            del said["io_ms"]
    if workloads.has_io(name):
        return {key: said[key] for key in said.keys() - workloads.IO_OPTIONS}
    return said


def _with_headers(plan: Plan, flags: Flags) -> Flags:
    """With the headers of the run that are not given again; UsageError for a secret, which was not kept."""
    given = flags.ask.get("headers", [])
    names = {name.lower() for name, _ in given}
    kept = [header for header in plan.ask.headers if header[0].lower() not in names]
    if lost := [name for name, value in kept if value == sending.REDACTED]:
        raise UsageError(
            f"What the header {lost[0]} held is secret and was not kept with the run.",
            stage="plan",
            hint=f"Give it again: --header '{lost[0]}: …' (${{NAME}} in it is read from the environment).",
        )
    return flags.model_copy(update={"ask": {**flags.ask, "headers": [*kept, *given]}})
