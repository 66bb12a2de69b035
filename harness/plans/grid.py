"""Make the plan of a sweep: an arm for each combination of values that its strategy or command takes."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any

import psutil

from harness.errors import UsageError, shortened
from harness.plans import from_flags, plan_checks, settings, size
from harness.plans.plan import Plan, Scalar
from harness.wire import server_command
from harness.wire.spelling import with_io_split

BLOCKS = 12  # fewer than elsewhere, as arms are many: enough for differences of a tenth
MOST_SETTINGS = 64
MOST_HOURS = 4.0
BEYOND_COUNTING = 100_000

# Resident servers are quicker and let arms be compared within seconds, but each keeps its memory.
MOST_RESIDENT = 8
COPY_BYTES = 450e6  # memory of a process with a small transformer in torch
SHARE_OF_MEMORY = 0.5  # of the free memory

Axes = Mapping[str, tuple[Scalar, ...]]
Arm = dict[str, Any]  # as `plan_files.make` takes it


def axes(texts: Iterable[str], commands: Iterable[str] = ()) -> dict[str, tuple[Scalar, ...]]:
    """Return the axes of NAME=VALUE,VALUE …, typed as the settings are. Raises UsageError for others.

    An axis may also be a name in braces in one of the `commands` (NAME=COMMAND); then its values are texts.
    """
    in_commands = server_command.placeholders(commands) - server_command.FILLED_BY_RUN.keys()
    found: dict[str, tuple[Scalar, ...]] = {}
    for text in texts:
        name, _, listed = text.partition("=")
        name = name.strip().replace("-", "_")
        values = [value.strip() for value in listed.split(",")]
        if not name or not all(values):
            raise _misunderstood(f"--over {shortened(text)!r} is not understood.")
        if name not in settings.of_arms() and name not in in_commands:
            raise _unknown(name)
        if name in found or len(set(values)) < len(values):
            raise _misunderstood(f"--over {shortened(text)!r}: give each axis and each value once.")
        found[name] = tuple(_value(name, value) for value in values)
    return found


def _unknown(name: str) -> UsageError:
    if name in ("name", "workload", "strategy"):
        hint = "Give several strategies with --strategy, repeated; sweep workloads one at a time."
        return UsageError(f"--over cannot vary {name!r}.", stage="plan", hint=hint)
    near = difflib.get_close_matches(name, settings.of_arms(), n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(sorted(settings.of_arms()))}."
    return UsageError(f"There is no option {shortened(name)!r} to sweep over.", stage="plan", hint=hint)


def _misunderstood(what: str) -> UsageError:
    return UsageError(what, stage="plan", hint="For example: --over workers=1,2,4 --over torch_threads=1,2")


def _value(name: str, text: str) -> Scalar:
    if name not in settings.of_arms():
        return int(text) if text.isascii() and text.isdigit() else text
    value: Scalar = settings.parse(settings.of_arms()[name], text, f"--over {name}:")
    return value


# -- the plan ------------------------------------------------------------------------------------------


def plan(flags: from_flags.Flags, over: Axes, *, allow_any_size: bool = False) -> Plan:
    """Return the plan that runs every combination. Unless a flag says so, it decides if servers stay.

    Raises UsageError for an axis that no strategy here takes or that a flag sets, and for an absurd size.
    """
    if not over:
        raise _misunderstood("A sweep needs an axis: --over OPTION=VALUE,VALUE.")
    for name, values in over.items():
        refuse_fixed(name, values, flags)
    asked_for = flags.strategies or (() if flags.commands else ("process",))
    started = [*map(from_flags.arm_of, asked_for), *map(from_flags.command_of, flags.commands)]
    count = len(started) * math.prod(map(len, over.values()))
    if count > BEYOND_COUNTING:
        raise UsageError(f"{count:,} settings are too many.", stage="plan", hint="Give fewer values.")
    made = combinations(started, over)
    for name in over:
        if not any(name in setting for _, setting in made):
            from_flags.refuse_unused(name, [arm for arm, _ in made])
    named = _named(made)
    fresh = flags.plan.get("fresh", not _may_stay([arm for arm, _ in made], flags))
    flags = flags.but(strategies=(), commands=()).with_plan(fresh=fresh or None)
    fields = {"name": "sweep", "summary": "every combination of some options", "blocks": BLOCKS}
    first = from_flags.from_flags(flags.with_plan(twin=None, reference=None), arms=named[:1], **fields)
    if not allow_any_size:
        _refuse_absurd(size.of_sweep(first, len(named)))
    swept = {
        "strategies": (*asked_for, *(arm["name"] for arm in started[len(asked_for) :])),
        "axes": over,
        "settings": {arm["name"]: setting for arm, (_, setting) in zip(named, made, strict=True)},
    }
    return from_flags.from_flags(flags, arms=named, sweep=swept, **fields)


def combinations(arms: Iterable[Arm], over: Axes) -> list[tuple[Arm, dict[str, Scalar]]]:
    """Return an arm for each combination, with its value on each axis that the given arm takes."""
    return [one for arm in arms for one in _combinations(arm, over)]


def _combinations(arm: Arm, over: Axes) -> list[tuple[Arm, dict[str, Scalar]]]:
    found: list[tuple[Arm, dict[str, Scalar]]] = [(arm, {})]
    # `over` comes first: the strategy that runs the batches decides which other options apply
    for name in sorted(over, key=lambda axis: axis != "over"):
        found = [
            (_with(one, name, value), {**setting, name: value})
            for one, setting in found
            if _takes(one, name)
            for value in over[name]
        ] + [(one, setting) for one, setting in found if not _takes(one, name)]
    return [(one, {name: setting[name] for name in over if name in setting}) for one, setting in found]


def _with(arm: Arm, name: str, value: Scalar) -> Arm:
    if arm.get("command"):
        return server_command.with_values(arm, {name: value})
    return settings.with_setting(arm, name, value)


def _takes(arm: Arm, name: str) -> bool:
    if arm.get("command"):
        return name in server_command.placeholders(server_command.templates(arm))
    if name not in settings.of_arms():
        return False
    of_strategy = settings.of_arms()[name].section == settings.OPTIONS
    return not of_strategy or name in plan_checks.obeyed_by(arm)


def _named(made: list[tuple[Arm, dict[str, Scalar]]]) -> list[Arm]:
    """Name each arm after its setting, or by number if names would be too long to differ."""
    words = ([arm["name"], *(_word(name, value) for name, value in setting.items())] for arm, setting in made)
    names = [from_flags.as_name("-".join(one)) for one in words]
    if len(set(names)) < len(names):
        short = [from_flags.as_name(str(arm.get("strategy", arm["name"])))[:50] for arm, _ in made]
        names = [f"{name}-{number}" for number, name in enumerate(short, 1)]
    return [{**arm, "name": name} for (arm, _), name in zip(made, names, strict=True)]


def _word(name: str, value: Scalar) -> str:
    return from_flags.called(str(value)) if name == "python" else f"{name}-{value}"


# -- limits --------------------------------------------------------------------------------------------


def refuse_fixed(name: str, values: tuple[Scalar, ...], flags: from_flags.Flags) -> None:
    """Raise UsageError if a flag sets what an axis varies."""
    fixed = {**flags.options, **flags.workload, **flags.arm}
    for text in flags.strategies:
        fixed |= settings.given_in(from_flags.arm_of(text))
    swept = {key for value in values for key in with_io_split({name: value})}
    if twice := sorted(swept & fixed.keys()):
        raise UsageError(
            f"{twice[0]} is both set and swept over.", stage="plan", hint="Leave one of them out."
        )


def _refuse_absurd(found: size.Size) -> None:
    if found.arms > MOST_SETTINGS or found.seconds > MOST_HOURS * 3600:
        raise UsageError(
            f"This sweep is large: {found.arms} settings, {found.duration}. "
            f"The limit is {MOST_SETTINGS} settings and {MOST_HOURS:g} hours.",
            stage="plan",
            hint="Give fewer values, fewer --blocks or shorter windows, or lift the limit with --any-size.",
        )


def _may_stay(arms: list[Arm], flags: from_flags.Flags) -> bool:
    """Whether every server can be up at once."""
    copies = sum(
        given.get("server_processes", 1) * (1 + given.get("workers", flags.options.get("workers", 1)))
        for given in map(settings.given_in, arms)
    )
    fits = copies * COPY_BYTES < SHARE_OF_MEMORY * psutil.virtual_memory().available
    return len(arms) <= MOST_RESIDENT and fits
