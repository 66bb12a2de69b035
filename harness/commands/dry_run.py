"""What a run would do, without doing it: `execbench run --dry-run`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.commands.terminal import console, print_json

if TYPE_CHECKING:
    from harness.plans.plan import Plan


def show(plan: Plan, *, as_json: bool) -> None:
    """Print the arms, the loads, the number of trials and a guess at the time. Starts nothing."""
    from harness.plans import grid

    size = grid.size(plan)
    arms = [arm.name for arm in plan.every_arm]
    loads = [str(law) for law in plan.laws]
    if as_json:
        facts = {"arms": arms, "loads": loads, "blocks": plan.blocks, "trials": size.trials}
        print_json({**facts, "about_s": round(size.seconds), "plan": plan.model_dump(mode="json")})
        return
    lines = (
        f"Plan {plan.name}" + (f": {plan.summary}" if plan.summary else ""),
        f"Arms: {', '.join(arms)}",
        f"Loads: {', '.join(loads)}",
        f"{plan.blocks} block{'s' * (plan.blocks != 1)}, {size.trials} trials, about {size.long}.",
        "Nothing was started.",
    )
    for line in lines:
        console().print(line, markup=False, soft_wrap=True)
