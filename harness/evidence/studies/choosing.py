"""How often `sweep --slo` finds the best setting of a model whose costs are known, and how long it takes.

A call of the model sleeps for a fixed time and for a time an item. In a closed loop with a full queue, w
workers with batches of b items give w b / (fixed + b an item) requests per second: the best setting is known.
The same settings are swept in full once, to compare the times: both from before the servers start until they
have ended, without the report.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from harness.analysis import slo
from harness.choosing import session
from harness.evidence.check.bench import Result
from harness.evidence.frames import table_of
from harness.numbers import counted, percent
from harness.plans import from_flags, grid
from harness.plans.plan import Plan
from harness.report import report
from harness.results import store
from harness.run import session as running
from harness.run.listener import Listener, SilentListener

FIXED_MS, ITEM_MS = 12.0, 7.0
USERS = 16
AXES = ("max_batch=1,2,3,4,8", "workers=1,2")  # at 8 and 2, all users are in a batch
BEST = "batch-max_batch-8-workers-2"
OBJECTIVE = "p95 < 150 ms"
MINUTES = 0.6
WINDOW_S = 0.3
FULL, CHOICE = "full sweep", "sweep --slo"
LEAST_FOUND = 0.8
MOST_TIME = 0.5  # of the full sweep's
LEAST_LEAD = 0.1  # of the best setting over the next best, as a share


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One session."""

    session: int  # its seed; 0: the full sweep
    kind: str
    seconds: float
    trials: int
    blocks: int  # that count
    finalists: int
    take: str  # the setting that the report says to take; empty: none
    alike: int  # settings that the blocks do not separate from it
    throughput_per_s: float  # of the best setting; NaN if it was dropped
    lead: (
        float  # of the best setting over the next best of those that count, as a share; NaN if it was dropped
    )
    machine: str


def each(sessions: int, listener: Listener) -> Iterator[Row]:
    """Sweep in full once, then choose `sessions` times."""
    listener.stage(FULL)
    yield _session(0)
    for number in range(1, sessions + 1):
        listener.stage(f"session {number}/{sessions}")
        yield _session(number)


def plan(seed: int) -> Plan:
    """The plan of the full sweep."""
    flags = from_flags.Flags(
        strategies=("batch",),
        plan={
            "concurrency": (USERS,),
            "duration_s": WINDOW_S,
            "seed": seed,
            "fresh": False,
            "self_check": False,
        },
        workload={"name": "synthetic", "service_ms": FIXED_MS, "per_item_ms": ITEM_MS, "io_ms": 0.0},
    )
    return grid.plan(flags, grid.axes(AXES))


def predicted_per_s(max_batch: int, workers: int) -> float:
    """The throughput of a setting, without any cost around the model."""
    return 1e3 * workers * max_batch / (FIXED_MS + max_batch * ITEM_MS)


def ahead() -> float:
    """By how much the best setting is ahead of the next best, as a share."""
    settings = plan(1).sweep
    assert settings is not None
    rates = sorted(
        predicted_per_s(int(one["max_batch"]), int(one["workers"])) for one in settings.settings.values()
    )
    return rates[-1] / rates[-2] - 1


def _session(seed: int) -> Row:
    with tempfile.TemporaryDirectory(prefix="execbench-study-") as parent:
        folder = Path(parent) / "run"
        writer, began = store.Writer(folder), time.monotonic()
        if seed:
            session.run(plan(seed), slo.parse([OBJECTIVE]), MINUTES, writer, SilentListener())
        else:
            running.run(plan(1), writer, SilentListener())
        seconds = time.monotonic() - began
        found = report.build(store.read(folder))
        return row(found, seed, seconds)


def row(found: report.Report, seed: int, seconds: float) -> Row:
    """What came of a session."""
    rates = dict(zip(found.summary["arm"].astype(str), found.summary["throughput_per_s"], strict=True))
    best, chosen = float(rates.pop(BEST, math.nan)), found.choice
    return Row(
        session=seed,
        kind=CHOICE if seed else FULL,
        seconds=seconds,
        trials=int(found.trials["trial"].max()),
        blocks=int(found.trials["block"].nunique()),
        finalists=int(found.trials["arm"].nunique()),
        take=chosen.take,
        alike=len(chosen.unsettled) + len(chosen.equivalent),
        throughput_per_s=best,
        lead=best / max(rates.values()) - 1,
        machine=found.machine,
    )


# -- judging and showing -------------------------------------------------------------------------------


def _choices(found: pd.DataFrame) -> pd.DataFrame:
    return found[found["kind"] == CHOICE]


def _full_s(found: pd.DataFrame) -> float:
    return float(found.loc[found["kind"] == FULL, "seconds"].iloc[0])


def judge(found: pd.DataFrame) -> list[Result]:
    """Judge how often the best setting was chosen, and the longest choice against the full sweep."""
    choices = _choices(found)
    right, share = int((choices["take"] == BEST).sum()), choices["seconds"].max() / _full_s(found)
    lead = float(found.loc[found["kind"] == FULL, "lead"].iloc[0])
    return [
        Result(
            name="the best setting in the full sweep",
            goal=f"at least {percent(LEAST_LEAD, 0)} ahead of the next",
            measured=percent(lead),
            passed=lead >= LEAST_LEAD,
        ),
        Result(
            name="the best setting is chosen",
            goal=f"in at least {percent(LEAST_FOUND, 0)} of the sessions",
            measured=f"{right} of {len(choices)}",
            passed=right >= LEAST_FOUND * len(choices) > 0,
        ),
        Result(
            name="the longest session",
            goal=f"less than {percent(MOST_TIME, 0)} of the full sweep's time",
            measured=percent(share),
            passed=bool(share < MOST_TIME),
        ),
    ]


def table(found: pd.DataFrame) -> str:
    """One line for the full sweep, and one for each setting that was chosen."""
    lines = [
        {
            "": kind,
            "takes": take or "none",
            "sessions": len(rows),
            "seconds, mean": f"{rows['seconds'].mean():.1f}",
            "seconds, longest": f"{rows['seconds'].max():.1f}",
            "trials, mean": f"{rows['trials'].mean():.0f}",
            "blocks that count, mean": f"{rows['blocks'].mean():.1f}",
            "not told apart, mean": f"{rows['alike'].mean():.1f}",
        }
        for (kind, take), rows in found.fillna({"take": ""}).groupby(["kind", "take"], sort=False)
    ]
    return table_of(lines)


def describe(found: pd.DataFrame) -> str:
    """Describe the table in words."""
    choices, swept = _choices(found), plan(1).sweep
    assert swept is not None
    alone = int(((choices["take"] == BEST) & (choices["alike"] == 0)).sum())
    return (
        f"A call takes {FIXED_MS:g} ms and {ITEM_MS:g} ms an item; {USERS} users send to "
        f"{counted(len(swept.settings), 'setting')} ({' x '.join(AXES)}). By these costs {BEST} is the best, "
        f"{percent(ahead(), 0)} ahead of the next. Each session had {MINUTES:g} minutes and the objective "
        f"{OBJECTIVE}. The best setting was told apart from all other finalists in {alone} of "
        f"{counted(len(choices), 'session')}."
    )
