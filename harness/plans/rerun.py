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
from harness.wire.load_options import REVEALED
from harness.wire.options import IO_OPTIONS, WorkloadOptions
from harness.wire.spelling import is_own
from harness.workloads.io import kinds

Data = dict[str, Any]

# the loads, the windows and the report of a plan; `capacity` has its own, and takes the rest from a run
_OF_RUNS_ALONE = frozenset(
    {"name", "summary", "notes", "concurrency", "arrivals", "requests", "requests_per_user", "duration_s"}
    | {"settle_s", "open_duration_s", "open_settle_s", "open_every", "own_users"}
    | {"blocks", "until", "precision"}
    | {"twin", "fresh", "limit", "limit_s", "ranking", "claims", "sweep", "think", "left_out"}
)
_OF_BOTH = Plan.model_fields.keys() - _OF_RUNS_ALONE


def is_folder(name: str) -> bool:
    """Say whether PLAN is the folder of a run rather than the name or file of a plan."""
    try:
        return name not in plan_files.names() and store.is_folder(Path(name))
    except HarnessError:  # the path cannot be looked at
        return False


def read(folder: Path) -> Data:
    """Read the record of a run that has a plan. Raises UsageError for any other folder, and a damaged run."""
    try:
        record = store.read_record(folder)
    except HarnessError as error:
        raise UsageError(error.what, stage="plan", hint=error.hint) from error
    if not record.get("plan"):
        url = (record.get("load") or {}).get("url") or "URL"
        raise UsageError(
            f"{folder} is a run of `execbench load`, which has no plan.",
            stage="plan",
            hint=f"Send the load again with `execbench load {url}`, "
            f"or measure the server with `execbench run --url NAME={url}`.",
        )
    return record


def whole(record: Data, flags: Flags) -> Plan:
    """Return the plan of a run, changed by the flags. A sweep becomes a plain plan if arms are selected."""
    return servers(record, flags) if "capacity" in record else _changed(record["plan"], flags)


def servers(record: Data, flags: Flags) -> Plan:
    """Return a plan of flags with the arms of a run, and the options of its servers and load generator."""
    kept = {key: record["plan"][key] for key in _OF_BOTH if key in record["plan"]}
    return _changed({**from_flags.WITHOUT_PLAN, "concurrency": [8], **kept}, flags)


def _changed(recorded: Data, flags: Flags) -> Plan:
    try:
        plan = plan_files.restore(recorded)
    except HarnessError as error:
        raise UsageError(error.what, stage="plan", hint="The version that wrote it can run it.") from error
    for axis, values in plan.sweep.axes.items() if plan.sweep else ():
        grid.refuse_fixed(axis, values, flags.but(strategies=()))
    data = plan.model_dump(exclude_defaults=True, context=REVEALED)
    data["workload"] = _without_defaults(plan.workload, flags.workload.get("name", plan.workload.name))
    data.pop("left_out", None)  # those arms are not in the plan, so nothing leaves them out again
    if plan.has_foreign_servers:
        flags = _with_headers(plan, flags)
    return from_flags.override(plan_files.restore(data), flags, adds_strategies=True)


def _without_defaults(workload: WorkloadOptions, name: str) -> Data:
    """Return the options that a plan has to set: a record has all defaults, and some may be refused.

    Leaves the I/O out if the workload that will run, called `name`, has its own.
    """
    options = {"name": workload.name, **workload.model_dump(exclude_defaults=True)}
    if is_own(workload.name) and kinds.takes_ms(workload.io):
        options |= {"io_ms": workload.io_ms}  # its default differs for a user's own workload
        if (workload.io, workload.io_ms) == ("sleep", 0.0):
            del options["io_ms"]
    if workloads.has_io(name):
        return {key: options[key] for key in options.keys() - IO_OPTIONS}
    return options


def _with_headers(plan: Plan, flags: Flags) -> Flags:
    """Add the run's headers that are not given again. Raises UsageError for a secret, which was not kept."""
    given = flags.ask.get("headers", [])
    names = {name.lower() for name, _ in given}
    kept = [header for header in plan.ask.headers if header[0].lower() not in names]
    if lost := [name for name, value in kept if value == sending.REDACTED]:
        raise UsageError(
            f"The value of the header {lost[0]} is secret and was not kept with the run.",
            stage="plan",
            hint=f"Give it again: --header '{lost[0]}: …' (${{NAME}} in it is read from the environment).",
        )
    return flags.but(ask={**flags.ask, "headers": [*kept, *given]})
