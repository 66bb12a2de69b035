"""Checks of a plan that need more than the plan: the strategies, the workloads and the environment."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import strategies
from harness import workloads
from harness.errors import HarnessError, UsageError, shortened
from harness.plans.arm import Arm
from harness.plans.filled_command import resolved
from harness.wire import sending, server_command
from harness.wire.load_options import Request
from harness.wire.options import EVENT_LOOP, WorkloadOptions
from harness.wire.setting import explain
from harness.workloads import embed
from harness.workloads.io import kinds


def check_headers(request: Request, *, stage: str) -> None:
    """Raise UsageError if a header cannot be filled from the environment, or was not kept with its run."""
    try:
        sending.expanded(request.headers)
    except KeyError as error:
        raise UsageError(
            f"A header uses ${{{error.args[0]}}}, which is not set in the environment.",
            stage=stage,
            hint=f"Set it: export {error.args[0]}=…",
        ) from error
    except ValueError as error:
        again = "Give all flags again; a secret from the environment, as 'Authorization: Bearer ${TOKEN}'."
        was_kept = sending.REDACTED not in dict(request.headers).values()
        raise UsageError(
            f"This header cannot be sent: {error}.",
            stage=stage,
            hint="Check the environment variable in it." if was_kept else again,
        ) from error


def obeyed_by(arm: dict[str, Any]) -> frozenset[str]:
    """Return the options of strategies that an arm, given as plain data, obeys; none if it is not ours."""
    if arm.get("url") is not None or arm.get("command") is not None:
        return frozenset()
    return _obeyed(arm["strategy"].partition(":")[0], arm.get("options", {}))


def find_strategy(name: str) -> strategies.Strategy:
    """Return the strategy of that name. Raises UsageError that suggests the nearest name."""
    try:
        return strategies.get(name)
    except strategies.UnknownStrategy as error:
        near = f"Did you mean {error.nearest!r}?" if error.nearest else "`execbench list` shows them."
        raise UsageError(f"There is no strategy {shortened(name)!r}.", stage="plan", hint=near) from error


def check_strategy(arm: Arm) -> None:
    """Raise UsageError unless the strategy works here and obeys all options of the arm."""
    find_strategy(arm.strategy)
    for idle in sorted(arm.options.keys() - _obeyed(arm.strategy, arm.options)):
        takes = ", ".join(sorted(_obeyed(arm.strategy, arm.options))) or "none"
        raise UsageError(
            f"The strategy {arm.strategy!r} (arm {arm.name!r}) takes no option {idle!r}.",
            stage="plan",
            hint=f"It takes: {takes}.",
        )
    for name in arm.strategies_used:
        reason = find_strategy(name).why_not()
        if reason is not None and arm.python is None:  # another Python is asked by `interpreters`
            raise UsageError(f"The strategy {name!r} cannot work here: {reason}.", stage="plan", hint=_EXTRAS)
    if arm.strategy == "executor" and not arm.chosen.factory:
        raise UsageError(
            f"The arm {arm.name!r} has no executor.",
            stage="plan",
            hint="Name the function that makes it: executor:package.module:function",
        )


def check_server(arm: Arm) -> None:
    """Raise UsageError if the event loop of the arm's server is not installed here."""
    if arm.python is None and (reason := why_no_loop(arm.event_loop)):
        raise UsageError(
            f"The event loop {arm.event_loop!r} (arm {arm.name!r}) cannot work here: {reason}.",
            stage="plan",
            hint='Run `make setup EXTRAS=servers`, or: pip install "executor-bench[servers]"',
        )


def what_is_missing(arm: Arm, workload: WorkloadOptions) -> str:
    """Say what is missing to start the server of an arm; "" if nothing is."""
    if arm.command is not None:
        return why_no_program(arm)
    refusals = (find_strategy(name).why_not() for name in arm.strategies_used)
    why_not = next(filter(None, refusals), "")
    return why_not or why_no_loop(arm.event_loop) or _of_backend(embed.missing_package, arm, workload)


def what_is_unsupported(arm: Arm, workload: WorkloadOptions) -> str:
    """Say what the processor lacks to run an arm; "" if nothing."""
    return "" if arm.is_foreign else _of_backend(embed.unsupported, arm, workload)


