"""Stopping early: what intervals and verdicts of runs that stop at a look are worth, against 24 blocks.

* Simulated runs (`coverage.MEANS`, spread 0.10) stop as a run with `until = "settled"` does: a *comparison*
  once it is faster, slower or equivalent within 5 %; a *check* once its interval clears a bound of 1.
* Recorded sessions of one arm against itself (`execbench study twin-blocks`) stop as comparisons do.
* Recorded runs of 24 blocks with claims are replayed with their blocks in many random orders. For each claim
  that 24 blocks decide, a replay that stops should give the same verdict.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from harness.analysis import looks, stats
from harness.analysis.arrays import Floats
from harness.evidence import frames
from harness.evidence.check.bench import Result
from harness.evidence.studies import replays
from harness.evidence.studies.coverage import DELTA, MEANS, SPREAD, simulated
from harness.evidence.studies.sessions import MOST_FALSE, upper_bound
from harness.numbers import percent
from harness.report import markdown
from harness.run.listener import Listener, SilentListener
from harness.verdicts.metrics import ROOM

BLOCKS = 24
RATIOS = (1.0, 1.05, 1.10, 1.30)  # true
ORDERS = 500
SYMMETRIC = ("normal", "t, 3 degrees of freedom")
LEAST_COVERAGE = 0.93
MOST_BELOW = 0.02  # of the coverage after 24 blocks of the same data, for data that are not symmetric
LEAST_SAME, MOST_OPPOSITE = 0.95, 0.01

COMPARISON, CHECK, TWINS, CLAIM = "comparison", "check", "twins", "claim"


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One kind of data under the rule, and under 24 blocks. NaN where a figure does not apply."""

    rule: str  # comparison, check, twins, claim
    data: str  # the generator, the recorded sessions, or a run and its claim
    ratio: float  # true
    runs: int
    blocks: float  # mean at the stop
    stopped_early: float  # share of the runs
    coverage: float  # share of intervals at the stop that cover the truth
    coverage_24: float  # of the usual intervals after 24 blocks
    wrong: float  # share of verdicts faster or slower although the ratio is 1; for a claim, of the opposite
    wrong_24: float
    exaggerated: float  # mean log estimate of the runs that stopped early, over the true log ratio
    verdict_24: str  # of a claim
    same: float  # share of the replays with that verdict


class Stops(NamedTuple):
    """For each simulated run, the interval, the mean and the number of blocks at its stop."""

    low: Floats
    high: Floats
    mean: Floats
    blocks: Floats


def each(
    sessions: int = 2000,
    listener: Listener | None = None,
    twins: Path | None = None,
    runs: Iterable[Path] = (),
    seed: int = 1,
) -> Iterator[Row]:
    """Yield the rows: `sessions` simulated runs of each kind, then those of the recordings, if given."""
    listener = listener or SilentListener()
    cells = [
        functools.partial(_simulated, rule, name, ratio, sessions)
        for rule in (COMPARISON, CHECK)
        for name in MEANS
        for ratio in RATIOS
    ]
    yield from simulated(cells, seed, listener)
    if twins is not None:
        yield _of_twins(replays.recorded_twins(twins))
    for folder in runs:
        listener.stage(f"replaying {folder} in {ORDERS} orders of its blocks")
        for found in replays.claims_of(folder, ORDERS, seed):
            yield _of_claim(folder, found)


# -- the rule ------------------------------------------------------------------------------------------


def stop(logs: Floats, rule: str) -> Stops:
    """Stop each run (a row of log ratios, a column for each block) as the harness does."""
    plan = looks.planned(logs.shape[-1])
    runs = len(logs)
    found = Stops(*(np.zeros(runs) for _ in Stops._fields))
    running = np.ones(runs, dtype=bool)
    for place, blocks in enumerate(plan.blocks):
        now, part = plan._replace(now=place), logs[:, :blocks]
        low, high = stats.mean_interval(part, level=now.level(stats.LEVEL))
        tost = stats.mean_interval(part, level=now.level(stats.TOST_LEVEL))
        is_last = blocks == plan.blocks[-1]
        ends = running & (is_last or _is_settled(part, (low, high), tost, rule))
        for values, at in zip(found, (low, high, part.mean(axis=-1), blocks), strict=True):
            values[ends] = at if isinstance(at, int) else at[ends]
        running &= ~ends
    return found


