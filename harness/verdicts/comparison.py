"""Comparisons of arms, of one run or of two: a row per arm, load and metric, each with a sentence.

Pure: frames in, frames out, no disk. A block counts if both arms have an ok trial in it. Trials that failed
or are invalid never count, and the row says how many there are. Ratios are arm over reference.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from harness.analysis import stats, unpaired
from harness.analysis.percentiles import FEWEST_REQUESTS
from harness.analysis.stats import DIFFERENT, FASTER, SLOWER, Effect, Verdict
from harness.analysis.summaries import THROUGHPUT
from harness.verdicts import sentences
from harness.verdicts.metrics import METRICS, USUAL, Metric, Rules
from harness.verdicts.session_noise import twin_differs
from harness.verdicts.sides import Cell, Side

MEANINGS = {  # column → what it means; docs/reference/csv.md shows it
    "load": "The arrival law, such as closed(8).",
    "arm": "Name of the arm.",
    "reference": "The arm that it is compared with.",
    "metric": "What is compared, such as latency_ms.",
    "stat": "median, p95 or p99 of a duration; rate of throughput.",
    "primary": "The one metric judged by its interval alone; the others need Holm's correction too.",
    "twin": "Whether the arm is the reference, run a second time.",
    "arm_value": "Geometric mean of the blocks' figures; for p95 and p99: of the pooled requests.",
    "reference_value": "The same of the reference.",
    "difference": "arm_value - reference_value.",
    "ratio": "Arm over reference, paired by blocks.",
    "low": "Lower end of the ratio's interval.",
    "high": "Upper end of the ratio's interval.",
    "level": "Confidence level of the interval; higher than 0.95 if the run may stop early.",
    "blocks": "Blocks that both arms have.",
    "p": "p-value of a ratio of 1.",
    "p_holm": "p after Holm's correction over the rows of one arm that are not primary.",
    "lag1": "Autocorrelation of the log ratios from block to block.",
    "drifts": "Whether lag1 is so large that the interval is too narrow.",
    "blocks_least": "Inconclusive rows: blocks to run until the interval is narrow enough, at least.",
    "blocks_most": "The same, at most.",
    "verdict": "What may be said: faster, slower, equivalent, inconclusive, invalid …",
    "why": "Why the verdict is inconclusive or the size uncertain.",
    "reason": "What else to know about the row.",
    "sentence": "The row in words.",
}
COLUMNS = list(MEANINGS)
LOST = "lost"  # an internal column: number of trials of the two arms that do not count


def arms(
    side: Side,
    *,
    reference: str,
    twin: str | None = None,
    rules: Rules = USUAL,
    only: Collection[str] | None = None,
    withheld: str = "",
) -> pd.DataFrame:
    """Every other arm of a run (or `only` these) against `reference`, at every load that both were run at.

    Returns `COLUMNS` and `LOST`, in the order of loads within arms. Blocks are paired: the unit is the log
    ratio of a block's two figures.

    p_holm: one arm's rows that are not primary, at all loads, are one family. A primary row is its own claim
    and keeps its p, but the twin's primary rows are one family. A row that is not primary is faster or slower
    only if p_holm < 0.05 (less in a run with looks), and else inconclusive, with the reason in "why".
    Equivalence is not corrected.

    If the load generator could do no more, the arm is at least as good as it looks: a verdict that this could
    change is "limited by the client". An open loop that either side could not keep up with is saturated.

    If the twin differs (primary effect beyond δ and p_holm < 0.05 at any load), or `withheld` gives a reason,
    every verdict except "invalid" is "noisy session". Rows are never dropped silently: without a common block
    they say so and are "invalid".
    """
    others = [arm for arm in side.arms() if arm != reference and (only is None or arm in only)]
    references = {load: side.cell(reference, load) for load in side.loads(reference)}
    pairs = (
        _Pair(load, side.cell(arm, load), references[load], paired=True, twin=arm == twin)
        for arm in others
        for load in side.loads(arm)
        if load in references
    )
    return _table(pairs, rules, withheld, side.counted)


def runs(
    before: Side,
    after: Side,
    *,
    pairs: Sequence[tuple[str, str]] | None = None,
    rules: Rules = USUAL,
    withheld: str = "",
) -> pd.DataFrame:
    """Arms of two runs: by default each name that both have, or `pairs` of (arm before, arm after).

    As `arms`, with the run before as the reference, but blocks of two runs are not paired: medians and
    throughput are compared by Welch's t over the two sets of per-block log figures, and for tails the blocks
    of each run are resampled independently. These ratios include everything else that changed between the two
    sessions.
    """
    have = before.arms()
    same = [(arm, arm) for arm in after.arms() if arm in have]
    return _table(
        [
            _Pair(load, after.cell(new, load), before.cell(old, load), paired=False, twin=False)
            for old, new in (same if pairs is None else pairs)
            for load in after.loads(new)
            if load in before.loads(old)
        ],
        rules,
        withheld,
        min(before.counted, after.counted),
    )


# -- one row -------------------------------------------------------------------------------------------


class _Pair(NamedTuple):
    load: str
    arm: Cell
    reference: Cell
    paired: bool
    twin: bool

    @property
    def sides(self) -> tuple[Cell, Cell]:
        return self.arm, self.reference

    def saturated(self, metric: Metric) -> str:
        """Which sides are saturated, and what that means for a ratio; "" if neither is."""
        who = [cell.name for cell in self.sides if cell.saturated]
        are = "is" if len(who) == 1 else "are"
        effect = ", so the ratio grows with the window's length" if metric.waits else ""
        return f"{' and '.join(who)} {are} saturated{effect}" if who else ""

    def counted(self) -> list[frozenset[int]]:
        """For each side, the blocks that count and have a request."""
        if not self.paired:
            return [cell.answered for cell in self.sides]
        common = self.arm.blocks & self.reference.blocks
        return [cell.answered & common for cell in self.sides]

    def invalid(self) -> str:
        """Why the figures of this comparison are invalid; "" if they are valid."""
        gate = [f"{cell.name}: {cell.invalid}" for cell in self.sides if cell.invalid]
        lost = [cell.lost for cell in self.sides if cell.lost]
        if gate:
            return "; ".join([*gate, *lost])
        if all(self.counted()):
            return ""
        return "; ".join(["no block has a good trial of both", *lost])


class _Found(NamedTuple):
    """The comparison of a pair by one metric."""

    effect: Effect
    values: tuple[float, float]  # of the arm, of the reference
    blocks: tuple[int, int]
    trouble: str = ""  # why the ratio is not finite


def _table(pairs: Iterable[_Pair], rules: Rules, withheld: str, counted: float) -> pd.DataFrame:
    """The table of all pairs; `counted` is the share of the blocks that are not excluded."""
    rows = [row for pair in pairs for row in _rows(pair, rules)]
    _adjust(rows, rules)
    withheld = withheld or twin_differs(rows, rules)
    for row in rows:
        if withheld and row["verdict"] != Verdict.INVALID:
            row |= {"verdict": Verdict.NOISY, "reason": withheld}
        row |= {"why": sentences.why(row, rules), **_forecast(row, rules, counted)}
        row |= {"sentence": sentences.sentence(row, rules)}
    return pd.DataFrame(rows, columns=[*COLUMNS, LOST])


def _rows(pair: _Pair, rules: Rules) -> Iterator[dict[str, Any]]:
    """A row for each metric with figures at this load; a single row if nothing is valid."""
    invalid = pair.invalid()
    counted = pair.counted()
    for metric in METRICS:
        found = _find(pair, counted, metric, rules)
        if found is None and not (invalid and metric.primary):
            continue
        found = found or _Found(stats.effect([]), (math.nan, math.nan), (0, 0))
        yield _row(pair, metric, found, invalid, rules)


def _row(pair: _Pair, metric: Metric, found: _Found, invalid: str, rules: Rules) -> dict[str, Any]:
    effect, delta = found.effect, rules.delta(metric.name)
    saturated = "" if invalid else pair.saturated(metric)
    verdict = stats.verdict(effect, delta, lower_is_better=metric.lower_is_better, invalid=bool(invalid))
    if _may_be_the_clients(verdict, pair, metric):
        verdict = Verdict.CLIENT_LIMITED
    known = [invalid] if invalid else [cell.lost for cell in pair.sides]
    return {
        "load": pair.load,
        "arm": pair.arm.name,
        "reference": pair.reference.name,
        "metric": metric.name,
        "stat": metric.stat,
        "primary": metric.primary,
        "twin": pair.twin,
        "arm_value": found.values[0],
        "reference_value": found.values[1],
        "difference": found.values[0] - found.values[1],  # NaN for two infinite values
        "ratio": effect.ratio,
        "low": effect.low,
        "high": effect.high,
        "level": stats.LEVEL,  # of all looks together, if the run has several
        "blocks": min(found.blocks),
        "p": math.nan if invalid else effect.p,  # an invalid row belongs to no family of tests
        "lag1": effect.lag1,
        "drifts": effect.drifts,
        "verdict": verdict,
        "reason": "; ".join(filter(None, [*known, found.trouble, _drift(effect), saturated])),
        LOST: sum(len(cell.lost_trials) for cell in pair.sides),
        "_metric": metric,
        "_found": found,
        "_saturated": saturated,
        "_limited": "; ".join(f"{cell.name}: {cell.limited}" for cell in pair.sides if cell.limited),
    }


def _may_be_the_clients(verdict: Verdict, pair: _Pair, metric: Metric) -> bool:
    """Whether a faster client might change the verdict; a slow one can only make its arm look worse."""
    arm, reference = (bool(cell.limited) for cell in pair.sides)
    if verdict == Verdict.INVALID or not metric.is_seen_by_client or not (arm or reference):
        return False
    safe = () if arm and reference else FASTER if arm else SLOWER
    return verdict not in safe


def _find(pair: _Pair, counted: list[frozenset[int]], metric: Metric, rules: Rules) -> _Found | None:
    """The comparison by one metric; None if it does not apply, or a side has too few figures for it."""
    if not all(counted) or (metric.open_only and pair.load.startswith("closed(")):
        return None
    if metric.name == THROUGHPUT and pair.load.startswith("own("):
        return None  # each arm gets a different rate, a share of its own throughput
    if metric.tail is not None:
        return _find_tail(pair, counted, metric.tail, rules)
    return _find_middle(pair, [cell.by_block(metric) for cell in pair.sides], metric, rules)


def _find_middle(pair: _Pair, sides: list[pd.Series[float]], metric: Metric, rules: Rules) -> _Found | None:
    """By one figure per block; an infinite or zero figure leaves no interval and is reported as trouble."""
    if pair.paired:
        common = sides[0].index.intersection(sides[1].index).sort_values()
        sides = [side.loc[common] for side in sides]
    if metric.optional and not all(len(side) and (side > 0).all() for side in sides):
        return None  # external servers may omit the parts, and a zero has no ratio
    if not all(map(len, sides)):
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        arm, reference = (np.log(np.asarray(side, dtype=np.float64)) for side in sides)
        effect = rules.effect(arm - reference) if pair.paired else unpaired.effect(arm, reference)
        values = float(np.exp(arm.mean())), float(np.exp(reference.mean()))
    troubles = [_trouble(cell.name, side) for cell, side in zip(pair.sides, sides, strict=True)]
    return _Found(effect, values, (len(arm), len(reference)), "; ".join(filter(None, troubles)))


def _trouble(name: str, figures: pd.Series[float]) -> str:
    infinite, zero = int(np.isinf(figures).sum()), int((figures == 0).sum())
    if infinite:
        where = f"{infinite} of {len(figures)} blocks"
        return f"at least half of {name}'s requests got no good answer in {where}"
    return f"{name} gave no good answer within the window of {zero} of {len(figures)} blocks" if zero else ""


def _find_tail(pair: _Pair, counted: list[frozenset[int]], percent: int, rules: Rules) -> _Found | None:
    """By a percentile of the pooled requests; a failure counts as the slowest answer."""
    arm, reference = (cell.latencies(blocks) for cell, blocks in zip(pair.sides, counted, strict=True))
    if min(sum(map(len, side.blocks)) for side in (arm, reference)) < FEWEST_REQUESTS[percent]:
        return None
    tail_effect = rules.tail_effect if pair.paired else unpaired.tail_effect
    effect = tail_effect(arm, reference, percent)
    values = arm.whole(percent), reference.whole(percent)
    troubles = [
        f"at least {100 - percent} % of {cell.name}'s requests got no good answer"
        for cell, value in zip(pair.sides, values, strict=True)
        if value == math.inf
    ]
    return _Found(effect, values, (len(arm.blocks), len(reference.blocks)), "; ".join(troubles))


def _drift(effect: Effect) -> str:
    if not effect.drifts:
        return ""
    return f"consecutive blocks are correlated (lag-1 {effect.lag1:.2f}), so the interval is too narrow"


# -- families of tests ---------------------------------------------------------------------------------


def _adjust(rows: list[dict[str, Any]], rules: Rules) -> None:
    """Apply Holm's correction within each family: see `arms`.

    There are many rows that are not primary, so an interval without 1 is not enough for a difference.
    """
    families: dict[tuple[str, bool], list[dict[str, Any]]] = {}
    for row in rows:
        row |= {"p_holm": row["p"], "_family": 1}
        if row["twin"] or not row["primary"]:
            families.setdefault((row["arm"], row["primary"]), []).append(row)
    for family in families.values():
        known = sum(not math.isnan(row["p"]) for row in family)
        for row, adjusted in zip(family, stats.holm([row["p"] for row in family]), strict=True):
            row |= {"p_holm": float(adjusted), "_family": known}
            if row["verdict"] in DIFFERENT and not (row["primary"] or adjusted < rules.alpha):
                row["verdict"] = Verdict.INCONCLUSIVE


def _forecast(row: dict[str, Any], rules: Rules, counted: float) -> dict[str, float]:
    """Blocks to run until the interval is as narrow as δ; NaN if the row has a verdict, or if not known."""
    least = most = 0
    if row["verdict"] == Verdict.INCONCLUSIVE:
        found, delta = row["_found"].effect, rules.delta(row["metric"])
        least, most = stats.blocks_for_width(found, delta, counted=counted)
    return {"blocks_least": float(least or math.nan), "blocks_most": float(most or math.nan)}
