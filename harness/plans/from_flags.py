"""What the command line says → a plan made of it, or another plan changed by it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pydantic import ConfigDict, Field

import strategies
from harness import workloads
from harness.errors import UsageError, shortened
from harness.plans import plan_checks, plan_files
from harness.plans.plan import Plan
from harness.wire.options import REVEALED, Frozen
from harness.workloads.io import kinds


class Flags(Frozen):
    """What the command line says about a plan. None and empty: as the plan has it, or the default.

    The plan that is made of them checks the texts.
    """

    model_config = ConfigDict(str_max_length=None)

    strategies: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()  # NAME=URL
    url_pids: tuple[str, ...] = ()  # NAME=PID
    concurrency: tuple[int, ...] = ()
    requests: int | None = None
    duration_s: float | None = None
    blocks: int | None = None
    workers: int | None = None
    arrivals: tuple[str, ...] = ()
    precision: float | None = None
    fresh: bool | None = None
    twin: bool | None = None
    reference: str | None = None
    pin: bool | None = None
    self_check: bool | None = None
    limit: bool | None = None
    cap: int | None = None
    transport: str | None = None
    timeout_s: float | None = None
    seed: int | None = None
    options: dict[str, str] = Field(default_factory=dict)
    server_processes: int | None = None
    workload: dict[str, Any] = Field(default_factory=dict)
    inject: dict[str, float] = Field(default_factory=dict)
    ask: dict[str, Any] = Field(default_factory=dict)
    exclude: dict[str, float] = Field(default_factory=dict)


ARTICLES = ("inline", "thread", "process", "default_pool")  # the article's four strategies
_PID = re.compile(r"\d{1,9}", re.ASCII)
_ANOTHER_SCENARIO = frozenset({"name", "payloads", "backend", "service_ms", "mode"}) | workloads.IO_OPTIONS
_OF_ANY_WORKLOAD = workloads.IO_OPTIONS | {"payloads"}

WITHOUT_PLAN: dict[str, Any] = {
    "name": "flags",
    "summary": "made of command-line flags",
    "duration_s": 0.5,
    "requests_per_user": 5,
    "settle_s": 0.1,
}


def from_flags(flags: Flags, *, arms: list[dict[str, Any]] | None = None, **fields: Any) -> Plan:
    """A plan made of flags alone; by default the article's four strategies at c = 8.

    `arms` take the place of the flags' strategies; `fields` are the plan's where no flag says otherwise.
    """
    if arms is None:
        arms = _elsewhere(flags) or [arm_of(text) for text in flags.strategies or ARTICLES]
    loads = {} if flags.arrivals or flags.concurrency else {"concurrency": [8]}
    data = {**WITHOUT_PLAN, **loads, **fields, "arms": arms}
    return plan_files.make(_with_flags(data, flags), source="plan made of these flags")


def _elsewhere(flags: Flags) -> list[dict[str, Any]]:
    """The arms of NAME=URL …; UsageError for what is no such pair, or stands beside strategies."""
    if flags.urls and flags.strategies:
        raise UsageError(
            "--url names servers that run already, --strategy has some started: they do different work.",
            stage="plan",
            hint="Take two runs; their reports can be read side by side.",
        )
    arms = []
    for text in flags.urls:
        name, _, url = text.partition("=")
        if not url or "/" in name:
            raise UsageError(
                f"--url {shortened(text)!r} has no name.",
                stage="plan",
                hint="The name stands in tables, as in --url mine=http://127.0.0.1:8000/embed",
            )
        arms.append({"name": name, "url": url})
    return arms


def _with_pids(arms: list[dict[str, Any]], texts: Iterable[str]) -> list[dict[str, Any]]:
    """The arms with the processes of NAME=PID …; UsageError for what is no such pair, or names no arm."""
    named: dict[str, list[int]] = {}
    for text in texts:
        name, _, pid = text.partition("=")
        if name not in [arm["name"] for arm in arms] or not _PID.fullmatch(pid):
            raise UsageError(
                f"--url-pid {shortened(text)!r} is not understood.",
                stage="plan",
                hint=f"It names an arm and a process, as in --url-pid {arms[0]['name']}=4711",
            )
        named.setdefault(name, []).append(int(pid))
    return [arm | {"pid": named[arm["name"]]} if arm["name"] in named else arm for arm in arms]


def arm_of(text: str) -> dict[str, Any]:
    """An arm from NAME or NAME:key=value,key=value; the name in tables says all of it."""
    strategy, _, rest = text.partition(":")
    if not rest or "=" not in rest:
        return {"name": as_name(text), "strategy": text}
    options = pairs(rest.split(","), "--strategy")
    workers = options.pop("workers", None)
    arm = {"name": as_name(text), "strategy": strategy, "options": options}
    return arm if workers is None else arm | {"workers": workers}


def as_name(text: str) -> str:
    """The text as arms may be called."""
    return re.sub(r"[^a-z0-9_.-]+", "-", text.lower())[:60]


def pairs(texts: Iterable[str], flag: str) -> dict[str, str]:
    """KEY=VALUE … as a dict; UsageError for what is no such pair."""
    found = [text.partition("=") for text in texts]
    for key, _, value in found:
        if not key or not value:
            raise UsageError(
                f"{flag} {shortened(key)!r} is not understood.",
                stage="plan",
                hint="For example: max_batch=16",
            )
    return {key.strip().replace("-", "_"): value.strip() for key, _, value in found}


def override(plan: Plan, flags: Flags, *, adds_strategies: bool = False) -> Plan:
    """The plan with what the flags say in its place; `strategies` keeps the arms of those, or adds some.

    An I/O that takes what it takes has no place for arms that scale theirs: they are left out, with a note.
    Published claims are judged only while workers, options, workload and I/O are the plan's own.
    """
    data = plan.model_dump(exclude_unset=True, context=REVEALED)
    if flags.urls and not plan.runs_elsewhere:
        raise UsageError(
            f"The plan {plan.name!r} starts servers of its own, so it has no place for --url.",
            stage="plan",
            hint="--url without a plan makes one; so does a plan file with [[arms]] of name and url.",
        )
    data["arms"] = _elsewhere(flags) or data["arms"]
    if flags.strategies:
        choose = _kept_and_added if adds_strategies else _kept
        data["arms"] = choose(data["arms"], flags.strategies, plan)
        data.pop("sweep", None)  # its settings are not all there
        if data.get("reference") not in [arm["name"] for arm in data["arms"]]:
            data.pop("reference", None)
    io = flags.workload.get("io", plan.workload.io)
    if not kinds.takes_ms(io):
        data = _without_scaled(data, io)
    others = (flags.workers, flags.options, flags.server_processes, flags.inject)
    if any(others) or _ANOTHER_SCENARIO & flags.workload.keys():
        data["claims"] = None  # they are about this plan's workers, workload and I/O
    return plan_files.make(_with_flags(data, flags), source=f"plan {plan.name!r} with these flags")


def _kept(arms: list[dict[str, Any]], wanted: Iterable[str], plan: Plan) -> list[dict[str, Any]]:
    """The arms with these names or strategies; UsageError for one that the plan has not."""
    have = dict.fromkeys(arm.strategy for arm in plan.arms)
    for name in wanted:
        if name not in have and name not in [arm.name for arm in plan.arms]:
            plan_checks.find_strategy(name)
            raise UsageError(
                f"The plan {plan.name!r} has no arm with the strategy {shortened(name)!r}.",
                stage="plan",
                hint=f"It has: {', '.join(have)}. Without a plan, --strategy makes one.",
            )
    return [arm for arm in arms if {arm["strategy"], arm["name"]} & set(wanted)]


def _kept_and_added(arms: list[dict[str, Any]], wanted: Iterable[str], _: Plan) -> list[dict[str, Any]]:
    """Of each text the arm of that name, or else the arms of that strategy, or else a new arm."""
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
            f"Every arm of this plan scales its I/O, and {io} takes what it takes.", stage="plan"
        )
    if data.get("reference") in left_out:
        data.pop("reference")
    why = f"as their I/O is scaled to the model and {io} takes what it takes"
    notes = (*data.get("notes", ()), f"Left out, {why}: {', '.join(left_out)}.")
    return {**data, "arms": kept, "notes": notes}


_FOR_ARMS = {"strategies", "urls", "url_pids", "workers", "options", "server_processes", "inject"}
_FOR_GROUPS = {"ask", "exclude", "workload"}  # of which each key has its own flag


def _with_flags(data: dict[str, Any], flags: Flags) -> dict[str, Any]:
    plain = flags.model_dump(exclude=_FOR_ARMS | _FOR_GROUPS)
    data = data | {key: value for key, value in plain.items() if value not in (None, ())}
    data = _with_loads(data, flags)
    workload = _with_workload(data.get("workload", {}), flags.workload)
    for group, said in (("ask", flags.ask), ("exclude", flags.exclude)):
        if said:
            data = data | {group: data.get(group, {}) | said}
    arms = [_with_arm_flags(arm, flags) for arm in _with_pids(data["arms"], flags.url_pids)]
    for name in (*(["workers"] if flags.workers is not None else []), *flags.options):
        refuse_unheard(name, data["arms"])
    return {**data, "workload": workload, "arms": arms}


def refuse_unheard(option: str, arms: list[dict[str, Any]]) -> None:
    """UsageError when no arm obeys an option."""
    if any(option in plan_checks.obeyed_by(arm) for arm in arms):
        return
    what = "a number of workers" if option == "workers" else f"an option {option!r}"
    takers = [name for name in strategies.NAMES if option in strategies.get(name).TAKES]
    raise UsageError(
        f"No strategy of this plan takes {what}.",
        stage="plan",
        hint=f"Those that do: {', '.join(takers) or 'none'}.",
    )


def _with_loads(data: dict[str, Any], flags: Flags) -> dict[str, Any]:
    """Loads that are asked for replace the plan's; so does a window, closed and open."""
    if flags.arrivals or flags.concurrency:
        data = data | {"concurrency": flags.concurrency, "arrivals": flags.arrivals}
    if flags.requests is not None and not data.get("concurrency"):
        raise UsageError(
            "--requests counts the requests of a closed loop, and no load is one.",
            stage="plan",
            hint="Say how long an open loop is measured with --duration.",
        )
    if flags.duration_s is not None:
        data = data | {"requests": None, "requests_per_user": None, "open_duration_s": flags.duration_s}
    elif flags.requests is not None:
        data = data | {"duration_s": None, "requests_per_user": None}
    return data


def _with_workload(base: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    """Another workload than the plan's starts from its own defaults, but keeps the texts, and the I/O.

    The latter unless it has I/O of its own. Another I/O starts from its own defaults, but takes as long,
    where it can be told.
    """
    name = said.get("name", base.get("name", ""))
    if base and name != base.get("name", ""):
        kept = {"payloads"} if workloads.has_io(name) else _OF_ANY_WORKLOAD
        base = {key: base[key] for key in kept & base.keys()}
    if "io" in said:
        kept = {"io_ms"} if kinds.takes_ms(said["io"]) else set()
        base = {key: value for key, value in base.items() if key not in workloads.IO_OPTIONS or key in kept}
    return base | said


def _with_arm_flags(arm: dict[str, Any], flags: Flags) -> dict[str, Any]:
    takes = plan_checks.obeyed_by(arm)
    if flags.workers is not None and "workers" in takes:
        arm = arm | {"workers": flags.workers}
    heard = {key: value for key, value in flags.options.items() if key in takes}
    if heard:
        arm = arm | {"options": arm.get("options", {}) | heard}
    if flags.server_processes is not None:
        arm = arm | {"server_processes": flags.server_processes}
    return arm | {"inject": arm.get("inject", {}) | flags.inject} if flags.inject else arm
