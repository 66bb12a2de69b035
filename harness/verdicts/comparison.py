"""Arms compared, of one run or of two: a row per arm, load and metric, led by a sentence.

Pure: frames in, frames out, no disk. A block counts when both arms have an ok trial in it; trials that
failed or are invalid never count, and the row says how many blocks that cost. Ratios are arm over reference.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from harness.analysis import saturation, stats, summaries, unpaired
from harness.analysis.stats import ALPHA, FEWEST_BLOCKS, Effect, Pool, Verdict
from harness.analysis.summaries import LATENCY, THROUGHPUT
from harness.wire.records import OK, PILOT_BLOCK, TWIN_SUFFIX

Invalid = Mapping[tuple[str, str], str]  # (arm, load) → why the instrument was not fit there

FASTER = (Verdict.FASTER, Verdict.FASTER_SIZE_UNCERTAIN)
SLOWER = (Verdict.SLOWER, Verdict.SLOWER_SIZE_UNCERTAIN)
DIFFERENT = (*FASTER, *SLOWER)
LOST = "trials do not count"  # in a reason: so many of an arm's trials failed or were invalid

COLUMNS = [
    "load",
    "arm",
    "reference",
    "metric",
    "stat",  # median, p95, p99; rate (of throughput)
    "primary",  # the one metric judged by its interval alone; of the others Holm's correction decides too
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
    "blocks_least",  # to run, until the interval is as narrow as δ; of inconclusive rows only
    "blocks_most",
    "verdict",
    "why",  # of inconclusive verdicts and of uncertain sizes
    "reason",  # what else has to be known
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

    arms: tuple[str, ...]  # in the plan's order, without the twin
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
        arms=tuple(planned),
        reference=reference,
        twin=twin_name(reference) if plan.get("twin") else None,
        rules=rules,
        exclude=plan.get("exclude") or {},
    )


def twin_name(reference: str) -> str:
    """How the second run of the reference arm is called."""
    return f"{reference}{TWIN_SUFFIX}"


class Metric(NamedTuple):
    """One thing compared. `label` is its name, `phrase` how its sentence begins."""

    name: str
    stat: str  # one of analysis.STATS; "rate" of throughput, which has one figure a trial
    label: str
    phrase: str = ""
    primary: bool = False
    open_only: bool = False  # in a closed loop it is the latency again
    optional: bool = False  # left out where a side lacks it, or has zeros

    @property
    def lower_is_better(self) -> bool:
        return self.name != THROUGHPUT

    @property
    def waits(self) -> bool:
        """It has the wait for the others in it, which grows as long as more comes than is answered."""
        return self.name in (LATENCY, "service_ms", "queue_ms")

    @property
    def is_seen_by_client(self) -> bool:
        """The load generator's own work is in it."""
        return self.name in (LATENCY, "service_ms", THROUGHPUT)

    @property
    def tail(self) -> int | None:
        """95 or 99; None of what is compared by one figure a block."""
        return int(self.stat[1:]) if self.stat.startswith("p") else None


_LONG = "{arm} takes {ratio}x as long as {reference} to answer"
_MANY = "{arm} answers {ratio}x as many requests a second as {reference}"

METRICS = (
    Metric(LATENCY, "median", "median latency", _LONG, primary=True),
    Metric(THROUGHPUT, "rate", "throughput", _MANY),
    Metric(LATENCY, "p95", "p95 latency"),
    Metric(LATENCY, "p99", "p99 latency"),
    Metric("service_ms", "median", "median service time", open_only=True),
    Metric("queue_ms", "median", "median queue wait", optional=True),
    Metric("model_ms", "median", "median model time", optional=True),
    Metric("io_ms", "median", "median I/O", optional=True),
)

NEEDED = list(  # of a request
    dict.fromkeys([*summaries.THROUGHPUT_COLUMNS, "status", *(one.name for one in METRICS)])
)
NEEDED.remove(THROUGHPUT)


def unit(metric: str) -> str:
    """In what a row's values are."""
    return "requests/s" if metric == THROUGHPUT else "ms"


def label(metric: str, stat: str) -> str:
    """How people call a row's metric, such as "p95 latency"."""
    return next(known.label for known in METRICS if (known.name, known.stat) == (metric, stat))


