"""The verdict of a run on each published claim: confirmed, refuted, inconclusive or not tested. Pure.

A check is a ratio with an interval over blocks. It is confirmed if the whole interval is inside the check's
bounds, refuted if the whole interval is outside, else inconclusive. A check of several combinations
("always") is confirmed if every one is, each at the 95 % level, and refuted if one is, at a level that allows
for their number. A noisy session withholds every verdict.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pandas as pd

from harness.analysis import stats
from harness.analysis.rows import Requests, of_trials
from harness.verdicts.claim_figures import Combination, Evidence, combinations_of
from harness.verdicts.claims_file import TAILS, Check, Claim, Claims
from harness.verdicts.metrics import USUAL, Rules

CONFIRMED = "confirmed"
REFUTED = "refuted"
INCONCLUSIVE = "inconclusive"
NOT_TESTED = "not tested"
WITHHELD = "withheld"

DRIFTS = "the ratio drifts over the blocks, so its interval is too narrow"

CHECK_COLUMNS = [
    "claim",
    "text",
    "short",
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
VERDICT_COLUMNS = ["claim", "text", "short", "stated", "verdict", "checks", "condition", "note"]


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


class Judge:
    """Judges the claims on one run, as often as needed: by several rules, or on parts of its blocks.

    `requests` and `trials` are those of the run; blocks in `excluded` do not count; checks that need an
    `invalid` arm and load are not tested.
    """

    def __init__(
        self,
        claims: Claims,
        requests: Requests,
        trials: pd.DataFrame,
        *,
        excluded: Collection[int] = (),
        invalid: Mapping[tuple[str, str], str] = MappingProxyType({}),
    ) -> None:
        counted = of_trials(requests, "block", excluded, but=True)
        self._claims = claims
        self._evidence = Evidence(claims.law, counted, trials, invalid)

    def checks(self, rules: Rules = USUAL, blocks: Sequence[int] | None = None) -> pd.DataFrame:
        """A row per check, as `evaluate`; on these blocks only, if given, in this order."""
        evidence = self._evidence.judged_by(rules, blocks)
        rows = [
            _check_row(claim, check, _weakest(check, evidence))
            for claim in self._claims.claims
            for check in claim.checks
        ]
        return pd.DataFrame(rows, columns=CHECK_COLUMNS)

    def is_settled(self, rules: Rules, blocks: Sequence[int]) -> bool:
        """Whether each check that decides a claim has a verdict. Faster than `checks`: tails come last."""
        evidence = self._evidence.judged_by(rules, blocks)
        deciding = [check for claim in self._claims.claims for check in claim.checks if check.decides]
        deciding.sort(key=lambda check: check.stat in TAILS)
        return all(_weakest(check, evidence).verdict != INCONCLUSIVE for check in deciding)


def tally(verdicts: pd.DataFrame) -> str:
    """Such as "Of the article's 8 claims: 5 confirmed, 3 refuted"; "" without claims."""
    if verdicts.empty:
        return ""
    found = verdicts["verdict"].value_counts()
    kinds = (CONFIRMED, REFUTED, INCONCLUSIVE, NOT_TESTED, WITHHELD)
    counts = ", ".join(f"{found[kind]} {kind}" for kind in kinds if kind in found)
    return f"Of the article's {len(verdicts)} claims: {counts}"


def evaluate(
    claims: Claims,
    requests: Requests,
    trials: pd.DataFrame,
    *,
    excluded: Collection[int] = (),
    invalid: Mapping[tuple[str, str], str] = MappingProxyType({}),
    noisy: str = "",
    rules: Rules = USUAL,
) -> pd.DataFrame:
    """One row per check (`CHECK_COLUMNS`), in the file's order.

    measured, low, high: the ratio and its interval at `level` for the check's weakest combination, which
    `combination` names. level is 0.95 if the ratio is inside its bounds; outside, where it may refute, it is
    1 - 0.05 / combinations. In a run with looks (`rules`), it is the level of all looks together.

    `trials` shows which loads failed and which were not run. Blocks in `excluded` do not count; checks that
    need an `invalid` arm and load are not tested. If `noisy` gives a reason, every verdict is withheld, but
    not the figures.
    """
    table = Judge(claims, requests, trials, excluded=excluded, invalid=invalid).checks(rules)
    return table.assign(verdict=WITHHELD, note=noisy) if noisy else table


def verdicts(evaluated: pd.DataFrame) -> pd.DataFrame:
    """One row per claim (`VERDICT_COLUMNS`) from its deciding checks, with their conditions and notes joined.

    Refuted if one check is refuted; else not tested if one is not tested; confirmed if all are confirmed;
    else inconclusive.
    """
    deciding = evaluated[evaluated["decides"]]
    rows = [_verdict_row(checks) for _, checks in deciding.groupby("claim", sort=False)]
    return pd.DataFrame(rows, columns=VERDICT_COLUMNS)


def nearest(evaluated: pd.DataFrame) -> pd.DataFrame:
    """One row per claim: of its deciding checks with the claim's verdict, the one nearest to its bound."""
    deciding = evaluated[evaluated["decides"]]
    logs = (
        stats.log_ratio(deciding[end], deciding[bound])
        for end in ("measured", "low", "high")
        for bound in ("at_least", "at_most")
    )
    together = deciding.groupby("claim")["verdict"].transform(_together)
    table = deciding.assign(room=np.fmin.reduce([np.abs(one) for one in logs]))
    table = table[table["verdict"] == together].sort_values("room", kind="stable")
    return table.drop_duplicates("claim").sort_index()[CHECK_COLUMNS]


