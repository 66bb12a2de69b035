"""Whether two arms, of one run or of two, did the same work on the same machine under the same load. Pure.

Packages, code, strategies, threads and injected delays may differ: they are what people compare. The machine,
the model with its I/O and the load may not: the ratio would include them and blame the strategy. Other
differences in how the runs were measured (probes, warm-up, timeouts) give remarks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from harness.system.printable import one_line

Record = Mapping[str, Any]  # run.json

_MACHINE = ("system", "machine", "cpu", "usable_cores", "cpu_quota")
_MODEL = ("model", "weights_sha256", "service_ms", "per_item_ms", "version", "source_sha256")
_IO = ("io", "io_ms", "io_rows", "io_dsn")
_LOAD = ("route", "transport", "requests", "requests_per_user", "duration_s", "open_duration_s", "cap", "pin")
_USERS = {
    "think": None,
    "new_connections": False,
    "neighbours": 0,
}  # also of the load; older runs have these values
_TEXTS = ("payloads_sha256",)  # of the user's file; absent for the workload's own texts
_REQUEST = ("method", "body", "expect_status")  # for servers that already run
_OWN_LOAD = ("method", "body", "transport", "requests", "duration_s")  # for `load`, which has no plan
_REMARKED = ("fresh", "ping_per_s", "probes", "timeout_s", "settle_s", "open_settle_s", "warmup_per_client")


def obstacles(before: tuple[Record, str], after: tuple[Record, str]) -> list[str]:
    """Differences that forbid comparing two arms, each given as (run.json, arm): "usable_cores: 2 and 8", …

    A key that only one of the records has forbids nothing: older runs recorded less.
    """
    (one, arm), (other, against) = before, after
    plan, other_plan, load, other_load = (
        {**_USERS, **side[key]} if side.get(key) else {} for key in ("plan", "load") for side in (one, other)
    )
    return [
        *_differing(one.get("environment"), other.get("environment"), _MACHINE),
        *_differing(_work(one, arm), _work(other, against), (*_MODEL, *_IO, "server")),
        *_differing(plan, other_plan, (*_LOAD, *_USERS)),
        *_differing(plan.get("ask"), other_plan.get("ask"), _REQUEST),
        *_differing(load, other_load, (*_OWN_LOAD, *_USERS)),
        *_differing(one, other, _TEXTS),
        *_other_replays(one.get("schedules") or {}, other.get("schedules") or {}),
    ]


def remarks(before: Record, after: Record) -> list[str]:
    """Differences in how two runs were measured that allow a comparison: "fresh: False and True"."""
    return [
        *_differing(before.get("plan"), after.get("plan"), _REMARKED),
        *_differing(before.get("load"), after.get("load"), ("timeout_s",)),
    ]


def _other_replays(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Replays with the same name but other due times, by the hashes of the blocks that both runs have."""
    return [
        f"{load}: the file differs"
        for load in one.keys() & other.keys()
        if load.startswith("replay(")
        and any(one[load][block] != other[load][block] for block in one[load].keys() & other[load].keys())
    ]


def other_work(record: Record, reference: str, arms: Iterable[str]) -> dict[str, str]:
    """The arms of a run that do other work than its reference, with the differences."""
    found = {arm: "; ".join(obstacles((record, reference), (record, arm))) for arm in arms}
    return {arm: differences for arm, differences in found.items() if differences}


def _work(record: Record, arm: str) -> dict[str, Any]:
    """The model as its worker reports it, the I/O that was asked for, and who started the server."""
    known = (record.get("arms") or {}).get(arm) or {}
    workload = (known.get("options") or {}).get("workload") or {}
    server = {"server": "external" if "url" in known else "started by the run"} if known else {}
    return {**(known.get("about") or {}), **_io(workload), **server}


def _io(workload: Mapping[str, Any]) -> dict[str, Any]:
    """The kind of I/O with the options that matter for it; in older runs it is always a sleep."""
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
