"""The command line that runs a plan again, or a part of it. Pure: a `run.json` goes in, a line comes out.

It says what differs from the built-in plan of that name, or else from a plan made of flags. A plan that no
flags can say (from a file of the user's own) has no command: a line that runs something else would be worse.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from harness.capacity.walk import Ways
from harness.errors import UsageError
from harness.plans import from_flags, grid, plan_files
from harness.plans.arm import Arm
from harness.plans.plan import Plan
from harness.system.printable import one_line
from harness.wire import sending
from harness.wire.options import LoadOptions, WorkloadOptions
from harness.workloads import IO_OPTIONS
from harness.workloads.io import kinds

Record = Mapping[str, Any]
Data = dict[str, Any]  # a plan, or an arm of one, as it stands in a run.json
Pair = tuple[Data, Data]  # an arm, and what it is before flags that are for all arms


class _Unsayable(Exception):
    """No flags make it."""


def command(record: Record, *, arms: tuple[str, ...] = (), blocks: int | None = None) -> str:
    """`execbench run …` for the run's plan, with these arms of it (all) and so many blocks (as it has).

    "" for a run without a plan, and where flags cannot say it. A sweep is repeated as a whole: its settings
    are no arms that flags can name.
    """
    return _line(lambda: _run(_plan(record, blocks), arms), blocks)


def beside(record: Record, arm: str, others: tuple[str, ...]) -> str:
    """`execbench run …` for one arm of the run, with other strategies beside it; "" as in `command`."""
    return _line(lambda: _run_beside(_plan(record), arm, others))


def capacity(record: Record, *, blocks: int) -> str:
    """`execbench capacity …` as the run was, with so many blocks; "" as in `command`."""
    return _line(lambda: _capacity(_plan(record, blocks), record["capacity"]), blocks)


def load(record: Record, url: str, *, users: int) -> str:
    """`execbench load` on `url` with so many users, who ask what the run has asked; "" as in `command`."""
    return _line(lambda: ["load", _address(url), "-c", str(users), *_loading(record)])


def strategy(arm: Record) -> str:
    """What `--strategy` would say of the arm: batch:over=process,workers=2; "" for an arm that has none."""
    if arm.get("url"):
        return ""
    name = str(arm.get("strategy") or "")
    said = {**(arm.get("options") or {})}
    if arm.get("workers") is not None:
        said = {"workers": arm["workers"], **said}
    if said.keys() == {"factory"}:
        return f"{name}:{said['factory']}"
    return name + (":" + ",".join(f"{key}={value}" for key, value in said.items()) if said else "")


def _plan(record: Record, blocks: int | None = None) -> Data:
    """Without its blocks where others are asked for: the line ends with those.

    Without any option of I/O where the workload has I/O of its own: flags could not repeat those.
    """
    plan = dict(record.get("plan") or {})
    if not plan.get("arms"):
        raise _Unsayable
    if any((arm.get("about") or {}).get("own_io") for arm in (record.get("arms") or {}).values()):
        plan["workload"] = {key: plan["workload"][key] for key in plan["workload"] if key not in IO_OPTIONS}
    return plan if blocks is None else {key: plan[key] for key in plan if key != "blocks"}


def _line(words: Callable[[], Iterable[str]], blocks: int | None = None) -> str:
    try:
        said = list(words())
    except (_Unsayable, UsageError, ValidationError):
        return ""
    return shell_line(["execbench", *said, *([] if blocks is None else ["--blocks", str(blocks)])])


def shell_line(words: Iterable[object]) -> str:
    """A command for a POSIX shell; "" where a word has a line end or a hidden character."""
    said = [str(word) for word in words]
    return "" if any(one_line(word) != word for word in said) else shlex.join(said)


# -- which plan ------------------------------------------------------------------------------------------


def _run(plan: Data, wanted: tuple[str, ...]) -> Iterator[str]:
    if plan.get("sweep"):
        return _of_sweep(plan)
    kept = [name for name in _names(plan["arms"]) if not wanted or name in wanted]
    base = plan_files.built_in(str(plan.get("name")))
    return _of_flags("run", plan, _flags(), kept) if base is None else _of_built_in(plan, base, kept)


def _run_beside(plan: Data, arm: str, others: tuple[str, ...]) -> Iterator[str]:
    """Beside an arm of a built-in plan stand those of its own that have these names, or all of it."""
    if plan.get("sweep"):
        raise _Unsayable
    base = plan_files.built_in(str(plan.get("name")))
    if base is None:
        return _of_flags("run", plan, _flags(), [arm], others)
    own = [one.name for one in base.arms if one.name in others and one.name != arm]
    return _of_built_in(plan, base, [arm, *own] if own else None)


def _capacity(plan: Data, asked: Record) -> Iterator[str]:
    """The loads and the windows of the plan are the walk's own."""
    own = ("concurrency", "arrivals", "open_duration_s")
    usual = Ways()
    yield from _of_flags(
        "capacity",
        {key: plan[key] for key in plan if key not in own},
        _flags() | {"blocks": usual.blocks},
        _names(plan["arms"]),
        before=[word for objective in asked["objectives"] for word in ("--slo", str(objective))],
    )
    for flag, name in (("--window", "window_s"), ("--search-window", "search_s")):
        if asked.get(name, getattr(usual, name)) != getattr(usual, name):
            yield from (flag, _text(asked[name]))


