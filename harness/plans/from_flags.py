"""Make a plan of flags, or change a plan by flags."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import strategies
from harness import workloads
from harness.errors import UsageError, shortened
from harness.plans import plan_checks, plan_files, settings
from harness.plans.plan import OF_OUR_SERVERS, Plan
from harness.wire.load_options import REVEALED
from harness.wire.options import IO_OPTIONS
from harness.wire.server_command import ONLY_OF_COMMANDS
from harness.workloads.io import kinds


@dataclasses.dataclass(frozen=True)
class Flags:
    """The flags that were given, by the section of `plans.settings` that they belong to."""

    strategies: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()  # NAME=COMMAND
    urls: tuple[str, ...] = ()  # NAME=URL
    url_pids: tuple[str, ...] = ()  # NAME=PID
    options: dict[str, Any] = dataclasses.field(default_factory=dict)  # for the arms that take them
    arm: dict[str, Any] = dataclasses.field(default_factory=dict)  # for the arms that have these keys
    plan: dict[str, Any] = dataclasses.field(default_factory=dict)
    workload: dict[str, Any] = dataclasses.field(default_factory=dict)
    ask: dict[str, Any] = dataclasses.field(default_factory=dict)
    exclude: dict[str, Any] = dataclasses.field(default_factory=dict)
    capacity: dict[str, Any] = dataclasses.field(default_factory=dict)  # of `execbench capacity` alone

    def but(self, **changes: Any) -> Flags:
        """The same flags with these changes."""
        return dataclasses.replace(self, **changes)

    def with_plan(self, **keys: Any) -> Flags:
        """The same flags with these keys of the plan; None removes one."""
        plan = {name: value for name, value in {**self.plan, **keys}.items() if value is not None}
        return self.but(plan=plan)


ARTICLES = ("inline", "thread", "process", "default_pool")  # the article's four strategies
_PID = re.compile(r"\d{1,9}", re.ASCII)
_ANOTHER_SCENARIO = frozenset({"name", "payloads", "backend", "service_ms", "mode"}) | IO_OPTIONS
_OF_TEXTS = frozenset({"name", "payloads"})  # of a workload: where the texts come from
_OF_ANY_WORKLOAD = IO_OPTIONS | {"payloads"}

WITHOUT_PLAN: dict[str, Any] = {
    "name": "flags",
    "summary": "made of command-line flags",
    "duration_s": 0.5,
    "requests_per_user": 5,
    "settle_s": 0.1,
}


def from_flags(flags: Flags, *, arms: list[dict[str, Any]] | None = None, **fields: Any) -> Plan:
    """Make a plan of flags alone; by default the article's four strategies at c = 8.

    `arms` replace the flags' strategies; `fields` are keys of the plan that no flag sets.
    """
    _refuse_contradictions(flags)
    if arms is None:
        arms = _running_servers(flags) or _started_servers(flags)
    loads = {} if flags.plan.keys() & {"arrivals", "concurrency"} else {"concurrency": [8]}
    data = {**WITHOUT_PLAN, **loads, **fields, "arms": arms}
    return plan_files.make(_with_flags(data, flags), source="plan made of these flags")


def _refuse_contradictions(flags: Flags) -> None:
    """Raise UsageError if a flag for all arms sets what --strategy NAME:key=value sets for one."""
    for_all = {**flags.options, **flags.workload, **flags.arm}
    for text in flags.strategies:
        for name, value in settings.given_in(arm_of(text)).items():
            if name in for_all and for_all[name] != value:
                raise UsageError(
                    f"--strategy {shortened(text)} and another flag both set {name}.",
                    stage="plan",
                    hint=f"Set {name} in one of them.",
                )


def _started_servers(flags: Flags) -> list[dict[str, Any]]:
    """Return the arms of strategies and commands; by default the article's strategies."""
    named = flags.strategies or (() if flags.commands else ARTICLES)
    return [*with_distinct_names(map(arm_of, named)), *map(command_of, flags.commands)]


def command_of(text: str) -> dict[str, Any]:
    """Return the arm of NAME=COMMAND as plain data; raise UsageError for any other text."""
    name, _, command = text.partition("=")
    if not command.strip() or not name or " " in name:
        raise UsageError(
            f"--command {shortened(text)!r} is not NAME=COMMAND.",
            stage="plan",
            hint="For example: --command mine='uvicorn app:app --port {port}'",
        )
    return {"name": name, "command": command}


