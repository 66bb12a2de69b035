"""Compare the intervals and verdicts of whole sessions of the real pipeline with a known truth.

A session is a complete run (plan, servers, load, CSVs, comparison) in a temporary folder, with its own
servers, so that differences between servers with the same code are part of the measurement. No block is
excluded, and the twin rule is off, because the twin is the arm.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from scipy import special
from scipy import stats as scipy_stats

from harness.analysis import summaries
from harness.analysis.stats import LEVEL, Verdict
from harness.evidence.check.bench import Result
from harness.evidence.frames import exact_bounds, rows, table_of
from harness.numbers import percent
from harness.plans import from_flags, plan_files
from harness.plans.plan import Plan
from harness.report.markdown import table
from harness.results import store
from harness.run import session as running
from harness.run.listener import Listener, SilentListener
from harness.verdicts import comparison, metrics
from harness.verdicts.sides import Side

ARM = "arm"
SLOWED = "slowed"
USERS = 4
REQUESTS = 5 * USERS  # about 0.12 s of a 5 ms model, so that 200 sessions fit into 20 minutes
TWIN_BLOCKS = 10  # the fewest that the method allows
SLOWER_MS = (
    0.45  # injected as a sleep, which takes 0.53 ms here; a request occupies the worker for about 5.4 ms
)
WINDOWS_S = (2.0, 1.0, 0.5, 0.25)
WINDOW_USERS = 8
BLOCKS_SHOWN = (6, 10, 16, 24, 32, 48, 96)

MOST_FALSE = 0.08  # upper bound of wrong verdicts
LEAST_FOUND = 0.90
EASIEST_RATIO = 1.12  # a larger true ratio is not a slow-down of about 10 %

BEYOND_DELTA = (Verdict.FASTER, Verdict.SLOWER)  # verdict 3 of the method


@dataclasses.dataclass(frozen=True, slots=True)
class Session:
    """The primary metric (median latency) of one session, arm over reference."""

    session: int
    blocks: int
    window_s: float  # mean length of the measured windows
    requests: float  # mean number of measured requests per window
    ratio: float
    low: float
    high: float
    spread: float  # standard deviation of the log ratios of blocks
    p: float
    lag1: float
    drifts: bool
    verdict: str
    seconds: float  # of the whole session, including the start of the servers


# -- the studies ---------------------------------------------------------------------------------------


def each_twin(
    sessions: int, listener: Listener | None = None, *, blocks: int = TWIN_BLOCKS
) -> Iterator[Session]:
    """A/A: one arm against itself, true ratio 1; a session takes about 5 s with 10 blocks."""
    return _each(twin_plans(sessions, blocks), listener)


def each_slowed(
    sessions: int, listener: Listener | None = None, *, blocks: int | None = None
) -> Iterator[Session]:
    """An arm that is 10 % slower; a session takes about 12 s with the default number of blocks of a plan."""
    slowed = {"name": SLOWED, "inject": {"model_ms": SLOWER_MS}}
    count = blocks or from_flags.from_flags(from_flags.Flags()).blocks
    return _each([_plan(seed, count, slowed) for seed in range(1, sessions + 1)], listener)


def each_window(
    seconds: float, listener: Listener | None = None, workload: str = "synthetic"
) -> Iterator[Session]:
    """A twin at c = 8, from few long windows to many short ones, measuring for `seconds` each time."""
    options = {"name": workload} if workload != "synthetic" else _synthetic(10.0)
    arms = [{"name": ARM, "strategy": "process", "workers": 1}]
    load = {"workload": options, "arms": arms, "concurrency": [WINDOW_USERS], "settle_s": 0.1, "twin": True}
    return _each(
        [
            _make_plan(**load, duration_s=window_s, blocks=max(2, round(seconds / 2 / window_s)))
            for window_s in WINDOWS_S
        ],
        listener,
    )


def twin_plans(sessions: int, blocks: int) -> list[Plan]:
    """The plans of sessions that compare one arm with itself."""
    return [_plan(seed, blocks, twin=True) for seed in range(1, sessions + 1)]


def _plan(seed: int, blocks: int, *others: dict[str, Any], twin: bool = False) -> Plan:
    """5 ms of real CPU work in a pool of one thread, under four users."""
    arms = [{"strategy": "thread", "workers": 1} | arm for arm in ({"name": ARM}, *others)]
    return _make_plan(
        workload=_synthetic(5.0),
        arms=arms,
        concurrency=[USERS],
        requests=REQUESTS,
        blocks=blocks,
        twin=twin,
        seed=seed,
    )


def _make_plan(**data: Any) -> Plan:
    study = {"name": "study", "self_check": False, "ping_per_s": 0, **data}
    return plan_files.make(study, source="study's plan")


def _synthetic(service_ms: float) -> dict[str, Any]:
    return {"name": "synthetic", "mode": "release", "service_ms": service_ms, "io_ms": 1.0}


# -- one session ---------------------------------------------------------------------------------------


def _each(chosen: Sequence[Plan], listener: Listener | None) -> Iterator[Session]:
    for number, plan in counted_out(chosen, listener):
        yield run_session(number, plan)


def counted_out(chosen: Sequence[Plan], listener: Listener | None) -> Iterator[tuple[int, Plan]]:
    """Each plan with its number, and a stage with the time that is left."""
    listener, began = listener or SilentListener(), time.monotonic()
    for number, plan in enumerate(chosen, start=1):
        done = number - 1
        left_s = (time.monotonic() - began) / done * (len(chosen) - done) if done else 0.0
        left = f", about {left_s / 60:.0f} min left" if left_s >= 60 else ""
        listener.stage(f"session {number}/{len(chosen)}{left}")
        yield number, plan


def run_session(number: int, plan: Plan) -> Session:
    """Run `plan` (two arms, one load) in a temporary folder, and compare its arms as a report does."""
    began = time.monotonic()
    found = record_session(plan)
    declared, side = metrics.facts(found.record), side_of(found)
    compared = comparison.arms(side, reference=declared.reference, rules=declared.rules)
    (primary,) = compared[compared["primary"].astype(bool)].to_dict("records")
    lengths_ms = found.trials["window_end_ms"] - found.trials["window_start_ms"]
    return Session(
        session=number,
        window_s=float(lengths_ms.mean()) / 1e3,
        requests=float(found.trials["measured"].mean()),
        spread=spread(primary["low"], primary["high"], primary["blocks"]),
        verdict=str(primary["verdict"]),
        seconds=time.monotonic() - began,
        **{name: primary[name] for name in ("blocks", "ratio", "low", "high", "p", "lag1", "drifts")},
    )


def record_session(plan: Plan) -> store.Run:
    """Run `plan` in a temporary folder; return what its folder had."""
    with TemporaryDirectory(prefix="execbench-study-") as parent:
        folder = Path(parent) / "run"
        running.run(plan, store.Writer(folder), SilentListener())  # only the session's number is shown
        return store.read(folder)


def side_of(found: store.Run) -> Side:
    """The whole run, without any exclusion."""
    return Side(summaries.derive(found.requests, found.trials), found.trials)


def spread(low: float, high: float, blocks: int) -> float:
    """The standard deviation of the blocks' log ratios, derived from the t interval of their mean."""
    return math.log(high / low) / 2 * math.sqrt(blocks) / _t(blocks) if blocks > 1 else math.nan


