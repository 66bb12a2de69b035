"""The command line that runs a plan again, or a part of it. Pure: a `run.json` goes in, a line comes out.

Built-in plans are named. One made of flags is written out as flags; of a file only the name is known.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from harness.options import Request, WorkloadOptions

Record = Mapping[str, Any]
Arm = Mapping[str, Any]  # as it stands in a recorded plan

_FLAGS, _SWEEP = "flags", "sweep"  # names of plans that no file has


def command(record: Record, *, arms: tuple[str, ...] = (), blocks: int | None = None) -> str:
    """`execbench run …` for the run's plan, with these arms of it (all) and so many blocks (as it has).

    "" for a run without a plan, and for one that asked servers in its own words. A sweep is repeated as a
    whole: its settings are no arms that flags can name.
    """
    plan = record.get("plan") or {}
    if not plan.get("arms") or plan.get("ask") not in (None, Request().model_dump(mode="json")):
        return ""
    words = _words(plan, arms)
    return shlex.join(["execbench", *words, *([] if blocks is None else ["--blocks", str(blocks)])])


def loads(record: Record, strategies: tuple[str, ...]) -> str:
    """`execbench run …` with these strategies, and everything else as the run had it."""
    plan = record.get("plan") or {}
    chosen = [word for name in strategies for word in ("--strategy", name)]
    return shlex.join(["execbench", "run", *chosen, *_measuring(plan), *workload(plan)])


def strategy(arm: Arm) -> str:
    """What `--strategy` would say of the arm: batch:over=process,workers=2; "" for an arm that has none."""
    if arm.get("url"):
        return ""
    name = str(arm.get("strategy") or "")
    said = {**(arm.get("options") or {})}
    if arm.get("workers") is not None:
        said = {"workers": arm["workers"], **said}
    if "factory" in said:
        name += f":{said.pop('factory')}"
    return name + (":" + ",".join(f"{key}={value}" for key, value in said.items()) if said else "")


def _words(plan: Record, arms: tuple[str, ...]) -> list[str]:
    if plan.get("sweep"):
        return ["sweep", *_swept(plan["sweep"]), *_measuring(plan), *workload(plan)]
    kept = [arm for arm in plan["arms"] if not arms or arm["name"] in arms]
    if plan.get("name") == _FLAGS:
        chosen = [word for arm in kept for word in _arm(arm)]
        return ["run", *chosen, *_measuring(plan), *workload(plan)]
    chosen = [word for arm in kept for word in ("--strategy", str(arm["name"]))] if arms else []
    return ["run", str(plan.get("name") or "PLAN.toml"), *chosen]


def _arm(arm: Arm) -> tuple[str, str]:
    """An arm may also be a server that runs already."""
    text = strategy(arm)
    return ("--strategy", text) if text else ("--url", f"{arm['name']}={arm.get('url', 'URL')}")


def _swept(sweep: Record) -> Iterator[str]:
    for name in sweep.get("strategies") or ():
        yield from ("--strategy", str(name))
    for axis, values in sweep["axes"].items():
        yield from ("--over", f"{axis}={','.join(map(str, values))}")


def _measuring(plan: Record) -> Iterator[str]:
    for users in plan.get("concurrency") or ():
        yield from ("-c", str(users))
    for law in plan.get("arrivals") or ():
        yield from ("--arrivals", str(law))
    if plan.get("requests"):
        yield from ("--requests", str(plan["requests"]))
    if plan.get("reference"):
        yield from ("--reference", str(plan["reference"]))
    if plan.get("twin"):
        yield "--twin"
    if plan.get("fresh"):
        yield "--fresh"


def workload(plan: Record) -> Iterator[str]:
    """The flags that say the plan's workload; what has none (it stands in plan files) is left out."""
    usual = WorkloadOptions().model_dump()
    for name, flag in _FLAG_OF.items():
        value = (plan.get("workload") or {}).get(name)
        if value not in (None, usual[name]):
            text = f"{value:g}" if isinstance(value, float) else str(value)
            yield from (flag,) if value is True else (flag, text)


_FLAG_OF = {
    "name": "--workload",
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
