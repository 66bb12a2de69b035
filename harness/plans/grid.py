"""A sweep's axes → the arms of a plan: one for each combination of values that its strategy takes."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, cast

import psutil
from pydantic import TypeAdapter, ValidationError

from harness.errors import UsageError, shortened
from harness.plans import from_flags, plan_checks
from harness.plans.plan import Plan, Scalar
from harness.wire.arrivals import Law
from harness.wire.options import (
    STRATEGY_OPTIONS,
    Processes,
    Workers,
    WorkloadOptions,
    checked_options,
    explain,
    with_io_spelt_out,
)

BLOCKS = 12  # settings are many: enough to tell those apart that differ by a tenth
MOST_SETTINGS = 64
MOST_HOURS = 4.0
BEYOND_COUNTING = 100_000

# Servers that all stay are quicker and pair arms within seconds, but each keeps its memory.
MOST_RESIDENT = 8
COPY_BYTES = 450e6  # of a process with the model: a small transformer in torch
SHARE_OF_MEMORY = 0.5  # of what is free

_STARTS_S = 5.0
_BESIDE_WINDOW_S = 0.5  # warm-up, and what lies between two trials
_A_REQUEST_S = 0.01

# fields of an arm; any other axis is an option of one of its parts
_COUNTS: dict[str, TypeAdapter[int]] = {
    "workers": TypeAdapter(Workers),
    "server_processes": TypeAdapter(Processes),
}
_ONE_LOADS = {"name", "payloads"}  # the same texts for all
_NOT_FOR_PEOPLE = {"io_address", "faults", "faulty_setup", "faulty_setup_file"}
_OF_WORKLOAD = frozenset(WorkloadOptions.model_fields) - _ONE_LOADS - _NOT_FOR_PEOPLE
NAMES = frozenset(_COUNTS) | STRATEGY_OPTIONS | _OF_WORKLOAD

Axes = Mapping[str, tuple[Scalar, ...]]
Arm = dict[str, Any]  # as `plan_files.make` takes it


class Size(NamedTuple):
    """What a sweep comes to."""

    settings: int
    trials: int
    seconds: float  # a guess

    def __str__(self) -> str:
        return f"{self.settings} settings, {self.trials} trials, about {self.long}"

    @property
    def long(self) -> str:
        """How long it takes, for people."""
        minutes = self.seconds / 60
        return f"{minutes / 60:.1f} hours" if minutes >= 90 else f"{max(1, math.ceil(minutes))} min"


def axes(texts: Iterable[str]) -> dict[str, tuple[Scalar, ...]]:
    """NAME=VALUE,VALUE … typed as the options are; UsageError names the nearest option."""
    found: dict[str, tuple[Scalar, ...]] = {}
    for text in texts:
        name, _, said = text.partition("=")
        name = name.strip().replace("-", "_")
        values = [value.strip() for value in said.split(",")]
        if not name or not all(values):
            raise _misunderstood(f"--over {shortened(text)!r} is not understood.")
        if name not in NAMES:
            raise _unknown(name)
        if name in found or len(set(values)) < len(values):
            raise _misunderstood(f"--over {shortened(text)!r}: give each axis and each value once.")
        found[name] = tuple(_value(name, value) for value in values)
    return found


def _unknown(name: str) -> UsageError:
    if name in ("name", "workload", "strategy"):
        hint = "Several strategies: --strategy, repeated. Workloads are swept one at a time."
        return UsageError(f"--over cannot go through {name!r}.", stage="plan", hint=hint)
    near = difflib.get_close_matches(name, NAMES, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(sorted(NAMES))}."
    return UsageError(f"There is no option {shortened(name)!r} to sweep over.", stage="plan", hint=hint)


def _misunderstood(what: str) -> UsageError:
    return UsageError(what, stage="plan", hint="For example: --over workers=1,2,4 --over torch_threads=1,2")


def _value(name: str, text: str) -> Scalar:
    try:
        if name in _COUNTS:
            return _COUNTS[name].validate_python(text)
        if name in STRATEGY_OPTIONS:
            return cast(Scalar, checked_options({name: text})[name])
        value: Scalar = getattr(WorkloadOptions.model_validate({name: text}), name)
        return text if name == "io" else value  # how long it takes is in the word, and becomes the arm's
    except ValidationError as error:
        said = explain(error).removeprefix("as a whole: ").removeprefix(f"{name}: ")
        raise UsageError(f"--over {name}={shortened(text)} will not do: {said}.", stage="plan") from error


# -- the plan ------------------------------------------------------------------------------------------


def plan(flags: from_flags.Flags, over: Axes, *, allow_any_size: bool = False) -> Plan:
    """The plan that runs every setting. Where the flags do not say, it decides if servers stay.

    UsageError for an axis that no strategy here takes or that a flag fixes, and for an absurd size.
    """
    if not over:
        raise _misunderstood("A sweep needs something to go through: --over OPTION=VALUE,VALUE.")
    for name, values in over.items():
        refuse_fixed(name, values, flags)
    asked_for = flags.strategies or ("process",)
    count = len(asked_for) * math.prod(map(len, over.values()))
    if count > BEYOND_COUNTING:
        raise UsageError(f"{count:,} settings are too many.", stage="plan", hint="Give fewer values.")
    made = settings(asked_for, over)
    for name in over:
        if not any(name in said for _, said in made):
            from_flags.refuse_unheard(name, [arm for arm, _ in made])
    named = _named(made)
    fresh = flags.fresh if flags.fresh is not None else not _may_stay([arm for arm, _ in made], flags)
    flags = flags.model_copy(update={"strategies": (), "fresh": fresh or None})
    fields = {"name": "sweep", "summary": "every combination of some options", "blocks": BLOCKS}
    first = from_flags.from_flags(
        flags.model_copy(update={"twin": None, "reference": None}), arms=named[:1], **fields
    )
    if not allow_any_size:
        _refuse_absurd(size(first, len(named)))
    swept = {
        "strategies": asked_for,
        "axes": over,
        "settings": {arm["name"]: said for arm, (_, said) in zip(named, made, strict=True)},
    }
    return from_flags.from_flags(flags, arms=named, sweep=swept, **fields)


def size(plan: Plan, settings: int | None = None) -> Size:
    """Of the plan, or of one like it with so many arms."""
    arms = len(plan.every_arm) if settings is None else settings
    times = {law: math.ceil(plan.blocks / (plan.open_every if law.is_open else 1)) for law in plan.laws}
    trials = arms * sum(times.values())
    took_s = sum(count * arms * _trial_s(plan, law) for law, count in times.items())
    starts_s = _STARTS_S * (trials if plan.fresh else arms)
    return Size(len(plan.arms) if settings is None else settings, trials, took_s + starts_s)


def _trial_s(plan: Plan, law: Law) -> float:
    window = plan.window(law)
    measured_s = max(window["duration_s"] or 0.0, (window.get("requests") or 0) * _A_REQUEST_S)
    return float(window["settle_s"] + measured_s + _BESIDE_WINDOW_S)


def settings(strategies: Iterable[str], over: Axes) -> list[tuple[Arm, dict[str, Scalar]]]:
    """An arm for each combination, strategy by strategy, with what was chosen of each axis."""
    return [one for text in strategies for one in _settings(from_flags.arm_of(text), over)]


def _settings(arm: Arm, over: Axes) -> list[tuple[Arm, dict[str, Scalar]]]:
    """Every combination of the axes that the arm's strategy takes, with what was chosen of each."""
    found: list[tuple[Arm, dict[str, Scalar]]] = [(arm, {})]
    # first which strategy runs the batches: it says what counts
    for name in sorted(over, key=lambda axis: axis != "over"):
        found = [
            (_with(one, name, value), {**said, name: value})
            for one, said in found
            if _takes(one, name)
            for value in over[name]
        ] + [(one, said) for one, said in found if not _takes(one, name)]
    return [(one, {name: said[name] for name in over if name in said}) for one, said in found]