def half_width(spread: float, blocks: int) -> float:
    """Half the width of the interval from `blocks` blocks of this spread, as a share of the ratio."""
    return math.expm1(_t(blocks) * spread / math.sqrt(blocks))


def _t(blocks: int) -> float:
    return float(special.stdtrit(blocks - 1, (1 + LEVEL) / 2))


# -- judging -------------------------------------------------------------------------------------------


def judge_twins(found: pd.DataFrame) -> Result:
    """Judge the wrong verdicts by the one-sided exact 95 % upper bound of their share."""
    wrong = int(found["verdict"].isin(BEYOND_DELTA).sum())
    bound = upper_bound(wrong, len(found))
    fewest = math.ceil(math.log(1 - LEVEL) / math.log(1 - MOST_FALSE))
    without_1 = f"interval excludes 1: {percent(_share(_excludes_1(found)))}; nominal 5 %"
    return Result(
        name="A/A",
        goal=f"faster or slower: upper 95 % bound at most {percent(MOST_FALSE, 0)}",
        measured=f"{wrong} of {len(found)} sessions, bound {percent(bound)}",
        passed=bound <= MOST_FALSE,
        note=without_1 if len(found) >= fewest else f"fewer than {fewest} sessions cannot show this",
    )


def judge_power(found: pd.DataFrame) -> Result:
    """Judge how often a slow-down of 10 % is found; fails if the true slow-down was larger."""
    share, truth = _share(found["low"] > 1), truth_of(found)[0]
    easy = truth > EASIEST_RATIO
    return Result(
        name="power",
        goal=f"a slow-down of 10 % found (interval above 1): {percent(LEAST_FOUND, 0)} of sessions or more",
        measured=f"{percent(share)} of {len(found)} sessions; true ratio {truth:.3f}",
        passed=bool(share >= LEAST_FOUND and truth <= EASIEST_RATIO),
        note="the slow-down was more than 10 %, so finding it proves little" if easy else "",
    )


def upper_bound(times: int, of: int) -> float:
    """One-sided exact 95 % upper bound of a share; 1 if `of` is 0."""
    if not of:
        return 1.0
    return float(scipy_stats.binomtest(times, of, alternative="less").proportion_ci(LEVEL).high)


def truth_of(found: pd.DataFrame) -> tuple[float, float]:
    """The geometric mean of the sessions' ratios, and its standard error as a share."""
    logs = np.log(np.asarray(found["ratio"], dtype=np.float64))
    if len(logs) < 2:
        return (math.exp(logs[0]) if len(logs) else math.nan), math.nan
    return math.exp(logs.mean()), float(logs.std(ddof=1) / math.sqrt(len(logs)))


def _excludes_1(found: pd.DataFrame) -> pd.Series[bool]:
    return (found["low"] > 1) | (found["high"] < 1)