def _check_row(claim: Claim, check: Check, outcome: _Outcome) -> dict[str, object]:
    return {
        "claim": claim.id,
        "text": claim.text,
        "short": claim.short or claim.text,
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
        **{name: checks[name].iloc[0] for name in ("claim", "text", "short", "stated")},
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


def _weakest(check: Check, evidence: Evidence) -> _Outcome:
    """The outcome to show: among those with the check's verdict, the one with the least room.

    Each combination is judged alone, over all blocks. The extreme of each block would be biased: the largest
    of several noisy ratios is above the largest true one. "Every one holds" needs no correction for their
    number, because a wrong "confirmed" needs a wrong one for a combination that does not hold. "One does not
    hold" needs a correction, because any of them may fail by chance.
    """
    combinations = combinations_of(check)
    strict = strict_level(len(combinations))
    outcomes = [_judge(check, combination, evidence, strict) for combination in combinations]
    verdict = _together(outcome.verdict for outcome in outcomes)
    deciding = [outcome for outcome in outcomes if outcome.verdict == verdict]
    return min(deciding, key=lambda outcome: _room(check, outcome))


def strict_level(combinations: int) -> float:
    """The level at which one of several combinations refutes a check."""
    return 1 - (1 - stats.LEVEL) / combinations


def levels(claims: Claims) -> tuple[float, ...]:
    """Every level at which these claims are judged, ascending."""
    return tuple(
        sorted({strict_level(len(combinations_of(one))) for each in claims.claims for one in each.checks})
    )


def _judge(check: Check, combination: Combination, evidence: Evidence, strict: float) -> _Outcome:
    """One combination's verdict: confirmed at the usual level, refuted at the `strict` one."""
    if unusable := evidence.why_unusable(combination):
        return _Outcome(str(combination), note=unusable)
    level, found = stats.LEVEL, combination.effect(evidence, stats.LEVEL)
    if _margin(check, found.ratio) < 0:
        level, found = strict, combination.effect(evidence, strict)
    note = _joined([_what_is_missing(check, found), DRIFTS if found.drifts else ""])
    figures = (found.ratio, found.low, found.high, level, found.blocks)
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
