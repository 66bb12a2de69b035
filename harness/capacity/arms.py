"""The figures of each arm of a capacity run: a row of `COLUMNS`. Pure."""

from __future__ import annotations

import dataclasses
import decimal
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis import stats, summaries
from harness.analysis.rows import Cells, Requests, measured
from harness.analysis.slo import Objective
from harness.analysis.stats import Effect, Verdict
from harness.capacity.breaking import Part, explain
from harness.capacity.crossing import Crossing, Window, cross, effect
from harness.capacity.windows import as_windows
from harness.verdicts.admissible import Evidence

MEANINGS = {  # column → what it means; docs/reference/csv.md shows it
    "arm": "Name of the arm.",
    "strategy": "Name of its strategy.",
    "promise_per_s": "The rate to plan with: the lower end of the interval, rounded down.",
    "doubt": "Why not to plan with it: too few blocks or too wide; empty without a reason.",
    "capacity_per_s": "The highest Poisson rate that keeps every objective.",
    "low_per_s": "Lower end of its 95 % interval; 0 if it is below the rates tried.",
    "high_per_s": "Upper end of its interval; inf if it is above the rates tried.",
    "bound": "at least: no rate tried was too high; at most: the lowest rate tried missed an objective.",
    "blocks": "Confirming blocks that count.",
    "requests": "Requests in those blocks.",
    "binds": "The limiting objective: the one that fails first.",
    "not_judged": "Objectives that need more requests; the promise does not cover them.",
    "reference": "The arm that the capacity is compared with.",
    "ratio": "Capacity over that of the reference, over the same blocks.",
    "ratio_low": "Lower end of the ratio's interval.",
    "ratio_high": "Upper end of the ratio's interval.",
    "p": "p-value of a ratio of 1.",
    "verdict": "What may be said of the ratio.",
    "knee_per_s": "The rate tried with the highest quotient of good answers per second and mean latency.",
    "goodput_per_s": "Good answers within the latency objective at the capacity.",
    "closed_per_s": "Throughput in a closed loop.",
    "lone_ms": "Mean latency of a single user.",
    "broke_at_per_s": "The lowest rate from the capacity up that missed an objective, or the nearest below.",
    "broke_first": "The part of a request that grew most there, or the most frequent error.",
    "how_it_broke": "The same in words, with figures.",
}
COLUMNS = list(MEANINGS)
AT_LEAST, AT_MOST = "at least", "at most"
TOO_FEW, TOO_WIDE = "too few blocks", "too wide"
WIDEST = 2.0  # upper end / lower end; the lower end of a wider interval says next to nothing
SEPARATOR = "; "  # between objectives in a cell
SURE_DIGITS = 3
ROUNDING = 1e-9  # relative error of exp(log(rate))


@dataclasses.dataclass(frozen=True)
class Arm:
    """One arm with its windows and its estimated capacity."""

    name: str
    own_per_s: float  # throughput in a closed loop
    trials: pd.DataFrame  # columns: windows.COLUMNS
    windows: list[Window]
    judged: tuple[Objective, ...]
    unjudged: tuple[Objective, ...]
    crossing: Crossing | None
    limited: str = ""  # why the load generator is the limit, so that the capacity is a lower bound

    @functools.cached_property
    def confirming(self) -> pd.DataFrame:
        """The confirming windows of `trials`."""
        return self.trials[self.trials["confirms"].astype(bool)]


def judge(name: str, found: Evidence, windows: pd.DataFrame, objectives: Sequence[Objective]) -> Arm:
    rows = windows[windows["arm"] == name]
    confirming = rows[rows["confirms"].astype(bool)]
    own = float((found.run.record.get("own_per_s") or {}).get(name, math.nan))
    numbers = [
        number
        for number, one in enumerate(objectives, 1)
        if confirming[f"count_{number}"].sum() >= one.fewest_requests
    ]
    judged = tuple(objectives[number - 1] for number in numbers)
    its = as_windows(rows, numbers)
    return Arm(
        name=name,
        own_per_s=own,
        trials=rows,
        windows=its,
        judged=judged,
        unjudged=tuple(one for one in objectives if one not in judged),
        crossing=cross(its, judged, own) if judged else None,
    )


