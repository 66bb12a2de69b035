"""Arms compared: of one run, block by block, or of two runs. One row per arm, load and metric, led by a sentence.

Pure: frames in, frames out, no disk. A block counts when both arms have an ok trial in it; trials that
failed or are invalid never count, and the row says how many blocks that cost. Ratios are arm over reference.
"""

from __future__ import annotations

import dataclasses
import math
import re
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.stats

from harness import analysis, stats
from harness.analysis import LATENCY, THROUGHPUT
from harness.records import OK, PILOT_BLOCK
from harness.stats import Effect, Verdict

Floats = npt.NDArray[np.float64]
Invalid = Mapping[tuple[str, str], str]  # (arm, load) → why the instrument was not fit there

ALPHA = 0.05
FEWEST_BLOCKS = 6  # fewer sign flips than 2⁶ cannot reach p = 0.05
RESAMPLES = 2000  # of blocks, for the tails of two runs
PERMUTATIONS = 9999
SEED = 1

COLUMNS = [
    "load",
    "arm",
    "reference",
    "metric",
    "stat",
    "primary",  # the one metric on which arms are judged; the others are Holm-adjusted
    "twin",  # the arm is the reference run twice
    "arm_value",  # geometric mean over blocks of the block's figure; of a tail: of the pooled requests
    "reference_value",
    "difference",
    "ratio",
    "low",
    "high",
    "level",
    "blocks",
    "p",
    "p_holm",
    "lag1",
    "drifts",
    "blocks_needed",  # for any verdict at all; of inconclusive rows only
    "verdict",
    "reason",
    "sentence",
]


@dataclasses.dataclass(frozen=True)
class Rules:
    """What counts as different, declared before looking; shares, such as 0.05."""

    delta_latency: float = 0.05
    delta_throughput: float = 0.03
    level: float = 0.95

    def delta(self, metric: str) -> float:
        """δ of a metric: the throughput's, or else the latency's."""
        return self.delta_throughput if metric == THROUGHPUT else self.delta_latency


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a run's plan says about comparing: read by `facts`."""

    reference: str  # "" in a run without arms
    twin: str | None
    rules: Rules
    exclude: Mapping[str, Any]  # criteria for leaving whole blocks out


def facts(record: Mapping[str, Any]) -> Facts:
    """What run.json declares; a run made before there were such declarations has the defaults."""
    plan = record.get("plan") or {}
    planned = [arm["name"] for arm in plan.get("arms", [])] or list(record.get("arms") or {})
    reference = plan.get("reference") or next(iter(planned), "")
    usual = Rules()
    rules = Rules(
        delta_latency=plan.get("delta_latency") or usual.delta_latency,
        delta_throughput=plan.get("delta_throughput") or usual.delta_throughput,
    )
    return Facts(
        reference=reference,
        twin=twin_name(reference) if plan.get("twin") else None,
        rules=rules,
        exclude=plan.get("exclude") or {},
    )


def twin_name(reference: str) -> str:
    """How the second run of the reference arm is called."""
    return f"{reference}-twin"


class Metric(NamedTuple):
    """One thing compared. `phrase` is how the sentence begins."""

    name: str
    stat: str  # one of analysis.STATS; "rate" of throughput, which has one figure a trial
    phrase: str
    primary: bool = False
    open_only: bool = False  # in a closed loop it is the latency again
    optional: bool = False  # left out where a side lacks it, or has zeros

    @property
    def lower_is_better(self) -> bool:
        return self.name != THROUGHPUT

    @property
    def unit(self) -> str:
        return "requests/s" if self.name == THROUGHPUT else "ms"

    @property
    def tail(self) -> int | None:
        """95 or 99; None of what is compared by one figure a block."""
        return int(self.stat[1:]) if self.stat.startswith("p") else None


def _of(what: str) -> str:
    return f"{{arm}}'s {what} is {{ratio}}x that of {{reference}}"