# -- the two comparisons -------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Side:
    """One run, or what counts of it. `label` is its name in the sentences of `runs`."""

    derived: pd.DataFrame  # analysis.derive
    trials: pd.DataFrame
    label: str = ""
    excluded: Collection[int] = ()  # blocks left out by criteria fixed before the run
    invalid: Invalid = dataclasses.field(default_factory=dict)
    limited: Invalid = dataclasses.field(default_factory=dict)  # … why the client could do no more

    def arms(self) -> list[str]:
        """Those that have a trial, in the order of ordered categories, else as they appear."""
        known = self.derived["arm"]
        kind = known.dtype
        ordered = list(kind.categories) if isinstance(kind, pd.CategoricalDtype) and kind.ordered else []
        tried = dict.fromkeys(self._counted()["arm"].astype(str))
        return [arm for arm in dict.fromkeys([*ordered, *tried]) if arm in tried]

    def loads(self, arm: str) -> list[str]:
        """Those that the arm was run at, the lightest of each law first."""
        its = self._counted()
        return sorted(set(its.loc[its["arm"] == arm, "load"].astype(str)), key=_natural)

    def cell(self, arm: str, load: str) -> _Cell:
        rows = self._cells.select((arm, load), NEEDED)
        rows = rows[(rows["trial_state"] == OK) & ~rows["block"].isin(list(self.excluded))]
        its = self._counted()
        trials = its[(its["arm"] == arm) & (its["load"] == load) & ~its["block"].isin(list(self.excluded))]
        name = f"{self.label}:{arm}" if self.label else arm
        invalid, limited = (known.get((arm, load), "") for known in (self.invalid, self.limited))
        return _Cell(name, rows, trials, invalid, limited)

    @property
    def counted(self) -> float:
        """The share of the blocks that are not excluded; 1 where there is none."""
        blocks = set(self._counted()["block"])
        return len(blocks - set(self.excluded)) / len(blocks) if blocks else 1.0

    @cached_property
    def _cells(self) -> summaries.Cells:
        return summaries.Cells(self.derived)

    def _counted(self) -> pd.DataFrame:
        return self.trials[self.trials["block"] > PILOT_BLOCK]


