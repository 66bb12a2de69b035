"""All settings of a plan, collected from the models that declare them.

Flags, sweep axes, the options in `--strategy NAME:key=value` and docs/reference/settings.md are made from
these.
"""

from __future__ import annotations

import difflib
import functools
import types
import typing
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple, Union

from pydantic import BaseModel, ConfigDict, TypeAdapter
from pydantic.fields import FieldInfo

import strategies
from harness.errors import UsageError, shortened
from harness.plans.arm import Arm
from harness.plans.plan import Exclusion, Plan
from harness.wire.load_options import Request
from harness.wire.options import OF_UVICORN, WorkloadOptions
from harness.wire.panel import Panel
from harness.wire.setting import LONGEST_TEXT, Setting, reason, settings_of

PLAN, ARM, OPTIONS, WORKLOAD, ASK, EXCLUDE = "plan", "arm", "options", "workload", "ask", "exclude"

_SAME_FOR_ALL_ARMS = {"name", "payloads"}  # of the workload: arms are compared on the same work
_OF_ARMS = {*OF_UVICORN, "python", "generators"}
_METAVARS = {"_s": "SECONDS", "_ms": "MS"}
_FINITE = ConfigDict(allow_inf_nan=False, str_max_length=LONGEST_TEXT)


class Known(NamedTuple):
    """A setting and its place in a plan."""

    name: str  # of the field, which is the key in TOML
    section: str  # its place: the plan's top level, an arm, the arm's options, or a table of the plan
    field: FieldInfo
    setting: Setting

    @property
    def flags(self) -> tuple[str, ...]:
        """The flag, and its short form if it has one; a switch as --pin/--no-pin; empty without a flag."""
        if self.setting.flag is None or self.setting.hidden:
            return ()
        if self.setting.flag:
            return tuple(self.setting.flag.split(","))
        flag = f"--{self.name.removesuffix('_s').replace('_', '-')}"
        return (f"{flag}/--no-{flag[2:]}",) if self.is_switch else (flag,)

    @property
    def flag(self) -> str:
        """The flag's first form; "" without one."""
        return self.flags[0].partition("/")[0] if self.flags else ""

    @property
    def parameter(self) -> str:
        """The name of the flag's parameter in a command."""
        return self.flag.lstrip("-").replace("-", "_")

    @property
    def default(self) -> Any:
        return self.field.get_default(call_default_factory=True)

    @property
    def is_switch(self) -> bool:
        return self.field.annotation is bool

    @property
    def is_repeatable(self) -> bool:
        return self.setting.is_repeatable or typing.get_origin(_without_none(self.field.annotation)) is tuple

    @property
    def choices(self) -> tuple[str, ...]:
        """The values of a setting that has a few; empty for any other."""
        kind = _without_none(self.field.annotation)
        return typing.get_args(kind) if typing.get_origin(kind) is Literal else ()

    @property
    def metavar(self) -> str:
        """The placeholder of the value in help; "" for a switch."""
        if self.is_switch:
            return ""
        if self.setting.metavar or self.choices:
            return self.setting.metavar or "|".join(self.choices)
        number = {int: "N", float: "NUMBER"}.get(_plain_type(self.field.annotation), "TEXT")
        return next((unit for end, unit in _METAVARS.items() if self.name.endswith(end)), number)

    @property
    def shown_default(self) -> str:
        """Return the default as shown to users; "" if there is none."""
        if self.setting.shown_default is not None:
            return self.setting.shown_default
        value = self.default
        if isinstance(value, bool):
            return "on" if value else ""
        if not isinstance(value, str | int | float):
            return ""
        return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else value

    @property
    def meaning(self) -> str:
        """See `Setting.meaning`."""
        return self.setting.meaning

    @property
    def help(self) -> str:
        """The line of a command's help, with the default at its end."""
        return f"{self.meaning} [{self.shown_default}]" if self.shown_default else self.meaning

    def parse(self, value: Any) -> Any:
        """Return the value, text or plain data, with the setting's type. Raises ValueError in plain words."""
        metadata = self.field.metadata
        kind: Any = Annotated[(self.field.annotation, *metadata)] if metadata else self.field.annotation
        adapter = TypeAdapter(kind, config=None if _is_model(kind) else _FINITE)
        try:
            parsed = adapter.validate_python(value)
        except ValueError as error:
            raise ValueError(reason(error)) from error
        return parsed.model_dump(exclude_unset=True) if isinstance(parsed, BaseModel) else parsed


def _without_none(kind: Any) -> Any:
    """The type without `| None` and without the metadata of `Annotated`."""
    if typing.get_origin(kind) is Annotated:
        return _without_none(typing.get_args(kind)[0])
    if typing.get_origin(kind) in (Union, types.UnionType):
        kinds = [one for one in typing.get_args(kind) if one is not types.NoneType]
        return _without_none(kinds[0]) if len(kinds) == 1 else kind
    return kind


