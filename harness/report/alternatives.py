"""When the advice would differ: under other loads, with more cores, with another model or I/O."""

from __future__ import annotations

import math

import numpy as np

from harness.analysis.stats import Verdict
from harness.analysis.summaries import THROUGHPUT
from harness.numbers import short, users
from harness.report import choice, ranking
from harness.report.choice import Choice, Inputs
from harness.verdicts import best_arm

BUSY = 0.85  # share of the usable cores, server and load generator together, from which they count as busy
DOMINANT = 0.5  # share of a request from which a part dominates it


def elsewhere(found: Inputs, chosen: Choice) -> str:
    """Measured loads under which another arm is better, or the advised one is slower than the reference."""
    bests = choice.at_others(found, chosen.open_to, chosen.load)
    worse = [(load, first.arm) for load, first in bests if choice.loses(found, chosen.take, first, load)]
    changes = [
        f"at {users(load)} {arm} is better {_medians(found, chosen, arm, load)}" for load, arm in worse[:2]
    ]
    rows = found.tables.comparisons
    mine = rows[(rows["arm"].astype(str) == chosen.take) & rows["primary"].astype(bool)]
    is_slower = mine["verdict"].astype(str).str.startswith(str(Verdict.SLOWER))
    slower = [load for load in mine.loc[is_slower, "load"].astype(str) if not load.startswith("own(")]
    if at := [users(load) for load in slower if load != chosen.load]:
        changes.append(f"at {' and '.join(at)} {chosen.take} is slower than {found.reference}")
    elsewhere = f"Other loads change this: {'; '.join(changes)}." if changes else ""
    return " ".join(filter(None, [_by_median(found, chosen), elsewhere]))


def _by_median(found: Inputs, chosen: Choice) -> str:
    """Which arm has the better median latency, if the choice was by throughput; else ""."""
    first = found.best(chosen.open_to, chosen.load, best_arm.LATENCIES)
    if chosen.metric.lower_is_better or first is None:
        return ""
    if not choice.loses(found, chosen.take, first, chosen.load):
        return ""
    medians = _medians(found, chosen, first.arm, chosen.load)
    return f"By median latency alone, {first.arm} is better at {users(chosen.load)} {medians}."


def _medians(found: Inputs, chosen: Choice, arm: str, load: str) -> str:
    values = [found.tables.figures(one, load)["latency_p50_ms"] for one in (arm, chosen.take)]
    mine, theirs = map(short, values)
    if mine == theirs:
        mine, theirs = (f"{value:.1f}" for value in values)
    return f"(median {mine} ms instead of {theirs} ms)"


def would_change(found: Inputs, arm: str, load: str) -> str:
    """What would change the advice, judged by what keeps the cores busy and what dominates a request."""
    row = found.tables.figures(arm, load)
    costs = found.tables.cost(arm, load)
    spent = [costs.get(name, math.nan) for name in ("cpu_ms_per_request", "client_cpu_ms_per_request")]
    busy = float(np.nansum(spent)) * float(row[THROUGHPUT]) / 1000.0  # cores, of server and client
    cores = float((found.record.get("environment") or {}).get("usable_cores") or 0)
    if cores and busy >= BUSY * cores:
        cheaper = (
            "" if _has_several_backends(found) else " or a model call that costs less CPU (a faster backend)"
        )
        return (
            f"What would change this: more cores{cheaper}. Server and load generator keep "
            f"{min(busy, cores):.1f} of {cores:g} cores busy, so more workers alone will not help."
        )
    parts, whole_ms = ranking.parts_of(row), float(row["latency_mean_ms"])
    part = max(parts, key=lambda name: parts[name], default="")
    if not part or not parts[part] >= DOMINANT * whole_ms > 0:
        return ""
    share = f"{100 * parts[part] / whole_ms:.0f} % of a request"
    quicker = "a shorter call" if _has_several_backends(found) else "a faster backend"
    io_ms = row.get("io_mean_ms", math.nan)
    alike = f"; with I/O much longer than {short(io_ms)} ms the arms differ less" if io_ms > 0 else ""
    ways = {
        "io": f"a shorter I/O, now {share}; compared with it, where the model runs matters little",
        "model": f"a faster model call, now {share}{alike}",
        "queue": f"more calls at once or {quicker}, because {share} is waiting for a worker",
    }
    stalls = part == "io" and choice.stalls(found, arm, load)
    return f"What would change this: {ways[part]}." if part in ways and not stalls else ""


def _has_several_backends(found: Inputs) -> bool:
    """Whether the run had several backends, so that there is no need to suggest one."""
    arms = (found.record.get("arms") or {}).values()
    return len({about["backend"] for one in arms if "backend" in (about := one.get("about") or {})}) > 1