def row(arm: Arm, reference: Arm, found: Evidence, requests: Requests) -> dict[str, Any]:
    trials = found.run.trials
    lone = measured(Cells(requests).select((arm.name, "closed(1)")))
    known: dict[str, Any] = {
        "arm": arm.name,
        "strategy": next(iter(trials.loc[trials["arm"] == arm.name, "strategy"]), ""),
        "blocks": arm.confirming["block"].nunique(),
        "requests": int(arm.confirming["requests"].sum()),
        "reference": reference.name,
        "closed_per_s": arm.own_per_s,
        "lone_ms": summaries.statistic(lone, summaries.LATENCY, "mean"),
        "knee_per_s": knee_per_s(arm.trials),
    }
    if arm.crossing is None:
        return known | _nothing_held(arm)
    known |= _held(arm, arm.crossing) | _versus(arm, reference, found)
    return known | _broken(arm, lone, requests, found)


def _nothing_held(arm: Arm) -> dict[str, Any]:
    """The figures of an arm without a confirmed rate: every rate tried failed, or nothing is known."""
    broken = arm.trials[~arm.trials["kept"].astype(bool)]
    if arm.limited:
        return {"verdict": Verdict.CLIENT_LIMITED}
    if broken.empty or len(broken) < len(arm.trials):
        return {"verdict": Verdict.INVALID}
    lowest = float(broken["rate_per_s"].min())
    return {"promise_per_s": 0.0, "low_per_s": 0.0, "high_per_s": lowest, "bound": AT_MOST, "verdict": ""}


def _held(arm: Arm, crossing: Crossing) -> dict[str, Any]:
    low, high = crossing.interval()
    return {
        "promise_per_s": rounded_down(low),
        "doubt": _doubt(crossing, low, high),
        "capacity_per_s": crossing.rate_per_s,
        "low_per_s": low,
        "high_per_s": high,
        "bound": AT_LEAST if crossing.at_least else AT_MOST if crossing.at_most else "",
        "binds": "" if crossing.at_least else str(arm.judged[crossing.binding]),
        "not_judged": SEPARATOR.join(map(str, arm.unjudged)),
        "goodput_per_s": math.nan if crossing.at_most else _goodput(arm.trials, crossing.rate_per_s),
    }


def _doubt(crossing: Crossing, low_per_s: float, high_per_s: float) -> str:
    """The reason not to plan with the lower end; empty without one.

    An arm that kept its objectives at every rate has no upper end. That is no reason for doubt: its lower end
    is a rate at which it kept them.
    """
    if low_per_s == 0:
        return ""  # there is no promise to doubt
    if len(crossing.blocks) < stats.FEWEST_BLOCKS_FOR_VERDICT:
        return TOO_FEW
    return TOO_WIDE if high_per_s > WIDEST * low_per_s and not crossing.at_least else ""


def rounded_down(rate_per_s: float) -> float:
    """Round down to three digits: 37.9142 becomes 37.9. A rate of three digits stays the same."""
    if not 0 < rate_per_s < math.inf:
        return rate_per_s
    rate_per_s *= 1 + ROUNDING
    decimals = SURE_DIGITS - 1 - math.floor(math.log10(rate_per_s))
    step = decimal.Decimal(1).scaleb(-decimals)
    return float(decimal.Decimal(rate_per_s).quantize(step, decimal.ROUND_FLOOR))


def _goodput(trials: pd.DataFrame, rate_per_s: float) -> float:
    """`rate_per_s` times the share of good answers in the confirming windows at or below it.

    NaN without such windows: windows above the capacity do not show how many good answers it gives there.
    """
    held = trials[trials["confirms"].astype(bool) & (trials["rate_per_s"] <= rate_per_s)]
    offered = held["rate_per_s"].sum()
    return float(rate_per_s * held["goodput_per_s"].sum() / offered) if offered else math.nan