METRICS = (
    Metric(LATENCY, "median", "{arm} takes {ratio}x as long as {reference} to answer", primary=True),
    Metric(THROUGHPUT, "rate", "{arm} answers {ratio}x as many requests a second as {reference}"),
    Metric(LATENCY, "p95", _of("p95 latency")),
    Metric(LATENCY, "p99", _of("p99 latency")),
    Metric("service_ms", "median", _of("median service time"), open_only=True),
    Metric("queue_ms", "median", _of("median queue wait"), optional=True),
    Metric("model_ms", "median", _of("median model time"), optional=True),
    Metric("io_ms", "median", _of("median I/O"), optional=True),
)
NAMES = tuple(dict.fromkeys(metric.name for metric in METRICS))


# -- the two comparisons -------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Side:
    """One run, or what counts of it. `label` is its name in the sentences of `runs`."""

    derived: pd.DataFrame  # analysis.derive
    trials: pd.DataFrame
    label: str = ""
    excluded: Collection[int] = ()  # blocks left out by criteria fixed before the run
    invalid: Invalid = dataclasses.field(default_factory=dict)

    def arms(self) -> list[str]:
        """In report order, if the frame has one, else as they appear."""
        known = self.derived["arm"]
        ordered = list(known.cat.categories) if isinstance(known.dtype, pd.CategoricalDtype) else []
        return list(dict.fromkeys([*ordered, *self._counted()["arm"].astype(str)]))

    def loads(self, arm: str) -> list[str]:
        """Those that the arm was run at, the lightest of each law first."""
        its = self._counted()
        return sorted(set(its.loc[its["arm"] == arm, "load"].astype(str)), key=_natural)

    def cell(self, arm: str, load: str) -> _Cell:
        rows, trials = (
            frame[(frame["arm"] == arm) & (frame["load"] == load) & ~frame["block"].isin(list(self.excluded))]
            for frame in (self.derived, self._counted())
        )
        name = f"{self.label}:{arm}" if self.label else arm
        return _Cell(name, rows[rows["trial_state"] == OK], trials, self.invalid.get((arm, load), ""))

    def _counted(self) -> pd.DataFrame:
        return self.trials[self.trials["block"] > PILOT_BLOCK]


def arms(
    derived: pd.DataFrame,
    trials: pd.DataFrame,
    *,
    reference: str,
    twin: str | None = None,
    rules: Rules = Rules(),
    excluded: Collection[int] = (),
    invalid: Invalid | None = None,
    only: Collection[str] | None = None,
    withheld: str = "",
) -> pd.DataFrame:
    """Every other arm of a run (or `only` these) against `reference`, at every load that both were run at.

    Returns `COLUMNS`, in the order of loads within arms. Blocks are paired: the unit is the log ratio of a
    block's two figures. p_holm: of one arm's rows that are not primary, all loads together, one family; a
    primary row is a claim of its own and keeps its p, but the twin's primary rows are one family over loads.
    When the twin differs (primary effect beyond δ and p_holm < 0.05 at any load), or `withheld` gives a
    reason, every verdict but "invalid" is "noisy session". No arm and load is dropped silently: without
    a common block its rows say so and are "invalid".
    """
    side = Side(derived, trials, "", excluded, invalid or {})
    others = [arm for arm in side.arms() if arm != reference and (only is None or arm in only)]
    pairs = [
        _Pair(load, side.cell(arm, load), side.cell(reference, load), paired=True, twin=arm == twin)
        for arm in others
        for load in side.loads(arm)
        if load in side.loads(reference)
    ]
    return _table(pairs, rules, withheld)


