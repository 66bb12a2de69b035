"""The verdict of a run on each published claim: confirmed, refuted, inconclusive or not tested. Pure.

A check is a ratio with an interval over blocks. It is confirmed if the whole interval is inside the check's
bounds, refuted if the whole interval is outside, else inconclusive. A check of several combinations
("always") is confirmed if every one is, each at the 95 % level, and refuted if one is, at a level that allows
for their number. A noisy session withholds every verdict.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType

import numpy as np
import pandas as pd

from harness.analysis import stats, summaries
from harness.analysis.percentiles import FEWEST_REQUESTS, Pool
from harness.verdicts.claims_file import TAILS, Check, Claim, Claims
from harness.wire.records import OK

CONFIRMED = "confirmed"
REFUTED = "refuted"
INCONCLUSIVE = "inconclusive"
NOT_TESTED = "not tested"
WITHHELD = "withheld"

DRIFTS = "the ratio drifts over the blocks, so its interval is too narrow"

CHECK_COLUMNS = [
    "claim",
    "text",
    "stated",
    "check",
    "published",
    "bounds",
    "at_least",
    "at_most",
    "measured",
    "low",
    "high",
    "level",
    "blocks",
    "verdict",
    "decides",
    "combination",
    "condition",
    "note",
]
VERDICT_COLUMNS = ["claim", "text", "stated", "verdict", "checks", "condition", "note"]


class _Evidence:
    """The figures of a run under the claims' arrival law; keeps what it has computed.

    `derived` has the blocks that count, `trials` has all blocks, `invalid` says why an (arm, load) is
    unusable.
    """

    def __init__(
        self, law: str, derived: pd.DataFrame, trials: pd.DataFrame, invalid: Mapping[tuple[str, str], str]
    ) -> None:
        self._law, self._invalid = law, invalid
        self._cells = summaries.Cells(summaries.under(law, derived), ("arm", "concurrency"))
        self._trials = summaries.under(law, trials)
        self._per_block: dict[_Figure, pd.Series[float]] = {}
        self._pools: dict[tuple[str, int, str, tuple[int, ...]], Pool] = {}

    def per_block(self, figure: _Figure) -> pd.Series[float]:
        """The figure of each block, in block order."""
        if figure not in self._per_block:
            self._per_block[figure] = summaries.per_block(self._of(figure), figure.metric, figure.stat)
        return self._per_block[figure]

    def pool(self, figure: _Figure, blocks: Iterable[int]) -> Pool:
        """The pooled requests of these blocks, for percentiles; a failure counts as an infinite latency."""
        key = (figure.arm, figure.concurrency, figure.metric, tuple(blocks))
        if key not in self._pools:
            rows = summaries.measured(self._of(figure))
            self._pools[key] = summaries.pool(rows[rows["trial_state"] == OK], figure.metric, key[-1])
        return self._pools[key]

    def _of(self, figure: _Figure) -> pd.DataFrame:
        names = dict.fromkeys([*summaries.THROUGHPUT_COLUMNS, figure.metric])
        names.pop(summaries.THROUGHPUT, None)
        return self._cells.select((figure.arm, figure.concurrency), list(names))

    def why_unusable(self, combination: _Combination) -> str:
        """Why this cannot be judged; "" if it can."""
        for figure in combination.figures():
            broken = self._invalid.get((figure.arm, f"{self._law}({figure.concurrency})"))
            if broken:
                return f"{figure} is invalid: {broken}"
        if combination.per_block(self).empty:
            return self._why_missing(combination)
        return combination.lacks_requests(self)

    def _why_missing(self, combination: _Combination) -> str:
        for figure in combination.figures():
            if summaries.cell(self._trials, figure.arm, figure.concurrency).empty:
                return f"{figure} was not run"
            if self.per_block(figure).empty:
                return f"{figure} gave no {figure.metric}"
        return f"{combination}: no block has both figures"


@dataclasses.dataclass(frozen=True, slots=True)
class _Figure:
    """One statistic of one arm at one concurrency."""

    arm: str
    concurrency: int
    metric: str
    stat: str

    @property
    def percent(self) -> float:
        """The percentile of a figure of pooled blocks."""
        return summaries.STATS[self.stat] or 50

    def __str__(self) -> str:
        return f"{self.arm} c = {self.concurrency}"


@dataclasses.dataclass(frozen=True, slots=True)
class _Combination:
    """A figure, or its ratio to another figure in the same blocks."""

    figure: _Figure
    over: _Figure | None

    def figures(self) -> list[_Figure]:
        return [self.figure] if self.over is None else [self.figure, self.over]

    def per_block(self, evidence: _Evidence) -> pd.Series[float]:
        values = evidence.per_block(self.figure)
        return values if self.over is None else (values / evidence.per_block(self.over)).dropna()

    def effect(self, evidence: _Evidence, level: float) -> stats.Effect:
        """The ratio over blocks: of the blocks' own figures, or of pooled ones if a tail is involved."""
        values = self.per_block(evidence)
        if not self.has_tail:
            return stats.effect(stats.log_ratio(values), level=level)
        sides = [(evidence.pool(figure, values.index), figure.percent) for figure in self.figures()]
        return stats.percentiles_ratio(*sides, level=level)

    @property
    def has_tail(self) -> bool:
        return not TAILS.isdisjoint(figure.stat for figure in self.figures())

    def lacks_requests(self, evidence: _Evidence) -> str:
        """Why there are too few requests for a percentile; "" if there are enough."""
        if not self.has_tail:
            return ""
        blocks = self.per_block(evidence).index
        for figure in self.figures():
            needed = FEWEST_REQUESTS[int(figure.percent)]
            there = sum(map(len, evidence.pool(figure, blocks).blocks))
            if there < needed:
                return f"{figure}: {figure.stat} needs {needed} requests, the run has {there}"
        return ""

    def __str__(self) -> str:
        if self.over is None:
            return str(self.figure)
        other = "" if self.over.metric == self.figure.metric else f" ({self.over.metric})"
        return f"{self.figure} / {self.over}{other}"