def _takes(arm: Arm, name: str) -> bool:
    return name == "server_processes" or name in _OF_WORKLOAD or name in plan_checks.obeyed_by(arm)


def _with(arm: Arm, name: str, value: Scalar) -> Arm:
    if name in _COUNTS:
        return {**arm, name: value}
    part = "options" if name in STRATEGY_OPTIONS else "workload"
    return {**arm, part: {**arm.get(part, {}), name: value}}


def _named(made: list[tuple[Arm, dict[str, Scalar]]]) -> list[Arm]:
    """Each arm under a name that says its setting; by number where that is too long to tell them apart."""
    words = ([arm["name"], *(f"{name}-{value}" for name, value in said.items())] for arm, said in made)
    names = [from_flags.as_name("-".join(one)) for one in words]
    if len(set(names)) < len(names):
        short = [from_flags.as_name(arm["strategy"])[:50] for arm, _ in made]
        names = [f"{name}-{number}" for number, name in enumerate(short, 1)]
    return [{**arm, "name": name} for (arm, _), name in zip(made, names, strict=True)]


# -- what is refused, and what does not fit ------------------------------------------------------------


def refuse_fixed(name: str, values: tuple[Scalar, ...], flags: from_flags.Flags) -> None:
    """UsageError when a flag says what an axis goes through."""
    fixed = {**flags.options, **flags.workload}
    for text in flags.strategies:
        arm = from_flags.arm_of(text)
        fixed |= {**arm.get("options", {}), **({"workers": arm["workers"]} if "workers" in arm else {})}
    counts = {one for one in _COUNTS if getattr(flags, one) is not None}
    swept = {key for value in values for key in with_io_spelt_out({name: value})}
    if twice := sorted(swept & (fixed.keys() | counts)):
        raise UsageError(
            f"{twice[0]} is both given and swept over.", stage="plan", hint="Leave one of them away."
        )


def _refuse_absurd(found: Size) -> None:
    if found.settings > MOST_SETTINGS or found.seconds > MOST_HOURS * 3600:
        raise UsageError(
            f"That is a lot: {found} (without being told, at most {MOST_SETTINGS} settings "
            f"and {MOST_HOURS:g} hours).",
            stage="plan",
            hint="Give fewer values, fewer --blocks or shorter windows; or --any-size if you mean it.",
        )


def _may_stay(arms: list[Arm], flags: from_flags.Flags) -> bool:
    """Whether every server can be up at once."""
    copies = sum(
        arm.get("server_processes", 1) * (1 + arm.get("workers", flags.workers or 1)) for arm in arms
    )
    fits = copies * COPY_BYTES < SHARE_OF_MEMORY * psutil.virtual_memory().available
    return len(arms) <= MOST_RESIDENT and fits
