"""Flags: those of settings, made from their declarations, and those that several commands share."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, get_type_hints

import typer

from harness.commands import completion
from harness.errors import UsageError
from harness.system import streams
from harness.wire.panel import Panel

if TYPE_CHECKING:
    from harness.plans.from_flags import Flags
    from harness.plans.settings import Known

Strategies = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="Run NAME or NAME:key=value,… (see `list`). Repeatable.",
        rich_help_panel=Panel.COMPARE,
        autocompletion=completion.strategies,
    ),
]
Commands = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=COMMAND",
        help="Start this server on {port}, as an arm of this name. Repeatable.",
        rich_help_panel=Panel.RUNNING,
    ),
]
Urls = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=URL",
        help="Measure this server, as an arm of this name. Repeatable.",
        rich_help_panel=Panel.RUNNING,
    ),
]
UrlPids = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=PID",
        help="Count this process's CPU as the server's. Repeatable.",
        rich_help_panel=Panel.RUNNING,
    ),
]
Objectives = Annotated[
    list[str] | None,
    typer.Option(
        metavar="OBJECTIVE",
        help="Keep this: 'p99 < 100 ms', 'p99 io < 20 ms', 'errors < 0.1 %'. Repeatable.",
        rich_help_panel=Panel.COMPARE,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Save the run in this new folder. [results/<time>-<plan>]",
        rich_help_panel=Panel.OUTPUT,
    ),
]


def _keep_stdout(as_json: bool) -> bool:
    """Redirect what users' code prints, before any of it is imported."""
    if as_json:
        streams.reserve_stdout_for_document()
    return as_json


AsJson = Annotated[
    bool,
    typer.Option(
        "--json",
        callback=_keep_stdout,
        help="Print the results as one JSON document.",
        rich_help_panel=Panel.OUTPUT,
    ),
]
Full = Annotated[
    bool,
    typer.Option("--full", help="Print all tables, not only the short report.", rich_help_panel=Panel.OUTPUT),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Show what would run and for how long; start nothing.", rich_help_panel=Panel.OUTPUT
    ),
]
Resume = Annotated[
    Path | None,
    typer.Option(
        metavar="RUN",
        help="Continue an interrupted run, with its own plan.",
        rich_help_panel=Panel.OUTPUT,
        autocompletion=completion.runs,
    ),
]

_OPTION = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        "-o",
        metavar="KEY=VALUE",
        help="Set an option of strategies (see `settings`). Repeatable.",
        rich_help_panel=Panel.COMPARE,
    ),
]
_RATE = Annotated[
    list[float] | None,
    typer.Option(
        metavar="PER_S",
        help="Open loop: Poisson arrivals at this rate. Repeatable.",
        rich_help_panel=Panel.LOAD,
    ),
]


class Settings(NamedTuple):
    """Stands, as the default of a command's parameter, for one flag for each of these settings."""

    choose: Callable[[Known], bool]
    stage: str
    help: Callable[[], Mapping[str, str]]  # flag → its help in this command, if it differs
    more: Callable[[], list[Known]]  # settings that are not a plan's


def settings(
    choose: Callable[[Known], bool],
    *,
    stage: str = "plan",
    help: Callable[[], Mapping[str, str]] = dict,
    more: Callable[[], list[Known]] = list,
) -> Any:
    """Mark a command's parameter of type `Flags`. Errors in the flags name the stage."""
    return Settings(choose, stage, help, more)


