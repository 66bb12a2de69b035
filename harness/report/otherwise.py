"""Where the advice would be another: under the other loads, with more cores, with another model or I/O."""

from __future__ import annotations

import math

import numpy as np

from harness.analysis.stats import Verdict
from harness.analysis.summaries import THROUGHPUT
from harness.numbers import short, users
from harness.report import choice, ranking
from harness.report.choice import Choice, Inputs
from harness.verdicts import best_arm

FULL = 0.85  # of the usable cores, server and client together
LARGEST = 0.5  # a part that is as much of a request dominates it


def elsewhere(found: Inputs, chosen: Choice) -> str:
    """Under which other load that was measured another arm is better, and where the advised one is a loss."""
    bests = choice.at_others(found, chosen.open_to, chosen.load)
    worse = [(load, first.arm) for load, first in bests if choice.loses(found, chosen.take, first, load)]
    told = [
        f"at {users(load)} {arm} is better {_medians(found, chosen, arm, load)}" for load, arm in worse[:2]
    ]
    rows = found.tables.comparisons
    mine = rows[(rows["arm"].astype(str) == chosen.take) & rows["primary"].astype(bool)]
    is_slower = mine["verdict"].astype(str).str.startswith(str(Verdict.SLOWER))
    slower = [load for load in mine.loc[is_slower, "load"].astype(str) if not load.startswith("own(")]
    if at := [users(load) for load in slower if load != chosen.load]:
        told.append(f"at {', '.join(at)} {chosen.take} is slower than {found.reference}")
    changes = f"Another load changes this: {'; '.join(told)}." if told else ""
    return " ".join(filter(None, [_by_median(found, chosen), changes]))


def _by_median(found: Inputs, chosen: Choice) -> str:
    """Who is better by the median latency, where the arm was chosen by throughput."""
    first = best_arm.find(best_arm.figures(found.side, chosen.open_to, chosen.load, best_arm.LATENCIES))
    if chosen.metric.lower_is_better or first is None:
        return ""
    if not choice.loses(found, chosen.take, first, chosen.load):
        return ""
    medians = _medians(found, chosen, first.arm, chosen.load)
    return f"By the median alone {first.arm} is better at {users(chosen.load)} {medians}."


def _medians(found: Inputs, chosen: Choice, arm: str, load: str) -> str:
    values = [found.tables.figures(one, load)["latency_p50_ms"] for one in (arm, chosen.take)]
    mine, theirs = map(short, values)
    if mine == theirs:
        mine, theirs = (f"{value:.1f}" for value in values)
    return f"(median {mine} against {theirs} ms)"


def would_change(found: Inputs, arm: str, load: str) -> str:
    """What would change the advice, by where the arm's requests and the machine's cores spend their time."""
    row = found.tables.figures(arm, load)
    costs = found.tables.cost(arm, load)
    spent = [costs.get(name, math.nan) for name in ("cpu_ms_per_request", "client_cpu_ms_per_request")]
    busy = float(np.nansum(spent)) * float(row[THROUGHPUT]) / 1000.0  # cores, of server and client
    cores = float((found.record.get("environment") or {}).get("usable_cores") or 0)
    if cores and busy >= FULL * cores:
        cheaper = "" if _knows_backends(found) else " or a model call that costs less CPU (a faster backend)"
        return (
            f"What would change this: more cores{cheaper}; server and client keep "
            f"{min(busy, cores):.1f} of {cores:g} busy, so more workers alone will not."
        )
    parts, whole_ms = ranking.parts_of(row), float(row["latency_mean_ms"])
    part = max(parts, key=lambda name: parts[name], default="")
    if not part or not parts[part] >= LARGEST * whole_ms > 0:
        return ""
    share = f"{100 * parts[part] / whole_ms:.0f} % of a request"
    quicker = "a shorter call" if _knows_backends(found) else "a faster backend"
    io_ms = row.get("io_mean_ms", math.nan)
    alike = f"; an I/O much longer than {short(io_ms)} ms makes the arms more alike" if io_ms > 0 else ""
    ways = {
        "io": f"a shorter I/O, which is {share} now; where the model runs matters little beside it",
        "model": f"a faster model call, which is {share} now{alike}",
        "queue": f"more calls at once or {quicker}, as {share} is waiting for a worker",
    }
    stalls = part == "io" and choice.stalls(found, arm, load)
    return f"What would change this: {ways[part]}." if part in ways and not stalls else ""


def _knows_backends(found: Inputs) -> bool:
    """Whether several were run: another one is no news then."""
    told = (found.record.get("arms") or {}).values()
    return len({about["backend"] for one in told if "backend" in (about := one.get("about") or {})}) > 1