def _of_backend(ask: Callable[[WorkloadOptions], str], arm: Arm, workload: WorkloadOptions) -> str:
    try:
        return ask(arm.own_workload(workload))
    except ValidationError:  # `check_workload` reports it
        return ""


def why_no_loop(event_loop: str) -> str:
    """Say that the package of an event loop is missing; "" if it is installed."""
    is_there = event_loop == EVENT_LOOP or find_spec(event_loop) is not None
    return "" if is_there else f"{event_loop} is not installed (extra: servers)"


_EXTRAS = "`execbench list` shows what can; extras are installed with `make setup EXTRAS=name`."


def _obeyed(strategy: str, options: dict[str, Any]) -> frozenset[str]:
    """Return the options that this strategy obeys; if it runs another one, those of the other too."""
    takes = find_strategy(strategy).TAKES
    if "over" not in takes:
        return takes
    inner = find_strategy(options.get("over", strategies.Options().over)).TAKES
    own = {"over", "max_batch", "max_wait_ms", "max_queue"}
    return takes & (own | inner)


def check_command(arm: Arm) -> None:
    """Raise UsageError unless the program of a command exists, and its placeholders can be filled."""
    unknown = (
        server_command.placeholders(server_command.templates(arm.model_dump()))
        - server_command.FILLED_BY_RUN.keys()
    )
    if unknown:
        raise UsageError(
            f"The command of arm {arm.name!r} has {{{min(unknown)}}}, which has no value.",
            stage="plan",
            hint=f"A sweep varies it (`execbench sweep --over {min(unknown)}=…`). "
            f"These have a value: {', '.join(f'{{{name}}}' for name in server_command.FILLED_BY_RUN)}.",
        )
    if reason := why_no_program(arm):
        raise UsageError(
            f"The command of arm {arm.name!r} cannot be started: {reason}.",
            stage="plan",
            hint="Make the environments of the peers: execbench peers"
            if "{peers}" in (arm.command or ("",))[0]
            else "Give the path of a program, or the name of one on the PATH.",
        )


def why_no_program(arm: Arm) -> str:
    """Say what is missing to start the command of an arm; "" if its program exists."""
    assert arm.command is not None
    try:
        found = resolved(arm)
    except HarnessError as error:  # a placeholder has no value here
        return error.clause
    if found.cwd is not None and not Path(found.cwd).is_dir():
        return f"there is no folder {shortened(os.path.relpath(found.cwd))}"
    program = found.words[0]
    path = found.env.get("PATH", os.environ.get("PATH"))
    if shutil.which(program, path=path) is None:
        return f"there is no program {shortened(os.path.relpath(program) if os.sep in program else program)}"
    return ""


def check_workload(arm: Arm, workload: WorkloadOptions) -> None:
    """Raise UsageError unless the arm's workload is the plan's, with options that it obeys."""
    try:
        own = arm.own_workload(workload)
    except ValidationError as error:
        raise UsageError(f"The workload of arm {arm.name!r}: {explain(error)}", stage="plan") from error
    if own.name != workload.name:
        raise UsageError(
            f"The workload of arm {arm.name!r} is not its plan's.",
            stage="plan",
            hint="All arms run the same workload; an arm may only change its options.",
        )
    if arm.io_per_model is not None and workloads.has_io(workload.name):
        raise UsageError(
            f"The arm {arm.name!r} scales the I/O, and the workload has its own I/O.",
            stage="plan",
            hint="Remove io from the workload, or run it without this plan.",
        )
    if own.payloads != workload.payloads:
        raise UsageError(
            f"The texts of arm {arm.name!r} are not its plan's.",
            stage="plan",
            hint="All arms get the same texts: set payloads in the plan's workload.",
        )
    workloads.check(own)
    kinds.check(own)
    if arm.io_per_model is not None and not kinds.takes_ms(own.io):
        raise UsageError(
            f"The arm {arm.name!r} scales its I/O to the model, and the duration of {own.io} cannot be set.",
            stage="plan",
            hint="Leave the arm out, or use the I/O sleep or socket.",
        )