def runs(
    before: Side,
    after: Side,
    *,
    pairs: Sequence[tuple[str, str]] | None = None,
    rules: Rules = Rules(),
    withheld: str = "",
) -> pd.DataFrame:
    """Arms of two runs: by default each name that both have, or `pairs` of (arm before, arm after).

    As `arms`, with the run before as reference, but blocks of two runs are not paired: medians and throughput
    are compared by Welch's t over the two sets of per-block log figures, and for the tails the blocks of each
    run are resampled independently. Whatever else changed between the two sessions is in these ratios.
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
    )


def noisy(table: pd.DataFrame) -> str:
    """What was seen that withholds the verdicts, and what to do; "" when the session was quiet."""
    withheld = table.loc[table["verdict"] == Verdict.NOISY, "reason"]
    return str(withheld.iloc[0]) if len(withheld) else ""


def twin_sentence(table: pd.DataFrame) -> str:
    """How far the same code differed from itself, at most; "" when there was no twin to tell."""
    seen = _twins(table).dropna(subset=["ratio"])
    if seen.empty:
        return ""
    worst = seen.loc[_size(seen["ratio"]).idxmax()]
    share = 100 * float(_size(worst["ratio"]))
    return f"The twin of {worst['reference']} differs by at most {share:.1f} % ({worst['load']})"


# -- the gate ------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Floors:
    """Below these a difference fails no gate, however sure it is. `share` None: δ of the rules."""

    ms: float = 1.0
    per_s: float = 1.0
    share: float | None = None


def gated(table: pd.DataFrame) -> pd.DataFrame:
    """The rows a gate looks at: the median latency and the throughput; the twin is no candidate."""
    return table[(table["primary"] | (table["metric"] == THROUGHPUT)) & ~table["twin"].astype(bool)]


def slower(table: pd.DataFrame, floors: Floors, rules: Rules) -> pd.DataFrame:
    """The gated rows that fail: interval wholly on the worse side of 1, and both floors reached."""
    rows = gated(table)
    return rows[[_fails(row, floors, rules) for row in rows.to_dict("records")]]


def _fails(row: dict[Any, Any], floors: Floors, rules: Rules) -> bool:
    if row["verdict"] in (Verdict.INVALID, Verdict.NOISY):
        return False
    if row["metric"] == THROUGHPUT:
        surely, floor = row["high"] < 1.0, floors.per_s
    else:
        surely, floor = row["low"] > 1.0, floors.ms
    share = rules.delta(row["metric"]) if floors.share is None else floors.share
    return bool(surely and abs(row["ratio"] - 1.0) >= share and abs(row["difference"]) >= floor)


def doubts(table: pd.DataFrame) -> list[str]:
    """Why a gate could not pass these rows honestly; empty when it can.

    Withheld or invalid verdicts, blocks lost to trials that are not ok, and fewer than 6 blocks: so few can
    hide what the gate is there to find. An inconclusive row of enough blocks is no doubt, only no proof.
    """
    return [said for row in gated(table).to_dict("records") if (said := _doubt(row))]


def _doubt(row: dict[Any, Any]) -> str:
    where = f"{row['arm']} at {row['load']}, {_short(row)}"
    if row["verdict"] in (Verdict.INVALID, Verdict.NOISY) or LOST in row["reason"]:
        return f"{where}: {row['reason'] or row['verdict']}"
    if row["blocks"] < FEWEST_BLOCKS:
        return f"{where}: {row['blocks']} blocks are too few, it takes {FEWEST_BLOCKS}"
    return ""


def _short(row: dict[Any, Any]) -> str:
    return f"{row['stat']} {row['metric']}"


# -- one row -------------------------------------------------------------------------------------------


class _Cell(NamedTuple):
    """One arm under one load, without the blocks left out."""

    name: str
    rows: pd.DataFrame  # requests of the ok trials, every phase
    trials: pd.DataFrame  # all of them
    invalid: str

    @property
    def blocks(self) -> set[int]:
        return {int(block) for block in self.trials.loc[self.trials["state"] == OK, "block"]}

    def lost(self) -> str:
        """Which blocks do not count on account of this arm, and why; "" when all do."""
        bad = self.trials[self.trials["state"] != OK]
        if bad.empty:
            return ""
        tried = self.trials["block"].nunique()
        return f"{len(bad)} of {tried} {LOST} of {self.name}: {bad['error'].iloc[0]}"


LOST = "blocks lost to trials"


class _Pair(NamedTuple):
    load: str
    arm: _Cell
    reference: _Cell
    paired: bool
    twin: bool

    def counted(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Each side's requests, of the blocks that count."""
        if not self.paired:
            return self.arm.rows, self.reference.rows
        common = self.arm.blocks & self.reference.blocks
        arm, reference = (
            cell.rows[cell.rows["block"].isin(list(common))] for cell in (self.arm, self.reference)
        )
        return arm, reference

    def reasons(self) -> list[str]:
        """What is to be known of this comparison beside its figures."""
        sides = (self.arm, self.reference)
        return [said for cell in sides for said in (cell.invalid, cell.lost()) if said]

    def invalid(self) -> str:
        return self.arm.invalid or self.reference.invalid