def _versus(arm: Arm, reference: Arm, found: Evidence) -> dict[str, Any]:
    if arm.name == reference.name:
        return {"verdict": "reference"}
    ratio = None if reference.crossing is None else _ratio(arm, reference)
    if ratio is None:
        return {"verdict": Verdict.CLIENT_LIMITED if reference.limited else Verdict.INVALID}
    delta = found.facts.rules.delta_throughput
    verdict = stats.verdict(ratio, delta, lower_is_better=False, noisy=bool(found.withheld))
    if _may_be_the_clients(verdict, arm, reference):
        verdict = Verdict.CLIENT_LIMITED
    return {
        "ratio": ratio.ratio,
        "ratio_low": ratio.low,
        "ratio_high": ratio.high,
        "p": ratio.p,
        "verdict": str(verdict),
    }


def _may_be_the_clients(verdict: Verdict, arm: Arm, reference: Arm) -> bool:
    """Whether a faster client might change the verdict; a slow one can only make its arm look worse."""
    if verdict == Verdict.NOISY or not (arm.limited or reference.limited):
        return False
    safe = () if arm.limited and reference.limited else stats.FASTER if arm.limited else stats.SLOWER
    return verdict not in safe


def _ratio(arm: Arm, reference: Arm) -> Effect | None:
    """The ratio of capacities over the blocks that both arms have."""
    blocks = [{window.block for window in side.windows if window.confirms} for side in (arm, reference)]
    common = blocks[0] & blocks[1]
    sides = [
        cross(
            [window for window in side.windows if not window.confirms or window.block in common],
            side.judged,
            side.own_per_s,
        )
        for side in (arm, reference)
    ]
    its, others = sides
    if its is None or others is None:
        return None
    return effect(_as_bound(its, arm), _as_bound(others, reference))


def _as_bound(crossing: Crossing, arm: Arm) -> Crossing:
    return crossing.as_lower_bound() if arm.limited else crossing


def knee_per_s(trials: pd.DataFrame) -> float:
    """The knee: the rate tried with the highest Kleinrock power (good answers per second / mean latency).

    Kleinrock 1979, "Power and deterministic rules of thumb". The mean is made monotone in the rate first.
    """
    from scipy import optimize

    known = trials[trials["mean_ms"].notna() & ~trials["gave_up"].astype(bool)].sort_values("rate_per_s")
    if known.empty:
        return math.nan
    means = optimize.isotonic_regression(known["mean_ms"].to_numpy(), weights=known["requests"].to_numpy()).x
    share = 1 - known["failed"].to_numpy() / known["requests"].to_numpy()
    power = known["rate_per_s"].to_numpy() * share / means
    return float(known["rate_per_s"].iloc[int(np.argmax(power))])


def _broken(arm: Arm, lone: pd.DataFrame, requests: Requests, found: Evidence) -> dict[str, Any]:
    """The rate at which the arm first missed an objective, and the part of a request that grew most there."""
    first = _first_failed_window(arm)
    if first is None:
        return {}
    if arm.limited:
        return {
            "broke_at_per_s": first["rate_per_s"],
            "broke_first": Part.CLIENT,
            "how_it_broke": arm.limited,
        }
    trials = found.run.trials.set_index("trial")
    why = explain(
        measured(Cells(requests, ("trial",)).select((first["trial"],))),
        lone,
        _most_missed(arm, first["block"]),
        float(trials["server_lag_p99_ms"].get(first["trial"], math.nan)),
        capped=bool(trials["capped"].get(first["trial"], 0)),
    )
    return {"broke_at_per_s": first["rate_per_s"], "broke_first": why.part, "how_it_broke": why.words}


def _first_failed_window(arm: Arm) -> pd.Series[Any] | None:
    """The window with the lowest rate, from the capacity up, that missed a judged objective.

    If all such windows are below the capacity, the nearest one; None if no window missed an objective.
    """
    assert arm.crossing is not None
    rows = arm.trials[[not window.keeps(arm.judged) for window in arm.windows]].sort_values("rate_per_s")
    if rows.empty:
        return None
    beyond = rows[rows["rate_per_s"] >= arm.crossing.rate_per_s]
    return rows.iloc[-1] if beyond.empty else beyond.iloc[0]


def _most_missed(arm: Arm, block: int) -> Objective:
    """The objective that the arm's window in this block missed by the largest factor."""
    own = next(one for one in arm.windows if one.block == block)
    missed = [
        total / count / one.target if count else 0.0
        for one, total, count in zip(arm.judged, own.sums, own.counts, strict=True)
    ]
    return arm.judged[int(np.argmax(missed))]
