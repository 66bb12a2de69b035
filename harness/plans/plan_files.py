"""Plans from files: built in (`harness/data/plans`), or a user's own TOML file; checked alike."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import strategies
from harness import workloads
from harness.errors import HarnessError, UsageError, did_you_mean, shortened
from harness.plans import interpreters, plan_checks, settings
from harness.plans.arm import Arm
from harness.plans.plan import OF_OUR_SERVERS, Plan
from harness.system import text_files, toml
from harness.wire.load_options import REVEALED
from harness.wire.options import WorkloadOptions
from harness.wire.setting import explain
from harness.workloads.io import kinds

LEFT_OUT = "Left out: "  # begins a note


def names() -> list[str]:
    """Return the names of the built-in plans."""
    return toml.packaged_names("plans")


def summaries() -> dict[str, str]:
    """Return name → summary of each built-in plan, whether or not it can run here."""
    return {name: toml.parse(_read(name), f"The plan {name!r}", "plan")["summary"] for name in names()}


def load(name_or_path: str) -> Plan:
    """Read a built-in plan by name, or a TOML file by path. Raises UsageError that names the wrong key."""
    source = f"plan {shortened(name_or_path)!r}"
    return make(toml.parse(_read(name_or_path), f"The {source}", "plan"), source=source)


def make(data: dict[str, Any], *, source: str) -> Plan:
    """Make a checked plan of plain data; messages call it `source`."""
    plan = _validated(data, source)
    if plan.skip_missing:
        plan = _without_missing(plan, source)
    if plan.claims is not None:
        toml.check_packaged("claims", plan.claims)
    workloads.check(plan.workload)
    if plan.has_foreign_servers:
        plan_checks.check_headers(plan.ask, stage="plan")
    if plan.has_strategies:
        kinds.check(plan.workload)
    for arm in plan.arms:
        if arm.command is not None:
            plan_checks.check_command(arm)
        elif not arm.is_foreign:
            plan_checks.check_strategy(arm)
            plan_checks.check_server(arm)
            plan_checks.check_workload(arm, plan.workload)
    interpreters.check(plan.arms, plan.workload)
    return plan


def _validated(data: dict[str, Any], source: str) -> Plan:
    try:
        return Plan.model_validate(data)
    except ValidationError as error:
        raise UsageError(
            f"The {source} is not valid: {explain(error)}", stage="plan", hint=_hint(error)
        ) from error


def _without_missing(plan: Plan, source: str) -> Plan:
    """Leave out, with a note, the arms that lack a program, a package, a Python or an instruction.

    `left_out` makes a run fail at its end. It has no arm that lacks an instruction, which nobody can install.
    Raises UsageError if no other arm is left.
    """
    missing = {arm.name: reason for arm in plan.arms if (reason := _what_is_missing(arm, plan.workload))}
    unsupported = {
        arm.name: reason
        for arm in plan.arms
        if (reason := plan_checks.what_is_unsupported(arm, plan.workload))
    }
    out = missing | unsupported
    if not out:
        return plan
    data = plan.model_dump(exclude_unset=True, context=REVEALED)
    arms = [arm for arm in data["arms"] if arm["name"] not in out]
    if not arms:
        raise UsageError(f"No arm of the {source} can be started: {next(iter(out.values()))}.", stage="plan")
    if data.get("reference") in out:
        data.pop("reference")
    if all(arm.get("command") for arm in arms):
        data = {key: value for key, value in data.items() if key not in OF_OUR_SERVERS}
    notes = [f"{LEFT_OUT}{name}, as {reason}." for name, reason in out.items()]
    left = {"arms": arms, "left_out": missing, "notes": (*data.get("notes", ()), *notes)}
    return _validated({**data, **left}, source)


def why_left_out(plan: Plan, name: str) -> str:
    """Say in a clause why `make` left out the arm of this name; "" if it did not."""
    begins = f"{LEFT_OUT}{name}, as "
    whys = (note.removeprefix(begins).removesuffix(".") for note in plan.notes if note.startswith(begins))
    return next(whys, "")


def _what_is_missing(arm: Arm, workload: WorkloadOptions) -> str:
    if arm.python is None:
        return plan_checks.what_is_missing(arm, workload)
    return interpreters.what_is_missing(arm, workload)


def _hint(error: ValidationError) -> str:
    """Suggest the nearest key for the first unknown one."""
    unknown = [str(one["loc"][-1]) for one in error.errors() if one["type"] == "extra_forbidden"]
    if not unknown:
        return ""
    known = {one.name for one in settings.every() if not one.setting.hidden}
    return did_you_mean(unknown[0], known, "`execbench settings` shows all keys.")


def restore(recorded: dict[str, Any]) -> Plan:
    """Read the plan in a run.json. Raises HarnessError if this version cannot read it."""
    try:
        return Plan.model_validate(recorded)
    except ValidationError as error:
        raise HarnessError(f"The recorded plan cannot be read: {explain(error)}", stage="plan") from error


def _read(name_or_path: str) -> str:
    if name_or_path in names():
        return toml.read_packaged("plans", name_or_path)
    path = Path(name_or_path)
    if name_or_path in strategies.NAMES:
        raise UsageError(
            f"{name_or_path!r} is a strategy, not a plan.",
            stage="plan",
            hint=f"Write --strategy {name_or_path}",
        )
    if path.suffix != ".toml" and not os.path.lexists(path):
        near = difflib.get_close_matches(name_or_path, names(), n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(names())}."
        raise UsageError(
            f"There is no plan {shortened(name_or_path)!r}.",
            stage="plan",
            hint=f"{hint} Or give a TOML file, or the folder of a run.",
        )
    return text_files.read_text(path, "plan", toml.MAX_TOML_BYTES)