class _Found(NamedTuple):
    effect: Effect
    arm: float
    reference: float
    blocks: tuple[int, int]  # of the arm, of the reference
    trouble: str = ""  # why there can be no effect


def _table(pairs: Sequence[_Pair], rules: Rules, withheld: str) -> pd.DataFrame:
    rows = [row for pair in pairs for metric in METRICS for row in _row(pair, metric, rules)]
    _adjust(rows)
    _withhold(rows, withheld or _twin_differs(rows, rules))
    for row in rows:
        row["sentence"] = _sentence(row, rules)
    return pd.DataFrame(rows, columns=COLUMNS)


def _row(pair: _Pair, metric: Metric, rules: Rules) -> Iterator[dict[str, Any]]:
    """One row, or none where the metric has nothing to say at this load."""
    found = _find(pair, metric, rules.level)
    if found is None:
        return
    invalid = pair.invalid() or found.trouble
    effect, delta = found.effect, rules.delta(metric.name)
    verdict = stats.verdict(
        effect, delta, lower_is_better=metric.lower_is_better, invalid=bool(invalid), noisy=False
    )
    yield {
        "load": pair.load,
        "arm": pair.arm.name,
        "reference": pair.reference.name,
        "metric": metric.name,
        "stat": metric.stat,
        "primary": metric.primary,
        "twin": pair.twin,
        "arm_value": found.arm,
        "reference_value": found.reference,
        "difference": found.arm - found.reference,
        "ratio": effect.ratio,
        "low": effect.low,
        "high": effect.high,
        "level": effect.level,
        "blocks": effect.blocks,
        "p": math.nan if invalid else effect.p,  # what is invalid belongs to no family of tests
        "lag1": effect.lag1,
        "drifts": effect.drifts,
        "blocks_needed": _needed(effect, delta) if verdict == Verdict.INCONCLUSIVE else math.nan,
        "verdict": verdict,
        "reason": "; ".join(filter(None, [*pair.reasons(), found.trouble, _drift(effect)])),
        "_metric": metric,
        "_found": found,
    }


def _find(pair: _Pair, metric: Metric, level: float) -> _Found | None:
    if metric.open_only and pair.load.startswith("closed("):
        return None
    if metric.tail is not None:
        return _find_tail(pair, metric.tail, level)
    arm, reference = (_by_block(rows, metric) for rows in pair.counted())
    if metric.optional:
        return _find_optional(pair, arm, reference, level)
    return _find_middle(pair, arm, reference, level)


def _find_optional(
    pair: _Pair, arm: pd.Series[float], reference: pd.Series[float], level: float
) -> _Found | None:
    """A server of somebody else may tell no parts, and a wait that is zero has no ratio."""
    sides = (arm, reference)
    if any(side.empty or not side.between(0, math.inf, inclusive="neither").all() for side in sides):
        return None
    return _find_middle(pair, arm, reference, level)


