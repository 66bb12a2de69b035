"""Estimate how long a plan takes."""

from __future__ import annotations

import math
from typing import NamedTuple

from harness.numbers import counted
from harness.plans import bare_models
from harness.plans.plan import Plan
from harness.wire.arrivals import Law

_START_S = 5.0  # of a server with the embedding model
_BETWEEN_TRIALS_S = 0.5  # warm-up and bookkeeping
_REQUEST_S = 0.01
_SELF_CHECK_S = 4.0
_LOADS_BARE_S = 5.0


class Size(NamedTuple):
    """The size of a run. The time is an estimate: it depends on how long starts and requests take."""

    arms: int
    trials: int
    seconds: float

    @property
    def duration(self) -> str:
        """The estimated time, rounded up to minutes."""
        return in_minutes(self.seconds)


def in_minutes(seconds: float) -> str:
    """Say how long something takes: "under 1 min", "about 12 min", "about 1.5 hours"."""
    minutes = seconds / 60
    if minutes < 1:
        return "under 1 min"
    return f"about {minutes / 60:.1f} hours" if minutes >= 90 else f"about {math.ceil(minutes)} min"


def of_plan(plan: Plan) -> Size:
    """Estimate the size of a plan."""
    return of_sweep(plan, len(plan.every_arm))


def of_sweep(plan: Plan, arms: int) -> Size:
    """Estimate the size of a plan like this one, but with this many arms."""
    times = {law: math.ceil(plan.blocks / (plan.open_every if law.is_open else 1)) for law in plan.laws}
    trials = arms * sum(times.values())
    windows_s = sum(count * arms * _trial_s(plan, law) for law, count in times.items())
    starts = 0 if plan.has_running_servers else trials if plan.fresh else arms
    limit_s = _bare_models_s(plan) if plan.limit else 0.0
    return Size(arms, trials, windows_s + starts * _START_S + _SELF_CHECK_S * plan.self_check + limit_s)


def _bare_models_s(plan: Plan) -> float:
    """How long the bare models take: to load, and in each block and before the first."""
    turn_s = len(bare_models.sizes(plan)) * plan.limit_s
    return len(bare_models.of_plan(plan)) * (_LOADS_BARE_S + (plan.blocks + 1) * turn_s)


def of_block(plan: Plan, arms: int) -> float:
    """Estimate how long a block of this many arms takes, in seconds; resident servers already run."""
    starts_s = _START_S if plan.fresh and not plan.has_running_servers else 0.0
    return arms * sum(_trial_s(plan, law) + starts_s for law in plan.laws)


def _trial_s(plan: Plan, law: Law) -> float:
    window = plan.window(law)
    measured_s = max(window["duration_s"] or 0.0, _requests_s(plan, law, window["requests"] or 0))
    warmup_s = _thinking_s(plan, law, window.get("warmup_requests", 0))
    return float(max(window["settle_s"], warmup_s) + measured_s + _BETWEEN_TRIALS_S)


def _requests_s(plan: Plan, law: Law, requests: int) -> float:
    return max(requests * _REQUEST_S, _thinking_s(plan, law, requests))


def _thinking_s(plan: Plan, law: Law, requests: int) -> float:
    """Return how long all users of a closed loop pause before this many requests."""
    return 0.0 if plan.think is None or not law.users else requests / law.users * plan.think.mean_s


def in_words(plan: Plan) -> str:
    """Say in one line how large the plan is: "4 arms, 1 load, 24 blocks: 96 trials, about 2 min"."""
    size = of_plan(plan)
    counts = (counted(size.arms, "arm"), counted(len(plan.laws), "load"), counted(plan.blocks, "block"))
    most = "at most " if plan.until == "settled" or plan.precision is not None else ""
    return f"{', '.join(counts)}: {most}{counted(size.trials, 'trial')}, {size.duration}"