def _plain_type(kind: Any) -> Any:
    """The type of a value, or of one of several."""
    kind = _without_none(kind)
    return _without_none(typing.get_args(kind)[0]) if typing.get_origin(kind) is tuple else kind


def _is_model(kind: Any) -> bool:
    """Say whether this is a pydantic model, which brings its own configuration."""
    kind = _without_none(kind)
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def declared_in(model: type[BaseModel], section: str) -> list[Known]:
    """The settings of a model; those that it declares itself come before inherited ones."""
    fields = model.model_fields
    found = [Known(name, section, fields[name], setting) for name, setting in settings_of(fields).items()]
    return sorted(found, key=lambda one: one.name not in model.__annotations__)


def _strategy_options() -> Iterator[Known]:
    """The options of strategies, which do not know `Setting`: their help is the field's description."""
    fields: Mapping[str, FieldInfo] = strategies.Options.__pydantic_fields__  # type: ignore[attr-defined]  # unknown to mypy
    for name, field in fields.items():
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        flag = extra.get("flag")
        setting = Setting(str(field.description), Panel.COMPARE, flag=None if flag is None else str(flag))
        yield Known(name, OPTIONS, field, setting)


@functools.cache
def every() -> tuple[Known, ...]:
    """All settings of a plan, in the order of help and documents."""
    return (
        *_strategy_options(),
        *declared_in(Arm, ARM),
        *declared_in(Plan, PLAN),
        *declared_in(WorkloadOptions, WORKLOAD),
        *declared_in(Request, ASK),
        *declared_in(Exclusion, EXCLUDE),
    )


def find(name: str, section: str) -> Known:
    """The setting of this name in this section; raises KeyError if there is none."""
    for one in every():
        if (one.name, one.section) == (name, section):
            return one
    raise KeyError(f"{section}.{name}")


@functools.cache
def of_arms() -> dict[str, Known]:
    """The settings in which arms may differ, by name: the axes of sweeps, and the keys of NAME:key=value."""
    return {
        one.name: one
        for one in every()
        if not one.setting.hidden
        and (
            one.section == OPTIONS
            or (one.section == WORKLOAD and one.name not in _SAME_FOR_ALL_ARMS)
            or (one.section == ARM and one.name in _OF_ARMS)
        )
    }


def with_setting(arm: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    """The arm, as plain data, with this one of `of_arms` set."""
    section = of_arms()[name].section
    return arm | ({name: value} if section == ARM else {section: arm.get(section, {}) | {name: value}})


def given_in(arm: dict[str, Any]) -> dict[str, Any]:
    """Which of `of_arms` the arm, as plain data, sets."""
    everywhere = {**arm, **arm.get(OPTIONS, {}), **arm.get(WORKLOAD, {})}
    return {name: everywhere[name] for name in of_arms() if name in everywhere}


def parse(one: Known, value: Any, source: str, *, stage: str = "plan") -> Any:
    """As `Known.parse`; raises UsageError that begins with `source`, where the value comes from."""
    try:
        return one.parse(value)
    except ValueError as error:
        text = value if isinstance(value, str) else ", ".join(map(str, value))
        quoted = "" if one.setting.is_secret else f" {shortened(text)}"
        hint = f"{one.flag} {one.metavar}: {one.help}" if one.flag else f"{one.name}: {one.help}"
        hint = in_sweep(one, text) if "," in text and one.name in of_arms() else hint
        raise UsageError(f"{source}{quoted} is not valid: {error}.", stage=stage, hint=hint) from error


def in_sweep(one: Known, values: str) -> str:
    """The way to compare several values of a setting in which arms may differ."""
    return f"To compare several values: `execbench sweep --over {one.name}={values}`."


def pairs(texts: Iterable[str], source: str) -> dict[str, str]:
    """Return KEY=VALUE … as a dict, with _ for - in keys. Raises UsageError for any other text."""
    found = [text.partition("=") for text in texts]
    for key, _, value in found:
        if not key or not value:
            raise UsageError(
                f"{source} {shortened(key)!r} is not KEY=VALUE.",
                stage="plan",
                hint="For example: max_batch=16",
            )
    named = [(key.strip().replace("-", "_"), value.strip()) for key, _, value in found]
    if twice := [name for name, times in Counter(name for name, _ in named).items() if times > 1]:
        raise UsageError(f"{source}: {twice[0]} is given twice, but takes one value.", stage="plan")
    return dict(named)


def parsed_pairs(texts: Iterable[str], source: str, known: Mapping[str, Known]) -> dict[str, Any]:
    """Return KEY=VALUE … as settings with their types. Raises UsageError that suggests the nearest name."""
    given = pairs(texts, source)
    for name in given.keys() - known.keys():
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(sorted(known))}."
        raise UsageError(f"{source}: there is no option {shortened(name)!r}.", stage="plan", hint=hint)
    return {name: parse(known[name], value, f"{source}: {name}") for name, value in given.items()}