def _find_middle(pair: _Pair, arm: pd.Series[float], reference: pd.Series[float], level: float) -> _Found:
    """By one figure a block; an infinite or a zero one makes an interval impossible, and is said."""
    blocks = (len(arm), len(reference))
    troubles = [_trouble(cell.name, side) for cell, side in ((pair.arm, arm), (pair.reference, reference))]
    trouble = next(filter(None, troubles), "")
    if not min(blocks):
        trouble = f"there is no block in which both have a good trial{_why_none(pair)}"
    if trouble:
        return _Found(unknown(min(blocks), level), math.nan, math.nan, blocks, trouble)
    log_arm, log_reference = (np.log(np.asarray(side, dtype=np.float64)) for side in (arm, reference))
    effect = (
        stats.effect(log_arm - log_reference, level=level)
        if pair.paired
        else unpaired_effect(log_arm, log_reference, level=level)
    )
    return _Found(effect, math.exp(log_arm.mean()), math.exp(log_reference.mean()), blocks)


def _why_none(pair: _Pair) -> str:
    return "" if not pair.paired or pair.reasons() else ", as they ran in different blocks"


def _trouble(name: str, figures: pd.Series[float]) -> str:
    endless, none = int(np.isinf(figures).sum()), int((figures <= 0).sum())
    if endless:
        return f"more than half of {name}'s requests got no good answer in {endless} of {len(figures)} blocks"
    return f"{name} gave no good answer within the window in {none} of {len(figures)} blocks" if none else ""


def _by_block(rows: pd.DataFrame, metric: Metric) -> pd.Series[float]:
    """The metric's figure of each block, in block order; blocks without one are absent."""
    if metric.name == THROUGHPUT:
        blocks = rows.groupby("trial")["block"].first()
        return analysis.throughput(rows).groupby(blocks).mean().dropna()
    figures = {
        block: analysis.statistic(group, metric.name, metric.stat)
        for block, group in analysis.measured(rows).groupby("block")
    }
    return pd.Series(figures, dtype="float64").dropna()


def _find_tail(pair: _Pair, percent: int, level: float) -> _Found | None:
    """None where a side has too few requests for this percentile; a failure counts as the slowest answer."""
    arm, reference = (_latencies(rows) for rows in pair.counted())
    if min(sum(map(len, side)) for side in (arm, reference)) < stats.FEWEST_REQUESTS[percent]:
        return None
    compared = stats.tail_effect if pair.paired else unpaired_tail_effect
    effect = compared(arm, reference, percent, level=level, seed=SEED)
    values = [analysis.percentile(np.concatenate(side), percent) for side in (arm, reference)]
    endless = [
        cell.name for cell, value in zip((pair.arm, pair.reference), values, strict=True) if value == math.inf
    ]
    trouble = (
        f"so many of {endless[0]}'s requests got no good answer that it has no p{percent}" if endless else ""
    )
    return _Found(effect, values[0], values[1], (len(arm), len(reference)), trouble)


def _latencies(rows: pd.DataFrame) -> list[Floats]:
    window = analysis.measured(rows)
    ranked = window[LATENCY].where(window["ok"], math.inf)
    return [np.asarray(block, dtype=np.float64) for _, block in ranked.groupby(window["block"])]


def _needed(effect: Effect, delta: float) -> float:
    """Blocks that give a verdict whatever the effect is: a half width of δ / 2.

    Then an estimate beyond δ / 2 excludes 0, and any other lies with its interval inside ±δ. Of a tail there
    is no spread per block: its width shrinks with the root of the blocks.
    """
    if math.isfinite(effect.spread):
        return float(max(FEWEST_BLOCKS, stats.blocks_needed(effect.spread, delta / 2, level=effect.level)))
    if effect.blocks < 2 or not 0 < effect.low <= effect.high < math.inf:
        return math.nan
    half_width = math.log(effect.high / effect.low) / 2
    return float(max(FEWEST_BLOCKS, math.ceil(effect.blocks * (half_width / math.log1p(delta / 2)) ** 2)))