def arms(
    side: Side,
    *,
    reference: str,
    twin: str | None = None,
    rules: Rules = Rules(),
    only: Collection[str] | None = None,
    withheld: str = "",
) -> pd.DataFrame:
    """Every other arm of a run (or `only` these) against `reference`, at every load that both were run at.

    Returns `COLUMNS`, in the order of loads within arms. Blocks are paired: the unit is the log ratio of a
    block's two figures. p_holm: of one arm's rows that are not primary, all loads together, one family; a
    primary row is a claim of its own and keeps its p, but the twin's primary rows are one family over loads.
    A row that is not primary is faster or slower only where p_holm < 0.05, and else inconclusive, as its
    "why" says so. Equivalence stays. Where the client could do no more, the arm is at least as good as it
    looks: a verdict that this could turn is "limited by the client". An open load that either side could not
    take is called saturated.
    When the twin differs (primary effect beyond δ and p_holm < 0.05 at any load), or `withheld` gives a
    reason, every verdict but "invalid" is "noisy session". No arm and load is dropped silently: without
    a common block its rows say so and are "invalid".
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
        min(before.counted, after.counted),
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


def twin_doubt(table: pd.DataFrame, twin: str | None) -> str:
    """Why a twin that was asked for could not have shown a noisy session; "" when it could, or was not asked.

    No verdict is withheld for that: it is not known that the session was noisy.
    """
    if twin is None:
        return ""
    seen = _twins(table)
    told = seen[np.isfinite(seen["ratio"].astype(float)) & seen["p"].notna()]
    if told.empty:
        return f"The twin could not tell: {twin} has no comparison with a finite ratio."
    most = int(told["blocks"].max())
    if most >= FEWEST_BLOCKS:
        return ""
    return (
        f"The twin could not tell: it has {_counted(most, 'block')}, and a difference takes {FEWEST_BLOCKS}, "
        "so a noisy session would look quiet. Run more blocks (--blocks)."
    )


# -- one row -------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class _Cell:
    """One arm under one load, without the blocks left out. What is found of it is kept for the next pair."""

    name: str
    rows: pd.DataFrame  # requests of the ok trials, every phase
    trials: pd.DataFrame  # all of them
    invalid: str
    limited: str  # why its throughput is a lower bound, and its latency an upper one
    _figures: dict[Metric, pd.Series[float]] = dataclasses.field(default_factory=dict)
    _pools: dict[frozenset[int], Pool] = dataclasses.field(default_factory=dict)

    @cached_property
    def blocks(self) -> frozenset[int]:
        return frozenset(int(block) for block in self.trials.loc[self.trials["state"] == OK, "block"])

    @cached_property
    def answered(self) -> frozenset[int]:
        """Blocks that have a request."""
        return frozenset(map(int, self.rows["block"].unique()))

    @cached_property
    def lost(self) -> str:
        """How many blocks do not count on account of this arm, and why; "" when all do."""
        bad = self.trials[self.trials["state"] != OK]
        if bad.empty:
            return ""
        return f"{len(bad)} of {len(self.trials)} of {self.name}'s {LOST}: {bad['error'].iloc[0]}"

    @cached_property
    def saturated(self) -> bool:
        """Under an open load that it could not take."""
        return bool(saturation.per_cell(self.rows, self.trials)["saturated"].any())

    def by_block(self, metric: Metric) -> pd.Series[float]:
        """The metric's figure of each block, in block order; blocks without one are absent."""
        if metric not in self._figures:
            self._figures[metric] = self._by_block(metric)
        return self._figures[metric]

    def latencies(self, blocks: frozenset[int]) -> Pool:
        """Of the measured requests of these blocks; a failure counts as the slowest answer of all."""
        if blocks not in self._pools:
            window = self._window[self._window["block"].isin(list(blocks))]
            ranked = window[LATENCY].where(window["ok"], math.inf)
            found = [np.asarray(block, dtype=np.float64) for _, block in ranked.groupby(window["block"])]
            self._pools[blocks] = Pool(found)
        return self._pools[blocks]

    def _by_block(self, metric: Metric) -> pd.Series[float]:
        if metric.name != THROUGHPUT:
            return summaries.block_statistic(self._window, metric.name, metric.stat)
        blocks = self.rows.groupby("trial")["block"].first()
        return summaries.throughput(self.rows).groupby(blocks).mean().dropna()

    @cached_property
    def _window(self) -> pd.DataFrame:
        return summaries.measured(self.rows)


class _Pair(NamedTuple):
    load: str
    arm: _Cell
    reference: _Cell
    paired: bool
    twin: bool

    @property
    def sides(self) -> tuple[_Cell, _Cell]:
        return self.arm, self.reference

    def saturated(self, metric: Metric) -> str:
        """Who could not take the load, and what that means for a ratio; "" when both could."""
        who = " and ".join(cell.name for cell in self.sides if cell.saturated)
        if not who:
            return ""
        return (
            f"{who} saturated: the ratio grows with the window's length"
            if metric.waits
            else f"{who} saturated"
        )

    def counted(self) -> list[frozenset[int]]:
        """Each side's blocks that count, of those that have a request."""
        if not self.paired:
            return [cell.answered for cell in self.sides]
        common = self.arm.blocks & self.reference.blocks
        return [cell.answered & common for cell in self.sides]

    def invalid(self) -> str:
        """Why no figure of this comparison is worth anything; "" when they are."""
        gate = [f"{cell.name}: {cell.invalid}" for cell in self.sides if cell.invalid]
        lost = [cell.lost for cell in self.sides if cell.lost]
        if gate:
            return "; ".join([*gate, *lost])
        if all(self.counted()):
            return ""
        return "; ".join(["there is no block in which both have a good trial", *lost])


class _Found(NamedTuple):
    """What one metric says of a pair."""

    effect: Effect
    values: tuple[float, float]  # of the arm, of the reference
    blocks: tuple[int, int]
    trouble: str = ""  # why there is no finite ratio


def _table(pairs: Iterable[_Pair], rules: Rules, withheld: str, counted: float) -> pd.DataFrame:
    """`counted`: the share of the blocks that are not excluded."""
    rows = [row for pair in pairs for row in _rows(pair, rules)]
    _adjust(rows)
    _let_holm_decide(rows)
    _withhold(rows, withheld or _twin_differs(rows, rules))
    for row in rows:
        row |= {"why": _why(row, rules), **_forecast(row, rules, counted)}
    return pd.DataFrame([row | {"sentence": _sentence(row, rules)} for row in rows], columns=COLUMNS)