def _running_servers(flags: Flags) -> list[dict[str, Any]]:
    """Return the arms of NAME=URL …; raise UsageError for any other text, and if strategies are given too."""
    if flags.urls and (flags.strategies or flags.commands):
        starts = "--strategy starts servers" if flags.strategies else "--command starts them"
        raise UsageError(
            f"--url measures servers that already run, {starts}: they do different work.",
            stage="plan",
            hint="Use two runs, and compare their reports.",
        )
    arms = []
    for text in flags.urls:
        name, _, url = text.partition("=")
        if not url or "/" in name:
            raise UsageError(
                f"--url {shortened(text)!r} has no name.",
                stage="plan",
                hint="Tables show the name. For example: --url mine=http://127.0.0.1:8000/embed",
            )
        arms.append({"name": name, "url": url})
    return arms


def _with_pids(arms: list[dict[str, Any]], texts: Iterable[str]) -> list[dict[str, Any]]:
    """Return the arms with the processes of NAME=PID …; raise UsageError for other texts and unknown arms."""
    named: dict[str, list[int]] = {}
    for text in texts:
        name, _, pid = text.partition("=")
        if name not in [arm["name"] for arm in arms] or not _PID.fullmatch(pid):
            raise UsageError(
                f"--url-pid {shortened(text)!r} is not understood.",
                stage="plan",
                hint=f"Name an arm of --url and a process, as in --url-pid {arms[0]['name']}=4711",
            )
        named.setdefault(name, []).append(int(pid))
    return [arm | {"pid": named[arm["name"]]} if arm["name"] in named else arm for arm in arms]


def arm_of(text: str) -> dict[str, Any]:
    """Return the arm of NAME or NAME:key=value,key=value as plain data; its name in tables is the text.

    In the name, a Python is called by its environment: thread-new for thread:python=../new/bin/python.
    """
    strategy, _, rest = text.partition(":")
    if "," in strategy:
        raise UsageError(
            f"--strategy {shortened(text)} names several strategies.",
            stage="plan",
            hint="Give the flag once for each: --strategy thread --strategy process",
        )
    if rest and "=" not in rest and strategy != "executor":
        raise UsageError(
            f"--strategy {shortened(text)} is not NAME:key=value,….",
            stage="plan",
            hint="For example: thread:workers=2",
        )
    if not rest or "=" not in rest:
        return {"name": as_name(text), "strategy": text}
    arm: dict[str, Any] = {"name": as_name(text), "strategy": strategy}
    given = settings.parsed_pairs(rest.split(","), f"--strategy {shortened(strategy)}", settings.of_arms())
    for name, value in given.items():
        arm = settings.with_setting(arm, name, value)
    if "python" in given:
        words = (called(given["python"]) if _is_python(one) else one for one in rest.split(","))
        arm["name"] = as_name(f"{strategy}:{','.join(words)}")
    return arm


def _is_python(pair: str) -> bool:
    return pair.partition("=")[0].strip() == "python"


def called(python: str) -> str:
    """Return a short name of a Python by its path: new of ../new/bin/python, app-.venv of ../app/.venv."""
    path = Path(python)
    home = path.parent.parent if path.parent.name == "bin" else path.parent
    if any(map(str.isdigit, path.name)) and not (home / "pyvenv.cfg").exists():
        return path.name  # as python3.13
    above = f"{home.parent.name}-" if home.name.strip(".") in ("venv", "env") else ""
    return f"{above}{home.name}"