def _of_built_in(plan: Data, built_in: Plan, kept: list[str] | None) -> Iterator[str]:
    """None kept: all. Arms that scale their I/O are none of it where the I/O takes what it takes."""
    base = _dump(built_in)
    scales = kinds.takes_ms(str((plan.get("workload") or {}).get("io", built_in.workload.io)))
    known = {arm["name"]: arm for arm in base["arms"] if scales or not arm["io_per_model"]}
    kept = kept or list(known)
    if not {*kept, *_names(plan["arms"])} <= known.keys():
        raise _Unsayable
    yield from ("run", built_in.name)
    if len(kept) < len(known):
        yield from (word for name in kept for word in ("--strategy", name))
    yield from _reference(plan, built_in.reference, {name: name for name in kept})
    yield from _for_all([(_whole(known[arm["name"]] | arm), known[arm["name"]]) for arm in plan["arms"]])
    yield from _differing(plan, base)


def _of_flags(
    name: str,
    plan: Data,
    base: Data,
    kept: list[str],
    others: Iterable[str] = (),
    before: Iterable[str] = (),
) -> Iterator[str]:
    """Each arm as `--strategy` or `--url` says it, whatever the plan has called it."""
    arms = [arm for arm in plan["arms"] if arm["name"] in kept]
    made = [_made(arm) for arm in arms]
    names = dict(zip(_names(arms), _names(made), strict=True))
    if len(set(names.values())) < len(arms):
        raise _Unsayable
    yield from (name, *before)
    for arm in arms:
        text = strategy(arm)
        yield from ("--strategy", text) if text else ("--url", f"{arm['name']}={arm['url']}")
        yield from (word for pid in arm.get("pid", ()) for word in ("--url-pid", f"{arm['name']}={pid}"))
    yield from (word for text in others if text not in names.values() for word in ("--strategy", text))
    yield from _reference(plan, None, names)
    yield from _for_all([(_whole(arm), was) for arm, was in zip(arms, made, strict=True)])
    yield from _differing(plan, base)


def _of_sweep(plan: Data) -> Iterator[str]:
    """Whether its servers stay is always said: unless told, a sweep looks at the memory that is free."""
    sweep = plan["sweep"]
    made = [_whole(arm) for arm, _ in grid.settings(sweep["strategies"], sweep["axes"])]
    if len(made) != len(plan["arms"]):
        raise _Unsayable
    yield "sweep"
    yield from (word for name in sweep["strategies"] for word in ("--strategy", str(name)))
    for axis, values in sweep["axes"].items():
        yield from ("--over", f"{axis}={','.join(map(str, values))}")
    yield from _reference(plan, None, {name: name for name in _names(plan["arms"])})
    yield from _for_all([(_whole(arm), was) for arm, was in zip(plan["arms"], made, strict=True)])
    yield from _differing(plan, _flags() | {"blocks": grid.BLOCKS, "fresh": None})


# -- arms ------------------------------------------------------------------------------------------------


def _names(arms: Iterable[Data]) -> list[str]:
    return [str(arm["name"]) for arm in arms]


def _made(arm: Data) -> Data:
    """What the flags make that say the arm."""
    if arm.get("url"):
        return _whole({"name": arm["name"], "url": arm["url"], "pid": arm.get("pid", ())})
    return _whole(from_flags.arm_of(strategy(arm)))


def _whole(arm: Data) -> Data:
    return Arm.model_validate(arm).model_dump(mode="json")


