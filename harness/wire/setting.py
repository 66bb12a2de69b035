"""A setting: a field of a pydantic model that users can set, declared in one place.

Attach a `Setting` to the type of a field with `Annotated`. The field (name, type, bounds, default) and the
`Setting` make the flag and its help, the key in a TOML plan, the axis of a sweep, the arm's `NAME:key=value`,
the JSON Schema of plans, and docs/reference/settings.md. `plans.settings` collects them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    WithJsonSchema,
)
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, PydanticOmit

import strategies
from harness.errors import shortened
from harness.system import signals
from harness.wire import bounds
from harness.wire.panel import Panel

LONGEST_TEXT = 16 * 2**20  # characters
MOST_PROBLEMS_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Setting:
    """What users read about a field. The help is one short imperative sentence."""

    help: str
    panel: Panel
    flag: str | None = ""  # "": derived from the field's name; None: only in plan files
    obeyed_by: tuple[str, ...] = ()  # the workloads or kinds of I/O that use it; empty: all
    metavar: str = ""  # "": derived from the field's name and type
    shown_default: str | None = None  # None: the field's own default
    is_repeatable: bool = False  # the flag may be repeated although the field is no tuple
    is_secret: bool = False  # messages do not quote the value
    hidden: bool = False  # for checks and fault injection: only in plan files, and in no document

    @property
    def meaning(self) -> str:
        """The help, after the workloads or kinds of I/O that obey the setting, if not all do."""
        who = ", ".join("your own" if one == "own" else one for one in self.obeyed_by)
        return f"{who}: {self.help}" if who else self.help

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Add the help to the JSON Schema of the field; leave a hidden field out of it."""
        if self.hidden:
            raise PydanticOmit
        return {**handler(core), "description": self.meaning}


class SetByRun:
    """Marks a field that users do not set: the JSON Schema of plans leaves it out."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        raise PydanticOmit


class Frozen(BaseModel):
    """Immutable. Refuses unknown keys, so that a typing error in a plan is found, and infinite numbers.

    Infinity, NaN and half a surrogate pair (a byte of an argument that is not UTF-8) do not survive JSON,
    through which these objects reach the child processes.
    """

    model_config = ConfigDict(  # with a maximum length, pydantic looks into texts, and refuses surrogates
        frozen=True, extra="forbid", allow_inf_nan=False, str_max_length=LONGEST_TEXT
    )

    def model_dump_json(self, **options: Any) -> str:
        """As pydantic's, but Ctrl-C waits: inside a serializer, pydantic would turn it into an error."""
        with signals.deferred():
            return super().model_dump_json(**options)

    def model_dump(self, **options: Any) -> dict[str, Any]:
        """As `model_dump_json`."""
        with signals.deferred():
            return super().model_dump(**options)


def _as_share(value: Any) -> Any:
    """Turn "3%" into 0.03."""
    if not (isinstance(value, str) and value.endswith("%")):
        return value
    try:
        return float(value.removesuffix("%")) / 100
    except ValueError:
        raise ValueError("it is not a share, such as 3% or 0.03") from None


Seconds = Annotated[float, Field(gt=0, le=bounds.A_DAY_S)]
SecondsOrZero = Annotated[float, Field(ge=0, le=bounds.A_DAY_S)]
Milliseconds = Annotated[float, Field(ge=0, le=bounds.A_DAY_MS)]
Users = Annotated[int, Field(gt=0, le=bounds.USERS)]
Requests = Annotated[int, Field(gt=0, le=bounds.REQUESTS)]
PerSecond = Annotated[float, Field(gt=0, le=bounds.PER_S)]
Seed = Annotated[int, Field(ge=0, le=bounds.SEED)]
BlockSeed = Annotated[int, Field(ge=0, le=bounds.BLOCK_SEED)]
Blocks = Annotated[int, Field(gt=0, le=bounds.BLOCKS)]
Workers = Annotated[int, Field(gt=0, le=strategies.MAX_WORKERS)]
Processes = Annotated[int, Field(gt=0, le=bounds.PROCESSES)]
Threads = Annotated[int, Field(gt=0, le=bounds.THREADS)]
_SHARE_SCHEMA = WithJsonSchema(
    {
        "anyOf": [
            {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
            {"type": "string", "pattern": r"^([1-9][0-9]?(\.[0-9]+)?|0?\.[0-9]*[1-9][0-9]*)%$"},
        ]
    }
)
Share = Annotated[float, Field(gt=0, lt=1), BeforeValidator(_as_share), _SHARE_SCHEMA]


def settings_of(fields: Mapping[str, FieldInfo]) -> dict[str, Setting]:
    """Return the settings among the fields of a model, by the field's name."""
    return {
        name: setting
        for name, field in fields.items()
        for setting in field.metadata
        if isinstance(setting, Setting)
    }


def explain(error: ValidationError) -> str:
    """Say what is wrong with which key, in one line."""
    problems = [
        problem
        for problem in error.errors(include_url=False, include_input=False)
        if problem["type"] != "too_short"
        or error.error_count() == 1  # a list with a wrong item counts as empty
    ]
    shown = [_with_key(problem) for problem in problems[:MOST_PROBLEMS_SHOWN]]
    more = len(problems) - len(shown)
    return "; ".join([*shown, *([f"and {more} more"] if more else [])])


def _with_key(problem: Any) -> str:
    key, words = ".".join(shortened(str(part)) for part in problem["loc"]), _in_words(problem)
    if words == _WORDS["missing"]:
        return f"{key} {words}"
    return f"{key}: {words}" if key else words


def reason(error: ValueError) -> str:
    """Say what is wrong with a single value, without its key."""
    if not isinstance(error, ValidationError):
        return str(error)
    problem = error.errors(include_url=False, include_input=False)[0]
    if problem["type"] == "extra_forbidden":
        return f"{shortened(str(problem['loc'][-1]))} is unknown"
    return _in_words(problem)


_WORDS = {  # pydantic's type of an error → what users read
    "extra_forbidden": "there is no such key",
    "string_unicode": "it holds bytes that are not UTF-8",
    "missing": "is missing",
    "tuple_type": "must be a list, like [1, 2]",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
}


def _in_words(problem: Any) -> str:
    if problem["type"] in _WORDS:
        return _WORDS[problem["type"]]
    message = str(problem["msg"]).removeprefix("Value error, ").partition(", unable to parse")[0]
    return message.replace("Input should be", "must be")