def _drift(effect: Effect) -> str:
    if not effect.drifts:
        return ""
    return f"neighbouring blocks resemble each other (lag-1 {effect.lag1:.2f}): the interval is too narrow"


# -- families of tests, and the twin -------------------------------------------------------------------


def _adjust(rows: list[dict[str, Any]]) -> None:
    """Holm, in each family apart: see `arms`."""
    families: dict[tuple[str, bool], list[dict[str, Any]]] = {}
    for row in rows:
        row["p_holm"] = row["p"]
        if row["twin"] or not row["primary"]:
            families.setdefault((row["arm"], row["primary"]), []).append(row)
    for family in families.values():
        for row, adjusted in zip(family, stats.holm([row["p"] for row in family]), strict=True):
            row["p_holm"] = float(adjusted)


def _twin_differs(rows: list[dict[str, Any]], rules: Rules) -> str:
    """The sentence that says so, of the load where it differs most; "" when the session was quiet."""
    seen = [row for row in rows if row["twin"] and row["primary"]]
    beyond = [row for row in seen if _size(row["ratio"]) > rules.delta_latency and row["p_holm"] < ALPHA]
    if not beyond:
        return ""
    worst = max(beyond, key=lambda row: float(_size(row["ratio"])))
    way = "slower" if worst["ratio"] > 1 else "faster"
    return (
        f"The session is noisy: the twin of {worst['reference']}, which is the same code run again, is "
        f"{100 * float(_size(worst['ratio'])):.1f} % {way} at {worst['load']} (p = {worst['p_holm']:.2g}, "
        f"Holm over {_counted(len(seen), 'load')}), and {100 * rules.delta_latency:g} % is what counts as "
        "different. No verdict is given: close other programs, use a quieter machine, or run more blocks "
        "(--blocks)."
    )


def _withhold(rows: list[dict[str, Any]], why: str) -> None:
    for row in rows:
        if why and row["verdict"] != Verdict.INVALID:
            row |= {"verdict": Verdict.NOISY, "reason": why, "blocks_needed": math.nan}


def _twins(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["twin"].astype(bool) & table["primary"].astype(bool)]


def _size(ratio: Any) -> Any:
    """How far a ratio, or a column of them, is from 1, whichever way: 1 / 1.05 is as far as 1.05."""
    return np.exp(np.abs(np.log(ratio))) - 1.0


# -- the sentence --------------------------------------------------------------------------------------


def _sentence(row: dict[str, Any], rules: Rules) -> str:
    metric: Metric = row["_metric"]
    if row["verdict"] == Verdict.INVALID:
        what = f"{row['arm']} against {row['reference']} at {row['load']}, {metric.stat} {metric.name}"
        return f"{what}: invalid, as {row['reason']}."
    said = metric.phrase.format(arm=row["arm"], ratio=_ratio(row["ratio"]), reference=row["reference"])
    values = (
        f"{_number(row['arm_value'])} against {_number(row['reference_value'])} {metric.unit} "
        f"({_number(row['difference'], sign='+')} {metric.unit})"
    )
    return f"{said} at {row['load']}: {values}, {_interval(row)}, {_blocks(row)}: {_ending(row, rules)}."


def _interval(row: dict[str, Any]) -> str:
    if math.isnan(row["low"]) or math.isnan(row["high"]):
        return "no interval from so few blocks"
    return f"{100 * row['level']:g} % interval of the ratio {_ratio(row['low'])} to {_ratio(row['high'])}"


def _blocks(row: dict[str, Any]) -> str:
    arm, reference = row["_found"].blocks
    if arm == reference:
        return f"n = {_counted(arm, 'block')}"
    return f"n = {arm} and {_counted(reference, 'block')}"