def _is_settled(
    logs: Floats, interval: tuple[Floats, Floats], tost: tuple[Floats, Floats], rule: str
) -> Floats:
    """Whether the verdict holds with wider intervals, as `settled.look` widens them."""
    mean, lag1 = logs.mean(axis=-1), stats.lag1_autocorrelation(logs)
    factor = ROOM * np.where(lag1 > stats.drift_bound(logs.shape[-1]), stats.widening(lag1), 1.0)
    low, high, tost_low, tost_high = (mean + (end - mean) * factor for end in (*interval, *tost))
    if rule == CHECK:
        return np.asarray((low > 0) | (high < 0))
    margin = math.log1p(DELTA)
    equivalent = (-margin < tost_low) & (tost_high < margin)
    return np.asarray(equivalent | (low > margin) | (high < -margin))


# -- simulated runs and twins --------------------------------------------------------------------------


def _simulated(rule: str, generator: str, ratio: float, runs: int, rng: np.random.Generator) -> list[Row]:
    logs = SPREAD * MEANS[generator](rng, (runs, BLOCKS)) + math.log(ratio)
    return [_row(rule, generator, ratio, logs, rule)]


def _of_twins(logs: Floats) -> Row:
    return _row(TWINS, f"{len(logs)} recorded sessions", 1.0, logs, COMPARISON)


def _row(name: str, data: str, ratio: float, logs: Floats, rule: str) -> Row:
    truth, found = math.log(ratio), stop(logs, rule)
    low_24, high_24 = stats.mean_interval(logs)
    early = found.blocks < BLOCKS
    margin = math.log1p(DELTA) if rule == COMPARISON else 0.0

    def wrong(low: Floats, high: Floats) -> float:
        return float(np.mean((low > margin) | (high < -margin))) if ratio == 1 else math.nan

    return Row(
        rule=name,
        data=data,
        ratio=ratio,
        runs=len(logs),
        blocks=float(found.blocks.mean()),
        stopped_early=float(early.mean()),
        coverage=float(np.mean((found.low <= truth) & (truth <= found.high))),
        coverage_24=float(np.mean((low_24 <= truth) & (truth <= high_24))),
        wrong=wrong(found.low, found.high),
        wrong_24=wrong(low_24, high_24),
        exaggerated=float(found.mean[early].mean() / truth) if truth and early.any() else math.nan,
        verdict_24="",
        same=math.nan,
    )


def _of_claim(folder: Path, found: replays.Replayed) -> Row:
    return Row(
        rule=CLAIM,
        data=f"{folder.name} {found.claim}",
        ratio=math.nan,
        runs=ORDERS,
        blocks=found.blocks,
        stopped_early=found.stopped_early,
        coverage=math.nan,
        coverage_24=math.nan,
        wrong=found.opposite,
        wrong_24=math.nan,
        exaggerated=math.nan,
        verdict_24=found.verdict,
        same=found.same,
    )


# -- showing and judging -------------------------------------------------------------------------------


def table(frame: pd.DataFrame) -> str:
    """Two Markdown tables: simulated runs with the recorded twins, then claims."""
    claims = frame["rule"] == CLAIM
    tables = [_table_of_ratios(frame[~claims])]
    if claims.any():
        tables.append(_table_of_claims(frame[claims]))
    return "\n".join(tables)