def _reference(plan: Data, usual: str | None, names: Mapping[str, str]) -> Iterator[str]:
    """`names`: how the arms that are kept will be called. One that is none of them is not said."""
    chosen = plan.get("reference") or usual or ""
    if chosen in names and chosen != usual:
        yield from ("--reference", names[chosen])


def _for_all(pairs: list[Pair]) -> Iterator[str]:
    """The flags that make each first arm of its second, both names aside; they are for all that obey them."""
    said = _changed(pairs)
    flags = from_flags.Flags(
        workers=said.get(("workers", "")),
        server_processes=said.get(("server_processes", "")),
        options={name: str(value) for (kind, name), value in said.items() if kind == "options"},
        inject={name: value for (kind, name), value in said.items() if kind == "inject"},
    )
    for arm, was in pairs:
        if _whole(from_flags.with_arm_flags(was, flags)) | {"name": arm["name"]} != arm:
            raise _Unsayable
    if flags.workers is not None:
        yield from ("--workers", str(flags.workers))
    yield from (word for pair in flags.options.items() for word in ("--option", "=".join(pair)))
    if flags.server_processes is not None:
        yield from ("--server-processes", str(flags.server_processes))
    for name, delay_ms in flags.inject.items():
        yield from ("--inject", f"{name.removesuffix('_ms')}={_text(delay_ms)}")


def _changed(pairs: list[Pair]) -> dict[tuple[str, str], Any]:
    """What arms have in the place of what they had, by kind and name: where several have, all the same."""
    found: dict[tuple[str, str], Any] = {}
    for arm, was in pairs:
        before = dict(_settings(was))
        for place, value in _settings(arm):
            if value != before.get(place) and found.setdefault(place, value) != value:
                raise _Unsayable
    return found


def _settings(arm: Data) -> Iterator[tuple[tuple[str, str], Any]]:
    for name in ("workers", "server_processes"):
        yield (name, ""), arm[name]
    for kind in ("options", "inject"):
        for name, value in arm[kind].items():
            yield (kind, name), value


# -- everything else -------------------------------------------------------------------------------------

_VALUES = {
    "precision": "--precision",
    "cap": "--cap",
    "transport": "--transport",
    "timeout_s": "--timeout",
    "seed": "--seed",
}
_SWITCHES = {
    "twin": ("--twin", "--no-twin"),
    "fresh": ("--fresh", "--resident"),
    "pin": ("--pin", "--no-pin"),
    "self_check": ("--self-check", "--no-self-check"),
    "limit": ("--limit", "--no-limit"),
}
_LOADS = ("concurrency", "arrivals")
_WINDOW = ("requests", "requests_per_user", "duration_s", "open_duration_s")
_BY_THEMSELVES = {"arms", "reference", "sweep", "ask", "exclude", "workload", "blocks"}
_FOR_READERS = {"name", "summary", "notes", "claims"}  # they follow from the rest
_SAYABLE = {*_VALUES, *_SWITCHES, *_LOADS, *_WINDOW, *_BY_THEMSELVES, *_FOR_READERS}


def _flags() -> Data:
    """The plan that flags make when they say nothing; without its load, so that one is always said."""
    arm = {"name": "a", "strategy": from_flags.ARTICLES[0]}
    plan = Plan.model_validate({**from_flags.WITHOUT_PLAN, "concurrency": [1], "arms": [arm]})
    return _dump(plan) | {"concurrency": []}


def _dump(plan: Plan) -> Data:
    """Of its workload what it says alone: the rest are defaults, which differ between workloads."""
    said = plan.workload.model_dump(mode="json", exclude_unset=True)
    return plan.model_dump(mode="json") | {"workload": said}


def _differing(plan: Data, base: Data) -> Iterator[str]:
    """What the plan has in the place of what `base` has, arms left out."""
    plan = base | plan
    changed = {key for key in base if plan[key] != base[key]}
    if changed - _SAYABLE:
        raise _Unsayable
    if changed & set(_LOADS):
        yield from (word for users in plan["concurrency"] for word in ("-c", str(users)))
        yield from (word for law in plan["arrivals"] for word in ("--arrivals", str(law)))
    yield from _window([plan[key] for key in _WINDOW], [base[key] for key in _WINDOW])
    yield from (words[not plan[key]] for key, words in _SWITCHES.items() if key in changed)
    yield from _values(plan, base)
    yield from _excluding(plan["exclude"], base["exclude"])
    yield from _workload(plan["workload"] or {}, base["workload"])
    yield from _asking(plan["ask"] or {}, texts=bool((plan["workload"] or {}).get("payloads")))
    if "blocks" in changed:
        yield from ("--blocks", str(plan["blocks"]))