def with_distinct_names(arms: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the arms; those of two environments with the same name get a number."""
    found: list[dict[str, Any]] = []
    for arm in arms:
        alike = [one for one in found if one["name"] == arm["name"]]
        if alike and all(one.get("python") != arm.get("python") for one in alike):
            taken = sum(one["name"].startswith(arm["name"]) for one in found)
            arm = arm | {"name": as_name(f"{arm['name'][:56]}-{taken + 1}")}
        found.append(arm)
    return found


def as_name(text: str) -> str:
    """Return the text with the characters that names of arms may have."""
    return re.sub(r"[^a-z0-9_.-]+", "-", text.lower())[:60]


def override(plan: Plan, flags: Flags, *, adds_strategies: bool = False) -> Plan:
    """Return the plan changed by the flags. `strategies` selects its arms, and may add some.

    Arms that scale their I/O are left out, with a note, if the I/O's duration cannot be set. Published claims
    are judged only if workers, options, workload and I/O are the plan's own.
    """
    data = plan.model_dump(exclude_unset=True, context=REVEALED)
    if flags.urls and not plan.has_running_servers:
        raise UsageError(
            f"The plan {plan.name!r} starts its own servers, so --url cannot be used with it.",
            stage="plan",
            hint="Use --url without a plan, or a plan file whose [[arms]] have name and url.",
        )
    data["arms"] = _running_servers(flags) or data["arms"]
    data["arms"] = [*data["arms"], *map(command_of, flags.commands)]
    if flags.strategies:
        choose = _kept_and_added if adds_strategies else _kept
        data["arms"] = choose(data["arms"], flags.strategies, plan)
        data.pop("sweep", None)  # some of its settings are missing now
        data.pop("left_out", None)  # none of them was asked for
        data["notes"] = [note for note in data.get("notes", ()) if not note.startswith(plan_files.LEFT_OUT)]
        if data.get("reference") not in [arm["name"] for arm in data["arms"]]:
            data.pop("reference", None)
        if all(arm.get("command") for arm in data["arms"]):  # `--strategy` left none of ours
            data = {key: value for key, value in data.items() if key not in OF_OUR_SERVERS}
    io = flags.workload.get("io", plan.workload.io)
    if not kinds.takes_ms(io):
        data = _without_scaled(data, io)
    if flags.options or flags.arm or _ANOTHER_SCENARIO & flags.workload.keys():
        data["claims"] = None  # they are about this plan's workers, workload and I/O
    return plan_files.make(_with_flags(data, flags), source=f"plan {plan.name!r} with these flags")


def _kept(arms: list[dict[str, Any]], wanted: Iterable[str], plan: Plan) -> list[dict[str, Any]]:
    """Return the arms with these names or strategies; raise UsageError for one that the plan lacks."""
    have = dict.fromkeys(arm.strategy for arm in plan.arms)
    for name in wanted:
        if why := plan_files.why_left_out(plan, name):
            raise UsageError(
                f"The arm {name!r} of the plan {plan.name!r} cannot be started: {why}.",
                stage="plan",
                hint="Install it, or leave it out." if name in plan.left_out else "Leave it out.",
            )
        if name not in have and name not in [arm.name for arm in plan.arms]:
            plan_checks.find_strategy(name.partition(":")[0])
            raise UsageError(
                f"The plan {plan.name!r} has no arm or strategy {shortened(name)!r}.",
                stage="plan",
                hint=f"With a plan, --strategy selects its arms: {', '.join(have)}. "
                "To add arms, give the folder of a run, or leave the plan out.",
            )
    return [arm for arm in arms if {arm["strategy"], arm["name"]} & set(wanted)]


def _kept_and_added(arms: list[dict[str, Any]], wanted: Iterable[str], _: Plan) -> list[dict[str, Any]]:
    """Return for each text the arm of that name, else the arms of that strategy, else a new arm."""
    names: set[str] = set()
    added: list[dict[str, Any]] = []
    for text in wanted:
        new = arm_of(text)
        its = [arm for arm in arms if arm["name"] == new["name"]]
        its = its or [arm for arm in arms if arm["strategy"] == text]
        names |= {arm["name"] for arm in its}
        added += [] if its else [new]
    return [*(arm for arm in arms if arm["name"] in names), *added]


def _without_scaled(data: dict[str, Any], io: str) -> dict[str, Any]:
    left_out = [arm["name"] for arm in data["arms"] if arm.get("io_per_model")]
    if not left_out:
        return data
    kept = [arm for arm in data["arms"] if arm["name"] not in left_out]
    if not kept:
        raise UsageError(
            f"Every arm of this plan scales its I/O, and the duration of {io} cannot be set.", stage="plan"
        )
    if data.get("reference") in left_out:
        data.pop("reference")
    why = f"they scale their I/O to the model, and the duration of {io} cannot be set"
    notes = (*data.get("notes", ()), f"Left out: {', '.join(left_out)}; {why}.")
    return {**data, "arms": kept, "notes": notes}


def _with_flags(data: dict[str, Any], flags: Flags) -> dict[str, Any]:
    data = _with_loads(data | flags.plan, flags)
    workload = _with_workload(data.get("workload", {}), flags.workload)
    for group, given in (("ask", flags.ask), ("exclude", flags.exclude)):
        if given:
            data = data | {group: data.get(group, {}) | given}
    _refuse_unused_arm_flags(data["arms"], flags)
    arms = [_with_arm_flags(arm, flags) for arm in _with_pids(data["arms"], flags.url_pids)]
    for name in flags.options:
        refuse_unused(name, data["arms"])
    return {**data, "workload": workload, "arms": arms}


def refuse_unused(option: str, arms: list[dict[str, Any]]) -> None:
    """Raise UsageError if no arm's strategy takes this option."""
    if any(option in plan_checks.obeyed_by(arm) for arm in arms):
        return
    if arms and all(arm.get("url") or arm.get("command") for arm in arms):
        kind = "Servers that already run (--url)" if arms[0].get("url") else "Commands"
        raise UsageError(
            f"{kind} do not take the option {option!r}.",
            stage="plan",
            hint="It sets how execbench starts its own server.",
        )
    takers = [name for name in strategies.NAMES if option in strategies.get(name).TAKES]
    raise UsageError(
        f"No strategy of this plan takes the option {option!r}.",
        stage="plan",
        hint=f"These do: {', '.join(takers) or 'none'}.",
    )


def _with_loads(data: dict[str, Any], flags: Flags) -> dict[str, Any]:
    """Let loads that are given replace the plan's; a window too, in closed and open loops."""
    given = flags.plan
    if given.keys() & {"arrivals", "concurrency"}:
        data = data | {"concurrency": given.get("concurrency", ()), "arrivals": given.get("arrivals", ())}
    if "requests" in given and not data.get("concurrency"):
        raise UsageError(
            "--requests counts the requests of a closed loop, and this plan has none.",
            stage="plan",
            hint="Set the window of an open loop with --duration.",
        )
    if "requests" in given and "duration_s" in given:
        raise UsageError("Give either --requests or --duration, not both.", stage="plan")
    if "duration_s" in given:
        data = data | {"requests": None, "requests_per_user": None, "open_duration_s": given["duration_s"]}
    elif "requests" in given:
        data = data | {"duration_s": None, "requests_per_user": None}
    return data


def _with_workload(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return the options of the workload, changed by those given.

    A workload other than the plan's starts from its own defaults, but keeps the texts, and the I/O unless it
    has its own. Another kind of I/O starts from its own defaults, but keeps the duration if it can be set.
    """
    name = changes.get("name", base.get("name", ""))
    if base and name != base.get("name", ""):
        kept = {"payloads"} if workloads.has_io(name) else _OF_ANY_WORKLOAD
        base = {key: base[key] for key in kept & base.keys()}
    if "io" in changes:
        kept = {"io_ms"} if kinds.takes_ms(changes["io"]) else set()
        base = {key: value for key, value in base.items() if key not in IO_OPTIONS or key in kept}
    return base | changes


def _with_arm_flags(arm: dict[str, Any], flags: Flags) -> dict[str, Any]:
    if arm.get("url") is not None:
        return arm | flags.arm  # the plan refuses what such an arm cannot have
    if arm.get("command") is not None:
        return arm | {name: flags.arm[name] for name in flags.arm.keys() & ONLY_OF_COMMANDS}
    takes = plan_checks.obeyed_by(arm)
    obeyed = {key: value for key, value in flags.options.items() if key in takes}
    if obeyed:
        arm = arm | {"options": arm.get("options", {}) | obeyed}
    inject = {"inject": arm.get("inject", {}) | flags.arm["inject"]} if "inject" in flags.arm else {}
    return arm | {name: flags.arm[name] for name in flags.arm.keys() - ONLY_OF_COMMANDS} | inject


def _refuse_unused_arm_flags(arms: list[dict[str, Any]], flags: Flags) -> None:
    """Raise UsageError for a flag of commands without a command, and for one of strategies without one."""
    if any(arm.get("url") is not None for arm in arms):
        return
    if (unused := sorted(flags.workload.keys() - _OF_TEXTS)) and all(arm.get("command") for arm in arms):
        raise UsageError(
            f"A command cannot have {unused[0]}.",
            stage="plan",
            hint="It sets the model or the I/O of execbench's own server; a command has its own.",
        )
    commands = [arm for arm in arms if arm.get("command") is not None]
    if (unused := sorted(flags.arm.keys() & ONLY_OF_COMMANDS)) and not commands:
        raise UsageError(
            f"--{unused[0]} is about servers that are commands, and this plan has none.",
            stage="plan",
            hint="Add one: --command NAME='COMMAND --port {port}'",
        )
    if (unused := sorted(flags.arm.keys() - ONLY_OF_COMMANDS)) and len(commands) == len(arms):
        raise UsageError(
            f"A command cannot have {unused[0]}.",
            stage="plan",
            hint="It sets how execbench starts its own server.",
        )