def every(_: Known) -> bool:
    """Choose all settings."""
    return True


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command as typer reads it: with flags in place of a parameter that `settings` marks.

    The command itself gets one `from_flags.Flags`. The flags are made when the signature is first read, as
    that needs pydantic, and `execbench --help` must not.
    """
    return _WithSettings(command)


class _WithSettings:
    def __init__(self, command: Callable[..., None]) -> None:
        functools.update_wrapper(self, command)
        self._command = command
        self._own = inspect.signature(command).parameters
        self._name, self._mark = next(
            (name, one.default) for name, one in self._own.items() if isinstance(one.default, Settings)
        )

    @functools.cached_property
    def __signature__(self) -> inspect.Signature:
        # the name `Flags` is imported for type checkers only
        hints = get_type_hints(self._command, localns={"Flags": object}, include_extras=True)
        parameters = []
        for name, one in self._own.items():
            if name == self._name:
                parameters += _parameters(self._mark)
            else:
                parameters.append(one.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name]))
        self.__annotations__ = {one.name: one.annotation for one in parameters}
        return inspect.Signature(parameters)

    def __call__(self, **given: Any) -> None:
        flags = {name: given.pop(name) for name in given.keys() - self._own.keys()}
        self._command(**given, **{self._name: _flags(self._mark, flags)})


def _known(mark: Settings) -> list[Known]:
    from harness.plans import settings

    return [*(one for one in settings.every() if one.flags and mark.choose(one)), *mark.more()]


def _parameters(mark: Settings) -> list[inspect.Parameter]:
    from harness.plans import settings

    help_ = mark.help()
    found = [_parameter(one, help_.get(one.flag, one.help)) for one in _known(mark)]
    names = [one.name for one in found]
    if "arrivals" in names:
        found.insert(names.index("arrivals"), _keyword("rate", _RATE))
    if any(one.section == settings.OPTIONS for one in _known(mark)):
        found.insert(1, _keyword("option", _OPTION))
    return found


def _parameter(one: Known, help_line: str) -> inspect.Parameter:
    kind: Any = list[str] if one.is_repeatable else bool if one.is_switch else str
    option = typer.Option(
        *one.flags,
        metavar=one.metavar or None,
        help=help_line,
        rich_help_panel=one.setting.panel,
        autocompletion=completion.among(one.choices) if one.choices else None,
    )
    return _keyword(one.parameter, Annotated[kind | None, option])


def _keyword(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _flags(mark: Settings, given: Mapping[str, Any]) -> Flags:
    """Sort the values of flags into sections. Raises UsageError that names the flag of a wrong value."""
    from harness.plans import from_flags, settings

    sections: dict[str, dict[str, Any]] = {}
    for one in _known(mark):
        value = given[one.parameter]
        if value is None:
            continue
        value = _password_apart(value) if one.name == "io_dsn" else value
        parsed = settings.parse(one, value, one.flag, stage=mark.stage)
        sections.setdefault(one.section, {})[one.name] = parsed
    if pairs := given.get("option"):
        options = {one.name: one for one in settings.every() if one.section == settings.OPTIONS}
        parsed = settings.parsed_pairs(pairs, "--option", options)
        flags = sections.get(settings.OPTIONS, {})
        if twice := sorted(parsed.keys() & flags.keys()):
            raise UsageError(f"{twice[0]} is given twice, by --option and by its own flag.", stage="plan")
        sections[settings.OPTIONS] = parsed | flags
    if rates := given.get("rate"):
        laws = settings.find("arrivals", settings.PLAN)
        plan = sections.setdefault(settings.PLAN, {})
        plan["arrivals"] = (*(_poisson(laws, rate) for rate in rates), *plan.get("arrivals", ()))
    given_sections: dict[str, Any] = sections | {"workload": _with_io(sections.get("workload", {}))}
    return from_flags.Flags(**given_sections)


def _poisson(laws: Known, rate: float) -> Any:
    try:
        return laws.parse([f"poisson({rate:.15g})"])[0]
    except ValueError as error:
        why = str(error).rpartition(": ")[2]
        raise UsageError(f"--rate {rate:g} is not valid: {why}.", stage="plan") from error


def _with_io(workload: dict[str, Any]) -> dict[str, Any]:
    from harness.wire.spelling import with_io_split

    try:
        return with_io_split(workload)
    except ValueError as error:
        raise UsageError(f"--io and --io-ms: {error}.", stage="plan") from error


def _password_apart(dsn: str) -> str:
    """Return the address as it may be kept with the results; its password goes into the environment."""
    from urllib.parse import unquote, urlsplit

    try:
        parts = urlsplit(dsn)
        password = parts.password
    except ValueError:
        return dsn  # not an address: parsing says why
    if password is None:
        return dsn
    os.environ["PGPASSWORD"] = unquote(password)
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user.partition(':')[0]}@{host}").geturl()


def refuse_full_json(*, full: bool, as_json: bool) -> None:
    """Raise UsageError if --full comes with --json, which always has everything."""
    if full and as_json:
        raise UsageError(
            "Give either --full or --json, not both: JSON always has all tables.", stage="report"
        )


def refuse_resume(resume: Path | None) -> None:
    """Raise UsageError if --resume comes with --dry-run: only running it shows what a run has left."""
    if resume is not None:
        raise UsageError("Give either --dry-run or --resume, not both.", stage="resume")