def _values(plan: Data, base: Data) -> Iterator[str]:
    for key, flag in _VALUES.items():
        if key in plan and plan[key] != base[key]:
            if plan[key] is None:
                raise _Unsayable
            yield from (flag, _text(plan[key]))


def _excluding(asked: Data, usual: Data) -> Iterator[str]:
    """Of the criteria, flags say one."""
    changed = {key for key in usual if asked.get(key) != usual[key]}
    if changed - {"foreign_cpu"}:
        raise _Unsayable
    if changed:
        yield from ("--exclude-foreign-cpu", _text(asked["foreign_cpu"]))


def _window(asked: list[Any], usual: list[Any]) -> tuple[str, ...]:
    """--duration and --requests take the place of all that a plan says of it."""
    requests, _, duration_s, _ = asked
    if asked == usual:
        return ()
    if duration_s is not None and asked == [None, None, duration_s, duration_s]:
        return ("--duration", _text(duration_s))
    if requests is not None and asked == [requests, None, None, usual[-1]]:
        return ("--requests", str(requests))
    raise _Unsayable


def _workload(asked: Data, usual: Data) -> Iterator[str]:
    """Another workload than the plan's starts from its own defaults, but keeps the texts and the I/O."""
    before = usual.get("name", WorkloadOptions().name)
    name = str(asked.get("name", before))
    if name != before:
        usual = {key: usual[key] for key in ("payloads", *IO_OPTIONS) if key in usual} | {"name": name}
        yield from ("--workload", name)
    usual = WorkloadOptions.model_validate(usual).model_dump(mode="json")
    asked = usual | asked
    changed = {key for key in usual if asked[key] != usual[key]}
    if any(key not in _OF_WORKLOAD or asked[key] is None or asked[key] is False for key in changed):
        raise _Unsayable
    for key, flag in _OF_WORKLOAD.items():
        if key in changed:
            yield from (flag,) if asked[key] is True else (flag, _text(asked[key]))


_OF_WORKLOAD = {
    "payloads": "--payloads",
    "model": "--model",
    "backend": "--backend",
    "torch_threads": "--torch-threads",
    "onnx_threads": "--onnx-threads",
    "device": "--device",
    "online": "--online",
    "service_ms": "--service-ms",
    "mode": "--mode",
    "io": "--io",
    "io_ms": "--io-ms",
    "io_dsn": "--io-dsn",
    "io_rows": "--io-rows",
    "io_timeout_s": "--io-timeout",
}


def _address(url: str) -> str:
    if str(url).startswith("-"):  # it would be an option
        raise _Unsayable
    return url


def _loading(record: Record) -> Iterator[str]:
    """What `execbench load` is told beside address and users, after a run of a plan or a load."""
    plan, told = record.get("plan") or {}, record.get("load") or {}
    texts = told.get("texts") or {}
    payloads = ((texts or plan).get("workload") or {}).get("payloads")
    asked = {**(plan.get("ask") or told), "ping_path": None}
    yield from _asking(asked, texts=bool(payloads or texts))
    if payloads:
        yield from ("--payloads", str(payloads))
    if texts and texts.get("seed", 1) != 1:
        yield from ("--seed", str(texts["seed"]))
    usual = {name: LoadOptions.model_fields[name].default for name in ("transport", "timeout_s")}
    yield from _values({key: value for key, value in (plan or told).items() if key in usual}, usual)


def _asking(asked: Data, *, texts: bool) -> Iterator[str]:
    """What servers that run already are asked; what was kept secret is read from the environment."""
    body, method = asked.get("body"), asked.get("method")
    if method not in (None, "GET") or (method and (texts or body is not None)):
        yield from ("--method", str(method))
    for name, value in map(sending.asked_again, asked.get("headers") or ()):
        yield from ("--header", f"{name}: {value}")
    if body is not None:
        yield from ("--body", body)
    status = asked.get("expect_status", asked.get("expected_status", 200))
    if status != 200:
        yield from ("--expect-status", str(status))
    if asked.get("ping_path") is not None:
        yield from ("--ping-path", asked["ping_path"])


def _text(value: Any) -> str:
    return f"{value:.15g}" if isinstance(value, float) else str(value)