@dataclasses.dataclass(frozen=True, slots=True)
class _Outcome:
    """The outcome of one combination."""

    combination: str
    measured: float = math.nan
    low: float = math.nan
    high: float = math.nan
    level: float = math.nan
    blocks: int = 0
    verdict: str = NOT_TESTED
    note: str = ""


def evaluate(
    claims: Claims,
    derived: pd.DataFrame,
    trials: pd.DataFrame,
    *,
    excluded: Collection[int] = (),
    invalid: Mapping[tuple[str, str], str] = MappingProxyType({}),
    noisy: str = "",
) -> pd.DataFrame:
    """One row per check (`CHECK_COLUMNS`), in the file's order.

    measured, low, high: the ratio and its interval at `level` for the check's weakest combination, which
    `combination` names. level is 0.95 if the ratio is inside its bounds; outside, where it may refute, it is
    1 - 0.05 / combinations. `trials` shows which loads failed and which were not run. Blocks in `excluded` do
    not count; checks that need an `invalid` arm and load are not tested. If `noisy` gives a reason, every
    verdict is withheld, but not the figures.
    """
    if excluded:
        derived = derived[~derived["block"].isin(list(excluded))]
    evidence = _Evidence(claims.law, derived, trials, invalid)
    rows = [
        _check_row(claim, check, _weakest(check, evidence))
        for claim in claims.claims
        for check in claim.checks
    ]
    table = pd.DataFrame(rows, columns=CHECK_COLUMNS)
    return table.assign(verdict=WITHHELD, note=noisy) if noisy else table


def verdicts(evaluated: pd.DataFrame) -> pd.DataFrame:
    """One row per claim (`VERDICT_COLUMNS`) from its deciding checks, with their conditions and notes joined.

    Refuted if one check is refuted; else not tested if one is not tested; confirmed if all are confirmed;
    else inconclusive.
    """
    deciding = evaluated[evaluated["decides"]]
    rows = [_verdict_row(checks) for _, checks in deciding.groupby("claim", sort=False)]
    return pd.DataFrame(rows, columns=VERDICT_COLUMNS)


def _check_row(claim: Claim, check: Check, outcome: _Outcome) -> dict[str, object]:
    return {
        "claim": claim.id,
        "text": claim.text,
        "stated": claim.stated,
        "check": check.name,
        "published": _number(check.published),
        "bounds": _bounds(check),
        "at_least": _number(check.at_least),
        "at_most": _number(check.at_most),
        "decides": check.decides,
        "condition": check.condition,
        **dataclasses.asdict(outcome),
    }


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _verdict_row(checks: pd.DataFrame) -> dict[str, object]:
    found = list(checks["verdict"])
    return {
        **{name: checks[name].iloc[0] for name in ("claim", "text", "stated")},
        "verdict": _together(found),
        "checks": f"{found.count(CONFIRMED)} of {len(found)} confirmed",
        "condition": _joined(checks["condition"]),
        "note": _joined(checks["note"]),
    }


def _joined(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(text for text in texts if text))