def _rows(pair: _Pair, rules: Rules) -> Iterator[dict[str, Any]]:
    """A row for each metric that has something to say at this load; one alone when nothing is valid."""
    invalid = pair.invalid()
    counted = pair.counted()
    for metric in METRICS:
        found = _find(pair, counted, metric, rules.level)
        if found is None and not (invalid and metric.primary):
            continue
        yield _row(pair, metric, found or _NOTHING, invalid, rules)


def _row(pair: _Pair, metric: Metric, found: _Found, invalid: str, rules: Rules) -> dict[str, Any]:
    effect, delta = found.effect, rules.delta(metric.name)
    saturated = "" if invalid else pair.saturated(metric)
    verdict = stats.verdict(
        effect, delta, lower_is_better=metric.lower_is_better, invalid=bool(invalid), noisy=False
    )
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
        "difference": _difference(*found.values),
        "ratio": effect.ratio,
        "low": effect.low,
        "high": effect.high,
        "level": rules.level,
        "blocks": min(found.blocks),
        "p": math.nan if invalid else effect.p,  # what is invalid belongs to no family of tests
        "lag1": effect.lag1,
        "drifts": effect.drifts,
        "verdict": verdict,
        "reason": "; ".join(filter(None, [*known, found.trouble, _drift(effect), saturated])),
        "_metric": metric,
        "_found": found,
        "_saturated": saturated,
        "_limited": "; ".join(f"{cell.name}: {cell.limited}" for cell in pair.sides if cell.limited),
    }


def _may_be_the_clients(verdict: Verdict, pair: _Pair, metric: Metric) -> bool:
    """Whether a client that could do more might turn the verdict: it can only make its arm look worse."""
    arm, reference = (bool(cell.limited) for cell in pair.sides)
    if verdict == Verdict.INVALID or not metric.is_seen_by_client or not (arm or reference):
        return False
    safe = () if arm and reference else FASTER if arm else SLOWER
    return verdict not in safe


def _find(pair: _Pair, counted: list[frozenset[int]], metric: Metric, level: float) -> _Found | None:
    """None where the metric does not apply, or where a side has too little for it."""
    if not all(counted) or (metric.open_only and pair.load.startswith("closed(")):
        return None
    if metric.name == THROUGHPUT and pair.load.startswith("own("):
        return None  # each arm is asked for a share of what it can do itself
    if metric.tail is not None:
        return _find_tail(pair, counted, metric.tail, level)
    return _find_middle(pair, [cell.by_block(metric) for cell in pair.sides], metric, level)


def _find_middle(pair: _Pair, sides: list[pd.Series[float]], metric: Metric, level: float) -> _Found | None:
    """By one figure a block; an infinite or a zero one takes the interval away, and is said."""
    if pair.paired:
        common = sides[0].index.intersection(sides[1].index).sort_values()
        sides = [side.loc[common] for side in sides]
    if metric.optional and not all(len(side) and (side > 0).all() for side in sides):
        return None  # a server of somebody else may tell no parts, and a wait that is zero has no ratio
    if not all(map(len, sides)):
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        arm, reference = (np.log(np.asarray(side, dtype=np.float64)) for side in sides)
        effect = (
            stats.effect(arm - reference, level=level)
            if pair.paired
            else unpaired.effect(arm, reference, level=level)
        )
        values = float(np.exp(arm.mean())), float(np.exp(reference.mean()))
    troubles = [_trouble(cell.name, side) for cell, side in zip(pair.sides, sides, strict=True)]
    return _Found(effect, values, (len(arm), len(reference)), "; ".join(filter(None, troubles)))


def _trouble(name: str, figures: pd.Series[float]) -> str:
    endless, none = int(np.isinf(figures).sum()), int((figures == 0).sum())
    if endless:
        where = f"{endless} of {len(figures)} blocks"
        return f"half of {name}'s requests or more got no good answer in {where}"
    return f"{name} gave no good answer within the window of {none} of {len(figures)} blocks" if none else ""