def _share(which: pd.Series[bool]) -> float:
    return float(which.mean()) if len(which) else 0.0


# -- showing -------------------------------------------------------------------------------------------


def verdict_table(found: pd.DataFrame) -> str:
    """How often each verdict was given, and how often the interval was above or below 1."""
    lines = [(str(verdict), found["verdict"] == verdict) for verdict in Verdict]
    lines = [(name, which) for name, which in lines if which.any()]
    lines += [("*interval above 1*", found["low"] > 1), ("*interval below 1*", found["high"] < 1)]
    lines += [("*drift warning*", found["drifts"].astype(bool))]
    return table(
        ["verdict", "sessions", "share", "exact 95 % interval"],
        [[name, int(which.sum()), percent(_share(which)), _exact(which)] for name, which in lines],
    )


def window_table(found: pd.DataFrame) -> str:
    """One line per window length; then the interval for n blocks, from the spread at the default length."""
    sessions = rows(Session, found)
    lengths = table_of(
        [
            {
                "window": f"{row.window_s:.2g} s",
                "blocks": row.blocks,
                "requests": f"{row.requests:.0f}",
                "ratio": f"{row.ratio:.3f}",
                "spread": f"{row.spread:.3f}",
                "interval": _interval(row.spread, row.blocks),
                "lag-1": f"{row.lag1:+.2f}",
                "took": f"{row.seconds:.0f} s",
            }
            for row in sessions
        ]
    )
    usual = from_flags.from_flags(from_flags.Flags()).duration_s or 0.0
    default = next((row for row in sessions if math.isclose(row.window_s, usual, rel_tol=0.05)), None)
    if default is None:
        return lengths
    title = (
        f"With the spread of {default.spread:.3f} at {default.window_s:.1f} s, t·spread/√n of n blocks is:"
    )
    more = [[blocks, _interval(default.spread, blocks)] for blocks in BLOCKS_SHOWN]
    return f"{lengths}\n{title}\n\n{table(['blocks', 'interval'], more)}"


def _interval(spread: float, blocks: int) -> str:
    return f"±{percent(half_width(spread, blocks))}"


def describe_twins(found: pd.DataFrame) -> str:
    """How often the same code was called different, and whether the spread of blocks explains it."""
    wrong = int(found["verdict"].isin(BEYOND_DELTA).sum())
    # standard deviation of ratios between sessions, measured and as predicted from the blocks within them
    between = truth_of(found)[1] * math.sqrt(len(found))
    within = math.sqrt(float((found["spread"] ** 2 / found["blocks"]).mean()))
    return (
        f"The same code was called faster or slower than itself in {wrong} of {len(found)} sessions; "
        f"with 95 % confidence, this happens in at most {percent(upper_bound(wrong, len(found)))} "
        f"(one-sided, exact). The 95 % interval excluded 1 in {percent(_share(_excludes_1(found)))}; nominal "
        f"is 5 %. Between sessions, the ratio has a standard deviation of {percent(between)}; the variation "
        f"of blocks predicts {percent(within)}. If the prediction is less, servers with the same code differ "
        f"for their whole life, which more blocks cannot average out. {_each_session(found)}"
    )


def describe_power(found: pd.DataFrame) -> str:
    """The true slow-down, and how often it was found."""
    truth, error = truth_of(found)
    return (
        f"A sleep of {SLOWER_MS:g} ms after a 5 ms model makes the median latency {truth:.3f} times as long "
        f"(geometric mean of all sessions, standard error {percent(error)}). With {found['blocks'].max()} "
        f"blocks, the interval was above 1 in {percent(_share(found['low'] > 1))} of {len(found)} sessions, "
        f"below 1 in {percent(_share(found['high'] < 1))}, and completely beyond the margin of the verdict "
        f"*slower* in {percent(_share(found['verdict'] == Verdict.SLOWER))}. {_each_session(found)}"
    )


def describe_windows(found: pd.DataFrame) -> str:
    """How shorter windows changed the spread of a block and the interval."""
    lengths = rows(Session, found)
    first, last = lengths[0], lengths[-1]
    return (
        f"From windows of {first.window_s:.2g} s to {last.window_s:.2g} s, with the same measured time, the "
        f"spread of a block's log ratio went from {first.spread:.3f} to {last.spread:.3f}, and the interval "
        f"from {_interval(first.spread, first.blocks)} ({first.blocks} blocks) to "
        f"{_interval(last.spread, last.blocks)} ({last.blocks} blocks). Each window also needs time to "
        f"settle and to be saved, so the session took {last.seconds:.0f} s instead of {first.seconds:.0f} s. "
        f"The drift warning fired for {sum(row.drifts for row in lengths)} of {len(lengths)} lengths."
    )


def _each_session(found: pd.DataFrame) -> str:
    spread, seconds = found["spread"].median(), found["seconds"].median()
    return (
        f"In the median session, the spread of a block's log ratio is {spread:.3f}; it takes {seconds:.1f} s."
    )


def _exact(which: pd.Series[bool]) -> str:
    return " to ".join(map(percent, exact_bounds(which))) if len(which) else ""
