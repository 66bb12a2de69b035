"""Whether two arms, of one run or of two, did the same work on the same machine under the same load. Pure.

Packages, code, strategies, threads and injected delays may differ: they are what people compare. The machine,
the model with its I/O and the load may not: they would be in the ratio and look like the strategy. How it was
measured beside that (probes, warm-up, timeouts) is remarked upon.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from harness.system.printable import one_line

Record = Mapping[str, Any]  # run.json

_MACHINE = ("system", "machine", "cpu", "usable_cores", "cpu_quota")
_MODEL = ("model", "weights_sha256", "service_ms", "version", "source_sha256")
_IO = ("io", "io_ms", "io_rows", "io_dsn")
_LOAD = ("route", "transport", "requests", "requests_per_user", "duration_s", "open_duration_s", "cap", "pin")
_TEXTS = ("payloads_sha256",)  # of a file of the user's own; none: the workload's own texts
_REQUEST = ("method", "body", "expect_status")  # of servers that run already
_OWN_LOAD = ("method", "body", "transport", "requests", "duration_s")  # of `load`, which has no plan
_ASIDE = ("fresh", "ping_per_s", "probes", "timeout_s", "settle_s", "open_settle_s", "warmup_per_client")


def obstacles(before: tuple[Record, str], after: tuple[Record, str]) -> list[str]:
    """What forbids comparing two arms, each given as (run.json, arm): "usable_cores: 2 and 8", …

    What only one of the records tells forbids nothing: an older run knew less.
    """
    (one, arm), (other, against) = before, after
    plan, other_plan = one.get("plan") or {}, other.get("plan") or {}
    return [
        *_differing(one.get("environment"), other.get("environment"), _MACHINE),
        *_differing(_work(one, arm), _work(other, against), (*_MODEL, *_IO, "server")),
        *_differing(plan, other_plan, _LOAD),
        *_differing(plan.get("ask"), other_plan.get("ask"), _REQUEST),
        *_differing(one.get("load"), other.get("load"), _OWN_LOAD),
        *_differing(one, other, _TEXTS),
        *_other_replays(one.get("schedules") or {}, other.get("schedules") or {}),
    ]


def remarks(before: Record, after: Record) -> list[str]:
    """Differences in how two runs were measured that forbid no comparison: "fresh: False and True"."""
    return [
        *_differing(before.get("plan"), after.get("plan"), _ASIDE),
        *_differing(before.get("load"), after.get("load"), ("timeout_s",)),
    ]


def _other_replays(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Replays of one name whose due times differ, by the hashes of the blocks that both have."""
    return [
        f"{load}: its file was another one"
        for load in one.keys() & other.keys()
        if load.startswith("replay(")
        and any(one[load][block] != other[load][block] for block in one[load].keys() & other[load].keys())
    ]


def other_work(record: Record, reference: str, arms: Iterable[str]) -> dict[str, str]:
    """The arms of a run that do other work than its reference, and in what."""
    found = {arm: "; ".join(obstacles((record, reference), (record, arm))) for arm in arms}
    return {arm: said for arm, said in found.items() if said}


def _work(record: Record, arm: str) -> dict[str, Any]:
    """The model as it was seen in the worker, the I/O that was asked for, and whose server it was."""
    told = (record.get("arms") or {}).get(arm) or {}
    workload = (told.get("options") or {}).get("workload") or {}
    whose = {"server": "somebody else's" if "url" in told else "of the run"} if told else {}
    return {**(told.get("about") or {}), **_io(workload), **whose}


def _io(workload: Mapping[str, Any]) -> dict[str, Any]:
    """The I/O with what counts of it; an older run could only sleep."""
    if "io_ms" not in workload:
        return {}
    kind = workload.get("io", "sleep")
    counts = {"sleep": ("io_ms",), "socket": ("io_ms",), "pgvector": ("io_rows", "io_dsn")}.get(kind, ())
    return {"io": kind, **{key: workload[key] for key in counts if key in workload}}


def _differing(one: Record | None, other: Record | None, keys: Iterable[str]) -> list[str]:
    one, other = one or {}, other or {}
    return [
        one_line(f"{key}: {one[key]} and {other[key]}")
        for key in keys
        if key in one and key in other and one[key] != other[key]
    ]
