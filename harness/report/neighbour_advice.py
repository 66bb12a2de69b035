"""What a busy core does to threads of torch, as a line of the advice.

Pure. torch divides a call among threads that wait for each other in a loop (OpenMP's default). If another
program has the core of one of them, the others keep theirs busy for nothing (docs/explanation/neighbours.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from harness.report import headline, next_command
from harness.report.choice import Choice, Inputs
from harness.wire.records import PILOT_BLOCK

BUSY_WORTH_NAMING = 0.5  # cores that other programs used, in the median trial
_OF_THREADS = {"omp_wait", "torch_threads"}  # options of a workload
_PASSIVE = "passive"


def line(found: Inputs, chosen: Choice) -> str:
    """What the run's neighbours do to the advised arm, and what helps; without one, to all arms.

    "" if the run had no neighbours, or if no thread of torch waits in a loop.
    """
    take = chosen.take
    arms = [take] if take else found.tables.summary["arm"].astype(str).unique()
    waits = any(_waits_in_a_loop(found.record, arm) for arm in arms)
    seen = _seen(found) if waits else ""
    if not seen:
        return ""
    effect = (
        f"{seen}. {f'In {take}, threads' if take else 'Threads'} of torch wait in a loop for one that has no "
        "core, so a call can take many times as long"
    )
    measured = "; ".join(_measured(found, chosen))
    return f"{effect}. In this run, {measured}." if measured else f"{effect}: try {_remedy(found, take)}."


def _seen(found: Inputs) -> str:
    """How many cores were busy; "" if next to none. Excluded blocks count: they may be excluded for this."""
    trials = found.side.trials
    foreign = float(pd.to_numeric(trials.loc[trials["block"] > PILOT_BLOCK, "foreign_cpu"]).median())
    cores = (found.record.get("environment") or {}).get("usable_cores")
    of = f" of {cores:g} cores" if cores else " cores"
    if foreign >= BUSY_WORTH_NAMING:  # NaN is not
        return f"Other programs used {foreign:.1f}{of} in the median trial"
    neighbours = _plan(found.record).get("neighbours")
    return f"The run kept {neighbours}{of} busy (neighbours = {neighbours})" if neighbours else ""


def _waits_in_a_loop(record: Mapping[str, Any], arm: str) -> bool:
    """Whether the arm is known to give a call several threads of torch that do not sleep while they wait."""
    recorded = (record.get("arms") or {}).get(arm) or {}
    about, options = recorded.get("about") or {}, recorded.get("options") or {}
    of_shell = ((record.get("environment") or {}).get("thread_variables") or {}).get("OMP_WAIT_POLICY")
    wait, threads = (options.get("workload") or {}).get("omp_wait") or of_shell, about.get("torch_threads")
    computes = (about.get("backend"), about.get("device")) == ("torch", "cpu")
    return computes and isinstance(threads, int) and threads > 1 and str(wait).lower() != _PASSIVE


def _measured(found: Inputs, chosen: Choice) -> Iterator[str]:
    """The ratio over the advised arm of each arm that differs only in that its threads do not wait so."""
    planned = {str(arm["name"]): _but_threads(arm) for arm in _plan(found.record).get("arms") or ()}
    for arm in chosen.judged if chosen.take in planned else ():
        if planned.get(arm) == planned[chosen.take] and not _waits_in_a_loop(found.record, arm):
            yield f"{arm} has {headline.times(chosen, arm, chosen.take)} {chosen.take}"


def _but_threads(arm: Mapping[str, Any]) -> dict[str, Any]:
    workload = {key: value for key, value in (arm.get("workload") or {}).items() if key not in _OF_THREADS}
    return {**arm, "name": "", "workload": workload}


def _remedy(found: Inputs, take: str) -> str:
    """The settings that help. Short if no arm is advised, as short reports leave out what does not fit."""
    passive, one = f"omp_wait={_PASSIVE}", "one thread in each worker (torch_threads=1)"
    planned = {str(arm["name"]): arm for arm in _plan(found.record).get("arms") or ()}
    arm = planned.get(take, {})
    text = next_command.strategy({**arm, "workload": {**(arm.get("workload") or {}), "omp_wait": _PASSIVE}})
    if not arm or not text:
        return f"{passive} or {one}"
    return f"--strategy {text} (in a service, OMP_WAIT_POLICY={_PASSIVE}) or {one}"


def _plan(record: Mapping[str, Any]) -> Mapping[str, Any]:
    return record.get("plan") or {}