def _ending(row: dict[str, Any], rules: Rules) -> str:
    verdict, effect = row["verdict"], row["_found"].effect
    if verdict == Verdict.EQUIVALENT:
        delta = 100 * rules.delta(row["metric"])
        inside = f"90 % interval {_ratio(effect.low_90)} to {_ratio(effect.high_90)}"
        return f"equivalent within {delta:g} % ({inside})"
    if verdict == Verdict.NOISY:
        return "noisy session, no verdict"
    if verdict == Verdict.INCONCLUSIVE and not math.isnan(row["blocks_needed"]):
        return f"inconclusive, it would take about {row['blocks_needed']:.0f} blocks"
    return str(verdict)


def _ratio(value: float) -> str:
    """Three decimals near 1, where two would hide on which side of it a bound lies."""
    return f"{value:.3f}" if 0.9 < value < 1.1 else f"{value:.2f}"


def _number(value: float, *, sign: str = "") -> str:
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 10 else 2
    return f"{value:{sign}.{digits}f}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _natural(load: str) -> tuple[str, list[float]]:
    """Sorts closed(8) before closed(16)."""
    return load.partition("(")[0], [float(number) for number in re.findall(r"\d+(?:\.\d+)?", load)]


# -- blocks that are not paired ------------------------------------------------------------------------


def unknown(blocks: int, level: float, ratio: float = math.nan) -> Effect:
    """An effect of which nothing is known but how many blocks there were."""
    nan = math.nan
    return Effect(ratio, nan, nan, nan, nan, level, blocks, nan, nan, nan, drifts=False)


def unpaired_effect(log_a: npt.ArrayLike, log_b: npt.ArrayLike, *, level: float = stats.LEVEL) -> Effect:
    """a over b from the log figures of the blocks of two runs, each in block order: Welch's t interval.

    `blocks` is the smaller number of the two, `spread` that of a difference of two single blocks. p: of a
    permutation of the blocks between the runs by Welch's t (exact when few), since signs cannot be flipped
    where nothing is paired. lag1 is that of the run which drifts more: within a run it narrows the interval
    as it does in a pair.
    """
    a, b = np.asarray(log_a, dtype=np.float64), np.asarray(log_b, dtype=np.float64)
    blocks = min(len(a), len(b))
    difference = float(a.mean() - b.mean()) if blocks else math.nan
    if blocks < 2:
        return unknown(blocks, level, math.exp(difference))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all blocks alike: an interval of no width is meant
        tested = scipy.stats.ttest_ind(a, b, equal_var=False)
        bounds, bounds_90 = (tested.confidence_interval(share) for share in (level, 0.90))
    within = [stats.effect(run - run.mean(), level=level) for run in (a, b)]
    more = max(within, key=lambda run: -math.inf if math.isnan(run.lag1) else run.lag1)
    return Effect(
        ratio=math.exp(difference),
        low=math.exp(bounds.low),
        high=math.exp(bounds.high),
        low_90=math.exp(bounds_90.low),
        high_90=math.exp(bounds_90.high),
        level=level,
        blocks=blocks,
        spread=math.hypot(a.std(ddof=1), b.std(ddof=1)),
        p=_permutation_p(a, b),
        lag1=more.lag1,
        drifts=any(run.drifts for run in within),
    )


def _permutation_p(a: Floats, b: Floats) -> float:
    tested = scipy.stats.permutation_test(
        (a, b), _welch_t, vectorized=True, n_resamples=PERMUTATIONS, rng=np.random.default_rng(SEED)
    )
    return float(tested.pvalue)


def _welch_t(a: Floats, b: Floats, axis: int = -1) -> Floats:
    """Welch's t; the sign of the difference times infinity where nothing varies, 0 where nothing differs."""
    difference = a.mean(axis=axis) - b.mean(axis=axis)
    squared = sum(side.var(axis=axis, ddof=1) / side.shape[axis] for side in (a, b))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(difference / np.sqrt(squared), nan=0.0, posinf=np.inf, neginf=-np.inf)


