"""The servers that are tested with faults: strategies and commands, from flags or a plan."""

from __future__ import annotations

from typing import NamedTuple

from harness.errors import UsageError
from harness.evidence.faults import arms
from harness.plans import from_flags, plan_files
from harness.plans.arm import Arm
from harness.plans.from_flags import Flags
from harness.plans.plan import Plan
from harness.wire import arrivals
from harness.wire.load_options import LoadOptions


class Target(NamedTuple):
    """An arm, and what its command is asked; None for a strategy."""

    arm: Arm
    request: LoadOptions | None = None


class Chosen(NamedTuple):
    """What is tested, and name → why it cannot be."""

    targets: list[Target]
    absent: dict[str, str]

    @property
    def have_commands(self) -> bool:
        return any(target.request is not None for target in self.targets)


def chosen(plan: str | None, given: Flags) -> Chosen:
    """The arms of a plan, or those of the flags; without either, all strategies.

    With a plan, `given.strategies` selects its arms. Raises UsageError for what does not exist or cannot work
    here, and for servers that already run.
    """
    if plan is not None:
        return _of_plan(from_flags.override(plan_files.load(plan), given))
    if not given.commands:
        if given != Flags(strategies=given.strategies):
            from_flags.from_flags(given)  # refuses what is about commands only
        here, absent = arms.chosen(given.strategies)
        return Chosen([Target(arm) for arm in here], absent)
    ours = arms.chosen(given.strategies)[0] if given.strategies else []
    commands = _of_plan(from_flags.from_flags(given.but(strategies=()))).targets
    targets = [*(Target(arm) for arm in ours), *commands]
    names = [target.arm.name for target in targets]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"Two arms have the name {twice[0]!r}.", stage="faults", hint="Rename the command.")
    return Chosen(targets, {})


def _of_plan(plan: Plan) -> Chosen:
    if plan.has_running_servers:
        raise UsageError(
            "execbench kills the servers that it tests with faults, so it must start them.",
            stage="faults",
            hint="Give --strategy, --command or a plan with such arms.",
        )
    return Chosen([_target(plan, arm) for arm in plan.arms], dict(plan.left_out))


def _target(plan: Plan, arm: Arm) -> Target:
    if arm.command is None:
        return Target(arms.alone(arm))
    return Target(arm, plan.load_options("", arrivals.closed(1), 1, arm))