def _table_of_ratios(rows: pd.DataFrame) -> str:
    heads = ["rule", "log ratios of blocks", "truth", "blocks", "95 % covers", "24 blocks cover"]
    return markdown.table(
        [*heads, "false verdicts", "after 24 blocks", "exaggerated"],
        [
            [
                row.rule,
                row.data,
                f"{row.ratio:g}",
                f"{row.blocks:.1f}",
                *map(_share, (row.coverage, row.coverage_24, row.wrong, row.wrong_24)),
                "" if math.isnan(row.exaggerated) else f"{row.exaggerated:.2f}x",
            ]
            for row in frames.rows(Row, rows)
        ],
    )


def _table_of_claims(rows: pd.DataFrame) -> str:
    return markdown.table(
        ["run and claim", "24 blocks", "same verdict", "opposite", "blocks", "stopped early"],
        [
            [
                row.data,
                row.verdict_24,
                percent(row.same),
                percent(row.wrong),
                f"{row.blocks:.1f}",
                percent(row.stopped_early, 0),
            ]
            for row in frames.rows(Row, rows)
        ],
    )


def _share(value: float) -> str:
    return "" if math.isnan(value) else percent(value)


def describe(frame: pd.DataFrame) -> str:
    """Describe the finding in words."""
    simulated_ = frame[frame["rule"].isin([COMPARISON, CHECK])]
    early = simulated_[simulated_["exaggerated"].notna()]
    plan = looks.planned(BLOCKS)
    levels = ", ".join(f"{100 * level:.2f}" for level in plan.levels[stats.LEVEL])
    return (
        f"Looks after {', '.join(map(str, plan.blocks))} blocks, with intervals of {levels} % for 95 % "
        f"together. Runs that stop early exaggerate: for one kind of data, their mean log ratio is up to "
        f"{early['exaggerated'].max():.2f} times the true one. For large differences it is close to it."
    )


def judge(frame: pd.DataFrame) -> list[Result]:
    """Judge coverage, false verdicts of the twins, and the replays of claims that 24 blocks decide."""
    simulated_ = frame[frame["rule"].isin([COMPARISON, CHECK])]
    symmetric = simulated_["data"].isin(SYMMETRIC)
    below = (simulated_["coverage_24"] - simulated_["coverage"])[~symmetric]
    results = [
        Result(
            "coverage, symmetric",
            f"the interval at the stop covers {LEAST_COVERAGE:.0%} or more",
            f"{percent(simulated_['coverage'][symmetric].min())} or more",
            bool((simulated_["coverage"][symmetric] >= LEAST_COVERAGE).all()),
        ),
        Result(
            "coverage, skewed or drifting",
            f"at most {MOST_BELOW:.0%} below that of 24 blocks of the same data",
            f"at most {percent(below.max())} below",
            bool((below <= MOST_BELOW).all()),
        ),
    ]
    return [
        *results,
        *map(_judge_twins, frames.rows(Row, frame[frame["rule"] == TWINS])),
        *_judge_claims(frame[frame["rule"] == CLAIM]),
    ]


def _judge_twins(row: Row) -> Result:
    wrong = round(row.wrong * row.runs)
    bound = upper_bound(wrong, row.runs)
    return Result(
        "A/A",
        f"faster or slower: upper 95 % bound at most {percent(MOST_FALSE, 0)}",
        f"{wrong} of {row.runs} sessions, bound {percent(bound)}",
        bound <= MOST_FALSE,
    )


def _judge_claims(rows: pd.DataFrame) -> Iterator[Result]:
    if rows.empty:
        return
    same, opposite = percent(rows["same"].min()), percent(rows["wrong"].max())
    yield Result(
        "claims that 24 blocks decide",
        f"the same verdict in {LEAST_SAME:.0%} of the orders or more, the opposite in {MOST_OPPOSITE:.0%}",
        f"the same in {same} or more, the opposite in {opposite} or less",
        bool(((rows["same"] >= LEAST_SAME) & (rows["wrong"] <= MOST_OPPOSITE)).all()),
    )
