"""Checks of a plan that need more than the plan: the strategies, the workloads and the environment."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

import strategies
from harness import workloads
from harness.errors import UsageError, shortened
from harness.plans.arm import Arm
from harness.wire import sending
from harness.wire.options import Request, WorkloadOptions, explain
from harness.workloads.io import kinds


def check_headers(request: Request, *, stage: str) -> None:
    """UsageError when one cannot be filled from the environment, or was not kept."""
    try:
        sending.expanded(request.headers)
    except KeyError as error:
        raise UsageError(
            f"A header wants ${{{error.args[0]}}}, and the environment has no such variable.",
            stage=stage,
            hint=f"Set it: export {error.args[0]}=…",
        ) from error
    except ValueError as error:
        again = "Give all flags again; or from the environment, as 'Authorization: Bearer ${TOKEN}'"
        was_kept = sending.REDACTED not in dict(request.headers).values()
        raise UsageError(
            f"This cannot be sent: {error}.",
            stage=stage,
            hint="Look at the variable that it is read from." if was_kept else again,
        ) from error


def obeyed_by(arm: dict[str, Any]) -> frozenset[str]:
    """The options that the strategy of an arm, given as plain data, obeys."""
    if arm.get("url") is not None:
        return frozenset()
    return _obeyed(arm["strategy"].partition(":")[0], arm.get("options", {}))


def find_strategy(name: str) -> strategies.Strategy:
    """The strategy of that name; raises UsageError with the nearest name."""
    try:
        return strategies.get(name)
    except strategies.UnknownStrategy as error:
        near = f"Did you mean {error.nearest!r}?" if error.nearest else "`execbench list` shows them."
        raise UsageError(f"There is no strategy {shortened(name)!r}.", stage="plan", hint=near) from error


def check_strategy(arm: Arm) -> None:
    """UsageError unless the strategy can work here and obeys what the arm tells it."""
    find_strategy(arm.strategy)
    said = set(arm.options) | ({"workers"} if arm.workers is not None else set())
    for idle in sorted(said - _obeyed(arm.strategy, arm.options)):
        what = "number of workers" if idle == "workers" else f"option {idle!r}"
        takes = ", ".join(sorted(_obeyed(arm.strategy, arm.options))) or "none"
        raise UsageError(
            f"The strategy {arm.strategy!r} (arm {arm.name!r}) takes no {what}.",
            stage="plan",
            hint=f"It takes: {takes}.",
        )
    for name in (arm.strategy, *([arm.chosen.over] if arm.strategy == "batch" else [])):
        reason = find_strategy(name).why_not()
        if reason is not None:
            raise UsageError(f"The strategy {name!r} cannot work here: {reason}.", stage="plan", hint=_EXTRAS)
    if arm.strategy == "executor" and not arm.chosen.factory:
        raise UsageError(
            f"The arm {arm.name!r} says no executor.",
            stage="plan",
            hint="Name what makes it: executor:package.module:function",
        )


_EXTRAS = "`execbench list` shows what can; extras are installed with `make setup EXTRAS=name`."


def _obeyed(strategy: str, options: dict[str, Any]) -> frozenset[str]:
    """The options that this strategy obeys; where it runs another one, those that the other obeys."""
    takes = find_strategy(strategy).TAKES
    if "over" not in takes:
        return takes
    inner = find_strategy(options.get("over", strategies.Options().over)).TAKES
    own = {"over", "max_batch", "max_wait_ms", "max_queue"}
    return takes & (own | inner)


def check_workload(arm: Arm, workload: WorkloadOptions) -> None:
    """UsageError unless the arm's workload is the plan's with options that it obeys."""
    try:
        own = arm.own_workload(workload)
    except ValidationError as error:
        raise UsageError(f"The workload of arm {arm.name!r}: {explain(error)}", stage="plan") from error
    if own.name != workload.name:
        raise UsageError(
            f"The arm {arm.name!r} has another workload than its plan.",
            stage="plan",
            hint="Arms are compared on one workload: an arm may only change its options.",
        )
    if arm.io_per_model is not None and workloads.has_io(workload.name):
        raise UsageError(
            f"The arm {arm.name!r} scales the awaited I/O, and the workload has I/O of its own.",
            stage="plan",
            hint="Take io out of the workload, or run it without this plan.",
        )
    if own.payloads != workload.payloads:
        raise UsageError(
            f"The arm {arm.name!r} has other texts than its plan.",
            stage="plan",
            hint="Arms are compared on the same texts: say payloads in the plan's workload.",
        )
    workloads.check(own)
    kinds.check(own)
    if arm.io_per_model is not None and not kinds.takes_ms(own.io):
        raise UsageError(
            f"The arm {arm.name!r} scales its I/O to the model, and {own.io} takes what it takes.",
            stage="plan",
            hint="Leave the arm out, or choose sleep or socket.",
        )