def _find_tail(pair: _Pair, counted: list[frozenset[int]], percent: int, level: float) -> _Found | None:
    """Of the pooled requests; a failure counts as the slowest answer of all."""
    arm, reference = (cell.latencies(blocks) for cell, blocks in zip(pair.sides, counted, strict=True))
    if min(sum(map(len, side.blocks)) for side in (arm, reference)) < stats.FEWEST_REQUESTS[percent]:
        return None
    effect = (
        stats.tail_effect(arm, reference, percent, level=level)
        if pair.paired
        else unpaired.tail_effect(arm.blocks, reference.blocks, percent, level=level)
    )
    values = [side.whole(percent) for side in (arm, reference)]
    troubles = [
        f"{cell.name} left {100 - percent} % of its requests or more without a good answer"
        for cell, value in zip(pair.sides, values, strict=True)
        if value == math.inf
    ]
    return _Found(
        effect, (values[0], values[1]), (len(arm.blocks), len(reference.blocks)), "; ".join(troubles)
    )


def _difference(arm: float, reference: float) -> float:
    return math.nan if math.isinf(arm) and math.isinf(reference) else arm - reference


def _drift(effect: Effect) -> str:
    if not effect.drifts:
        return ""
    return f"neighbouring blocks resemble each other (lag-1 {effect.lag1:.2f}): the interval is too narrow"


_UNKNOWN = (math.nan,) * 5
_NOTHING = _Found(
    Effect(*_UNKNOWN, stats.LEVEL, 0, math.nan, math.nan, math.nan, drifts=False),
    (math.nan, math.nan),
    (0, 0),
)


# -- families of tests, and the twin -------------------------------------------------------------------


def _adjust(rows: list[dict[str, Any]]) -> None:
    """Holm, in each family apart: see `arms`."""
    families: dict[tuple[str, bool], list[dict[str, Any]]] = {}
    for row in rows:
        row |= {"p_holm": row["p"], "_family": 1}
        if row["twin"] or not row["primary"]:
            families.setdefault((row["arm"], row["primary"]), []).append(row)
    for family in families.values():
        known = sum(not math.isnan(row["p"]) for row in family)
        for row, adjusted in zip(family, stats.holm([row["p"] for row in family]), strict=True):
            row |= {"p_holm": float(adjusted), "_family": known}


def _let_holm_decide(rows: list[dict[str, Any]]) -> None:
    """Rows that are not primary are many, so an interval without 1 is not enough: see `arms`."""
    for row in rows:
        if row["verdict"] in DIFFERENT and not (row["primary"] or row["p_holm"] < ALPHA):
            row["verdict"] = Verdict.INCONCLUSIVE


def _why(row: dict[str, Any], rules: Rules) -> str:
    """What keeps a row from a verdict, or from the size of its difference; "" where nothing does."""
    margin = f"{100 * rules.delta(row['metric']):g} %"
    if row["verdict"] in (Verdict.FASTER_SIZE_UNCERTAIN, Verdict.SLOWER_SIZE_UNCERTAIN):
        return f"the interval touches {margin}"
    if row["verdict"] == Verdict.CLIENT_LIMITED:
        return str(row["_limited"])
    if row["verdict"] != Verdict.INCONCLUSIVE:
        return ""
    if row["blocks"] < FEWEST_BLOCKS:
        return f"{_counted(row['blocks'], 'block')}, and a verdict takes {FEWEST_BLOCKS}"
    if math.isnan(row["low"]) or math.isnan(row["high"]):
        return "there is no interval"
    if row["low"] <= 1 <= row["high"]:
        return f"the interval holds 1 and exceeds ±{margin}"
    if math.isnan(row["p_holm"]):
        return "there is no p"
    return f"p = {row['p_holm']:.2g} after correction for {_counted(row['_family'], 'comparison')}"


def _forecast(row: dict[str, Any], rules: Rules, counted: float) -> dict[str, float]:
    """Blocks to run until the interval is as narrow as δ; NaN beside every verdict, and where not known."""
    least = most = 0
    if row["verdict"] == Verdict.INCONCLUSIVE:
        found, delta = row["_found"].effect, rules.delta(row["metric"])
        least, most = stats.blocks_for_width(found, delta, counted=counted, level=rules.level)
    return {"blocks_least": float(least or math.nan), "blocks_most": float(most or math.nan)}