def unpaired_tail_effect(
    arm: Sequence[Floats],
    reference: Sequence[Floats],
    percent: float,
    *,
    level: float = stats.LEVEL,
    seed: int = SEED,
) -> Effect:
    """Ratio of the percentiles of two runs' pooled blocks; the blocks of each are resampled independently.

    The interval is the bootstrap's percentiles, pushed out to what t and the n - 1 of so few blocks ask for
    (Hesterberg 2015, "expanded percentile"): the plain ones are too narrow. p: of a permutation of the
    blocks between the runs. `spread` and `lag1` are NaN: a tail has no figure per block.
    """
    blocks = min(len(arm), len(reference))
    ratio = _quotient(*(analysis.percentile(np.concatenate(side), percent) for side in (arm, reference)))
    if blocks < 2 or not 0 < ratio < math.inf:
        return unknown(blocks, level, ratio)
    rng = np.random.default_rng(seed)
    drawn = [_resampled(side, percent, _draws(len(side), rng)) for side in (arm, reference)]
    ratios = np.asarray([_quotient(a, b) for a, b in zip(*drawn, strict=True)], dtype=np.float64)
    low, high = _expanded(ratios, blocks, level)
    low_90, high_90 = _expanded(ratios, blocks, 0.90)
    p = _exchanged_p(arm, reference, percent, ratio, rng)
    return Effect(ratio, low, high, low_90, high_90, level, blocks, math.nan, p, math.nan, drifts=False)


def _quotient(a: float, b: float) -> float:
    """a / b of latencies, which failures make infinite: two infinite ones are alike."""
    return 1.0 if a == b else math.inf if b == 0 else a / b


def _draws(blocks: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """How often each block is drawn, in each resample."""
    return rng.multinomial(blocks, np.full(blocks, 1.0 / blocks), size=RESAMPLES)


def _expanded(ratios: Floats, blocks: int, level: float) -> tuple[float, float]:
    t = scipy.stats.t.ppf((1 + level) / 2, blocks - 1) * math.sqrt(blocks / (blocks - 1))
    outside = 100 * float(scipy.stats.norm.cdf(-t))
    return analysis.percentile(ratios, outside), analysis.percentile(ratios, 100 - outside)


def _exchanged_p(
    arm: Sequence[Floats], reference: Sequence[Floats], percent: float, ratio: float, rng: np.random.Generator
) -> float:
    """Two-sided: how often blocks dealt to two runs by chance differ by as much."""
    together = [*arm, *reference]
    deal = np.tile(np.arange(len(together)) < len(arm), (RESAMPLES - 1, 1))
    dealt = rng.permuted(deal, axis=1).astype(np.int64)
    sides = (_resampled(together, percent, counts) for counts in (dealt, 1 - dealt))
    sizes = [abs(math.log(_quotient(a, b))) if a and b else math.inf for a, b in zip(*sides, strict=True)]
    return float(1 + sum(size >= abs(math.log(ratio)) - 1e-12 for size in sizes)) / RESAMPLES


def _resampled(blocks: Sequence[Floats], percent: float, draws: npt.NDArray[np.int64]) -> list[float]:
    """The pooled percentile of each resample. Sorted once: a resample only says how often each value counts."""
    values = np.concatenate(blocks)
    order = np.argsort(values)
    owners = np.repeat(np.arange(len(blocks)), [len(block) for block in blocks])[order]
    ordered = values[order]
    return [_weighted_percentile(ordered, counts[owners], percent) for counts in draws]


def _weighted_percentile(ordered: Floats, counts: npt.NDArray[np.int64], percent: float) -> float:
    """analysis.percentile of the values, each repeated `counts` times."""
    reached = np.cumsum(counts)
    place = (int(reached[-1]) - 1) * percent / 100
    at = np.searchsorted(reached, [math.floor(place), math.ceil(place)], side="right")
    below, above = float(ordered[at[0]]), float(ordered[at[1]])
    return below if below == above else below + (above - below) * (place % 1)