def _together(found: Iterable[str]) -> str:
    """The verdict on the statement that every one of these holds."""
    kinds = set(found)
    for settles in (WITHHELD, REFUTED, NOT_TESTED):
        if settles in kinds:
            return settles
    return CONFIRMED if kinds == {CONFIRMED} else INCONCLUSIVE


def _combinations(check: Check) -> list[_Combination]:
    figures = [_Figure(arm, c, check.metric, check.stat) for arm in check.arms for c in check.concurrencies]
    versus = check.versus
    if versus is None:
        return [_Combination(figure, None) for figure in figures]
    return [
        _Combination(figure, _Figure(arm, c, versus.metric or check.metric, versus.stat or check.stat))
        for figure in figures
        for arm in versus.arms or (figure.arm,)
        for c in versus.concurrencies or (figure.concurrency,)
    ]


def _weakest(check: Check, evidence: _Evidence) -> _Outcome:
    """The outcome to show: among those with the check's verdict, the one with the least room.

    Each combination is judged alone, over all blocks. The extreme of each block would be biased: the largest
    of several noisy ratios is above the largest true one. "Every one holds" needs no correction for their
    number, because a wrong "confirmed" needs a wrong one for a combination that does not hold. "One does not
    hold" needs a correction, because any of them may fail by chance.
    """
    combinations = _combinations(check)
    strict = 1 - (1 - stats.LEVEL) / len(combinations)
    outcomes = [_judge(check, combination, evidence, strict) for combination in combinations]
    verdict = _together(outcome.verdict for outcome in outcomes)
    deciding = [outcome for outcome in outcomes if outcome.verdict == verdict]
    return min(deciding, key=lambda outcome: _room(check, outcome))


def _judge(check: Check, combination: _Combination, evidence: _Evidence, strict: float) -> _Outcome:
    """One combination's verdict: confirmed at the usual level, refuted at the `strict` one."""
    if unusable := evidence.why_unusable(combination):
        return _Outcome(str(combination), note=unusable)
    found = combination.effect(evidence, stats.LEVEL)
    if _margin(check, found.ratio) < 0:
        found = combination.effect(evidence, strict)
    note = _joined([_what_is_missing(check, found), DRIFTS if found.drifts else ""])
    figures = (found.ratio, found.low, found.high, found.level, found.blocks)
    return _Outcome(str(combination), *figures, _verdict(check, found), note)


def _verdict(check: Check, found: stats.Effect) -> str:
    if found.blocks < stats.FEWEST_BLOCKS_FOR_VERDICT:
        return INCONCLUSIVE
    if _margin(check, found.low) >= 0 and _margin(check, found.high) >= 0:
        return CONFIRMED
    # refuted only if both ends are beyond the same bound: else the interval contains all allowed values
    beyond = found.high < _number(check.at_least) or found.low > _number(check.at_most)
    return REFUTED if beyond else INCONCLUSIVE


def _what_is_missing(check: Check, found: stats.Effect) -> str:
    """Why a check is inconclusive; "" if it is not."""
    if found.blocks < stats.FEWEST_BLOCKS_FOR_VERDICT:
        return f"{found.blocks} blocks, at least {stats.FEWEST_BLOCKS_FOR_VERDICT} are needed"
    if _verdict(check, found) != INCONCLUSIVE:
        return ""
    distance = abs(_margin(check, found.ratio))
    if not math.isfinite(found.spread) or not math.isfinite(distance):
        return "no interval, because a figure is zero, or infinite because of failures"
    return "the interval contains the bound"


def _room(check: Check, outcome: _Outcome) -> tuple[float, ...]:
    """How far inside the bounds the deciding end of the interval is; then how far the ratio is."""
    ends = [_margin(check, outcome.low), _margin(check, outcome.high)]
    end = max(ends) if outcome.verdict == REFUTED else min(ends)
    return tuple(-math.inf if math.isnan(room) else room for room in (end, _margin(check, outcome.measured)))


def _margin(check: Check, ratio: float) -> float:
    """How far inside its bounds a ratio is, in logs; negative outside; NaN for NaN."""
    log = float(stats.log_ratio(ratio))
    above = math.inf if check.at_least is None else log - math.log(check.at_least)
    below = math.inf if check.at_most is None else math.log(check.at_most) - log
    return float(np.minimum(above, below))


def _bounds(check: Check) -> str:
    if check.at_most is None:
        return f"≥ {check.at_least:g}"
    return f"≤ {check.at_most:g}" if check.at_least is None else f"{check.at_least:g} to {check.at_most:g}"