def _twin_differs(rows: list[dict[str, Any]], rules: Rules) -> str:
    """The sentence that says so, of the load where it differs most; "" when the session was quiet."""
    seen = [row for row in rows if row["twin"] and row["primary"]]
    judged = [row for row in seen if row["blocks"] >= FEWEST_BLOCKS and row["p_holm"] < ALPHA]
    beyond = [row for row in judged if _size(row["ratio"]) > rules.delta_latency]
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
            row |= {"verdict": Verdict.NOISY, "reason": why}


def _twins(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["twin"].astype(bool) & table["primary"].astype(bool)]


def _size(ratio: Any) -> Any:
    """How far a ratio, or a column of them, is from 1, whichever way: 1 / 1.05 is as far as 1.05."""
    return np.exp(np.abs(np.log(ratio))) - 1.0


# -- the sentence --------------------------------------------------------------------------------------


def _sentence(row: dict[str, Any], rules: Rules) -> str:
    metric, found = row["_metric"], row["_found"]
    if row["verdict"] == Verdict.INVALID:
        return f"{_versus(row)}: invalid, as {row['reason']}."
    if found.trouble:
        return f"{_versus(row)}: no ratio, as {found.trouble}, {_blocks(row)}: {_ending(row, rules)}."
    what = unit(metric.name)
    phrase = metric.phrase or f"{{arm}}'s {metric.label} is {{ratio}}x that of {{reference}}"
    said = phrase.format(arm=row["arm"], ratio=_ratio(row["ratio"]), reference=row["reference"])
    values = (
        f"{_number(row['arm_value'])} against {_number(row['reference_value'])} {what} "
        f"({_number(row['difference'], sign='+')} {what})"
    )
    saturated = f"; {row['_saturated']}" if row["_saturated"] else ""
    ending = f"{_ending(row, rules)}{saturated}"
    return f"{said} at {row['load']}: {values}, {_interval(row)}, {_blocks(row)}: {ending}."


def _versus(row: dict[str, Any]) -> str:
    return f"{row['arm']} against {row['reference']} at {row['load']}, {row['_metric'].label}"


def _interval(row: dict[str, Any]) -> str:
    if math.isnan(row["low"]) or math.isnan(row["high"]):
        return "no interval from so few blocks"
    return f"{100 * row['level']:g} % interval of the ratio {_ratio(row['low'])} to {_ratio(row['high'])}"


def _blocks(row: dict[str, Any]) -> str:
    arm, reference = row["_found"].blocks
    return f"n = {_counted(arm, 'block')}" if arm == reference else f"n = {arm} and {reference} blocks"


def _ending(row: dict[str, Any], rules: Rules) -> str:
    verdict, effect = row["verdict"], row["_found"].effect
    if verdict == Verdict.EQUIVALENT:
        delta = 100 * rules.delta(row["metric"])
        inside = f"90 % interval {_ratio(effect.low_90)} to {_ratio(effect.high_90)}"
        return f"equivalent within {delta:g} % ({inside})"
    if verdict == Verdict.NOISY:
        return "noisy session, no verdict"
    said = f"{verdict}: {row['why']}" if row["why"] else str(verdict)
    if math.isnan(row["blocks_most"]):
        return said
    delta = 100 * rules.delta(row["metric"])
    return f"{said}; an interval of ±{delta:g} % would take {_range(row)} blocks"


def _range(row: dict[str, Any]) -> str:
    """Such as "14 to 35"."""
    least, most = int(row["blocks_least"]), int(row["blocks_most"])
    return str(least) if least == most else f"{least} to {most}"


def _ratio(value: float) -> str:
    """Three decimals near 1, where two would hide on which side of it a bound lies."""
    return f"{value:.3f}" if 0.9 < value < 1.1 else f"{value:.2f}"


def _number(value: float, *, sign: str = "") -> str:
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 10 else 2
    return f"{value:{sign}z.{digits}f}"  # z: no -0.00


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _natural(load: str) -> tuple[str, list[float]]:
    """Sorts closed(8) before closed(16)."""
    return load.partition("(")[0], [float(number) for number in re.findall(r"\d+(?:\.\d+)?", load)]
