"""Published claims as data, and what a run says of each: confirmed, refuted, inconclusive or not tested.

`load` reads and validates a packaged file; everything else is pure. A check is a ratio with an interval over
blocks: confirmed when the interval lies wholly inside the check's bounds, refuted when wholly outside, else
inconclusive. Of several combinations ("always") every one must be confirmed, each at the 95 % level, or one
refuted at a level that allows for their number. A noisy session withholds every verdict.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import (
    AfterValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from harness.analysis import stats, summaries
from harness.errors import UsageError
from harness.system import packaged, toml
from harness.wire.options import Frozen, explain
from harness.wire.records import OK

Floats = npt.NDArray[np.float64]

CONFIRMED = "confirmed"
REFUTED = "refuted"
INCONCLUSIVE = "inconclusive"
NOT_TESTED = "not tested"
WITHHELD = "withheld"

TAILS = frozenset(summaries.STATS) - {"mean", "median", "p50"}  # read off the pooled blocks
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


# -- the file ------------------------------------------------------------------------------------------


def _known_metric(name: str) -> str:
    return _one_of(name, summaries.BLOCK_METRICS)


def _known_stat(name: str) -> str:
    return _one_of(name, summaries.STATS)


def _one_of(name: str, known: Iterable[str]) -> str:
    if name not in known:
        raise ValueError(f"'{name}' is none of {', '.join(known)}")
    return name


Metric = Annotated[str, AfterValidator(_known_metric)]
Stat = Annotated[str, AfterValidator(_known_stat)]
Arms = Annotated[tuple[str, ...], Field(min_length=1)]
Concurrencies = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
Milliseconds = Annotated[tuple[float, ...], Field(min_length=1)]


class Lone(Frozen):
    """Where the model and the I/O are alone: in this table of the print, in this arm and load here."""

    table: str
    arm: str
    concurrency: PositiveInt


class Table(Frozen):
    """A printed table: its figures in order, and the arms that repeat it here."""

    id: str
    strategy: str  # as the article names it
    load: str  # what the article says of the load
    arms: Arms
    concurrency: PositiveInt  # at which ours is shown
    model_ms: Milliseconds
    io_ms: Milliseconds
    gap_before_last: bool = False  # the print skips rows there
    find_load: bool = False  # ask at which concurrency the printed Model is met here
    note: str = ""


class Reference(Frozen):
    """What a check divides by. What is left out is taken from the check itself."""

    metric: Metric | None = None
    stat: Stat | None = None
    arms: Arms | None = None
    concurrencies: Concurrencies | None = None  # left out: at equal concurrency


class Check(Frozen):
    """Bounds on a figure, or on its ratio to another, that must hold for every combination."""

    name: str
    metric: Metric
    stat: Stat = "median"
    arms: Arms
    concurrencies: Concurrencies
    versus: Reference | None = None
    at_least: PositiveFloat | None = None
    at_most: PositiveFloat | None = None
    published: float | None = None  # the article's figure for the same thing
    decides: bool = True  # or only shown beside the verdict
    condition: str  # under which the verdict is meant

    @model_validator(mode="after")
    def _is_bounded(self) -> Check:
        if self.at_least is None and self.at_most is None:
            raise ValueError("a check needs at_least or at_most")
        return self

    @model_validator(mode="after")
    def _compares_a_tail_with_a_percentile(self) -> Check:
        versus = self.versus or Reference()
        tails = {self.stat, versus.stat or self.stat} & TAILS
        if tails and summaries.THROUGHPUT in (self.metric, versus.metric):
            raise ValueError(f"throughput has one figure a trial, so it has no {min(tails)}")
        if tails and "mean" in (self.stat, versus.stat):
            raise ValueError(f"{min(tails)} is compared with a percentile, not with a mean")
        return self


class Claim(Frozen):
    """What somebody published, in our words, and how it is judged."""

    id: str
    text: str
    stated: str  # the published number, as stated
    checks: Annotated[tuple[Check, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _is_decidable(self) -> Claim:
        if not any(check.decides for check in self.checks):
            raise ValueError("no check decides this claim")
        return self


class Claims(Frozen):
    """A whole file of `harness/data/claims`."""

    source: str
    law: str  # only loads of this arrival law are judged
    lone: Lone
    tables: Annotated[tuple[Table, ...], Field(min_length=1)]
    claims: Annotated[tuple[Claim, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _has_unique_ids(self) -> Claims:
        for ids in ([claim.id for claim in self.claims], [table.id for table in self.tables]):
            if len(set(ids)) < len(ids):
                raise ValueError(f"an id is used twice: {', '.join(ids)}")
        return self

    @model_validator(mode="after")
    def _has_its_lone_table(self) -> Claims:
        if self.lone.table not in [table.id for table in self.tables]:
            raise ValueError(f"lone.table: there is no table '{self.lone.table}'")
        return self

    @property
    def lone_table(self) -> Table:
        """The printed table of a single call."""
        return next(table for table in self.tables if table.id == self.lone.table)


def load(name: str) -> Claims:
    """The packaged claims file of this name; UsageError when there is none or a key in it is wrong."""
    return parse(packaged.read("claims", name), origin=f"{name}.toml")


def parse(text: str, *, origin: str) -> Claims:
    """Claims from TOML; UsageError names `origin` and the key that is wrong."""
    try:
        return Claims.model_validate(toml.parse(text, origin, "claims"))
    except ValidationError as error:
        raise UsageError(f"{origin}: {explain(error)}", stage="claims") from error


# -- the verdicts --------------------------------------------------------------------------------------


class _Cells:
    """The requests of a run by arm and concurrency: found once, and what is read of them kept."""

    def __init__(self, derived: pd.DataFrame) -> None:
        self._cells = summaries.Cells(derived, ("arm", "concurrency"))
        self._per_block: dict[_Figure, pd.Series[float]] = {}
        self._pools: dict[tuple[str, int, str, tuple[int, ...]], stats.Pool] = {}

    def per_block(self, figure: _Figure) -> pd.Series[float]:
        """In block order."""
        if figure not in self._per_block:
            found = summaries.per_block(
                self._of(figure), figure.arm, figure.concurrency, figure.metric, figure.stat
            )
            self._per_block[figure] = found.sort_index()
        return self._per_block[figure]

    def pool(self, figure: _Figure, blocks: Iterable[int]) -> stats.Pool:
        """What a percentile of these blocks is taken of; a failure is an infinite latency."""
        key = (figure.arm, figure.concurrency, figure.metric, tuple(blocks))
        if key not in self._pools:
            rows = summaries.measured(self._of(figure))
            rows = rows[rows["trial_state"] == OK]
            failure = math.inf if figure.metric == summaries.LATENCY else math.nan
            values = rows[figure.metric].where(rows["ok"], failure).dropna()
            by_block = values.groupby(rows["block"])
            self._pools[key] = stats.Pool(
                [np.asarray(by_block.get_group(block), dtype=np.float64) for block in key[-1]]
            )
        return self._pools[key]

    def _of(self, figure: _Figure) -> pd.DataFrame:
        names = dict.fromkeys(["arm", *summaries.THROUGHPUT_COLUMNS, figure.metric])
        names.pop(summaries.THROUGHPUT, None)
        return self._cells.select((figure.arm, figure.concurrency), list(names))


@dataclasses.dataclass(frozen=True, slots=True)
class _Figure:
    """One statistic of one arm at one concurrency."""

    arm: str
    concurrency: int
    metric: str
    stat: str

    def per_block(self, cells: _Cells) -> pd.Series[float]:
        """In block order."""
        return cells.per_block(self)

    @property
    def percent(self) -> float:
        """Meant for figures of pooled blocks, which are percentiles."""
        return summaries.STATS[self.stat] or 50

    def __str__(self) -> str:
        return f"{self.arm} c = {self.concurrency}"


@dataclasses.dataclass(frozen=True, slots=True)
class _Combination:
    """What is judged: a figure, or its ratio to another in the same blocks."""

    figure: _Figure
    over: _Figure | None

    def figures(self) -> list[_Figure]:
        return [self.figure] if self.over is None else [self.figure, self.over]

    def per_block(self, cells: _Cells) -> pd.Series[float]:
        values = self.figure.per_block(cells)
        return values if self.over is None else (values / self.over.per_block(cells)).dropna()

    def effect(self, cells: _Cells, level: float) -> stats.Effect:
        """Its ratio over blocks: of the blocks' own figures, or where a tail takes part of pooled ones."""
        values = self.per_block(cells)
        if not self.has_tail:
            return stats.effect(_log(values), level=level)
        sides = [(cells.pool(figure, values.index), figure.percent) for figure in self.figures()]
        return blocks_ratio(*sides, level=level)

    @property
    def has_tail(self) -> bool:
        return not TAILS.isdisjoint(figure.stat for figure in self.figures())

    def lacks_requests(self, cells: _Cells) -> str:
        """Why a percentile of the pooled blocks would be chance; empty when it is not."""
        if not self.has_tail:
            return ""
        blocks = self.per_block(cells).index
        for figure in self.figures():
            needed = stats.FEWEST_REQUESTS[int(figure.percent)]
            there = sum(map(len, cells.pool(figure, blocks).blocks))
            if there < needed:
                return f"{figure}: {figure.stat} needs {needed} requests, there are {there}"
        return ""

    def __str__(self) -> str:
        if self.over is None:
            return str(self.figure)
        other = "" if self.over.metric == self.figure.metric else f" ({self.over.metric})"
        return f"{self.figure} / {self.over}{other}"


Side = tuple[
    Sequence[Floats] | stats.Pool, float
]  # values block by block, and the percentile to be taken of them


def blocks_ratio(side: Side, over: Side | None = None, *, level: float = stats.LEVEL) -> stats.Effect:
    """Ratio of two percentiles of the pooled blocks, not always the same one; `over` left out: of one alone.

    With equal percentiles it is `stats.tail_effect`: the interval comes from resampling blocks, both sides'
    together, and p, lag1 and drifts are of the blocks' own figures.
    """
    sides = [
        (values if isinstance(values, stats.Pool) else stats.Pool(values), percent)
        for values, percent in ([side] if over is None else [side, over])
    ]
    blocks = len(sides[0][0].blocks)
    own = stats.effect(_log_ratio([pool.own(percent) for pool, percent in sides]), level=level)
    if blocks < 2:
        return own
    draws = _log_ratio([pool.resampled(percent, 1) for pool, percent in sides])
    low, high = np.exp(stats.tail_interval(draws, blocks, level=level))
    low_90, high_90 = np.exp(stats.tail_interval(draws, blocks, level=stats.TOST_LEVEL))
    return dataclasses.replace(
        own,
        ratio=float(np.exp(_log_ratio([pool.whole(percent) for pool, percent in sides]))),
        low=float(low),
        high=float(high),
        low_90=float(low_90),
        high_90=float(high_90),
        spread=float(draws.std(ddof=1) * math.sqrt(blocks)) if np.isfinite(draws).all() else math.nan,
    )


def _log_ratio(sides: Sequence[npt.ArrayLike]) -> Floats:
    """ln of the first over the second, or of the first alone."""
    logs = [_log(side) for side in sides]
    with np.errstate(invalid="ignore"):
        return logs[0] if len(logs) == 1 else np.asarray(logs[0] - logs[1], dtype=np.float64)


@dataclasses.dataclass(frozen=True, slots=True)
class _Outcome:
    """One combination, judged."""

    combination: str
    measured: float = math.nan
    low: float = math.nan
    high: float = math.nan
    level: float = math.nan
    blocks: int = 0
    verdict: str = NOT_TESTED
    note: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class _Evidence:
    """What a run has to say, under the law that the claims are about."""

    cells: _Cells  # of the blocks that count
    trials: pd.DataFrame  # all of them
    law: str
    invalid: Mapping[tuple[str, str], str]  # (arm, load) → why its figures are not to be used

    def why_unusable(self, combination: _Combination) -> str:
        """Why this cannot be judged; empty when it can."""
        for figure in combination.figures():
            broken = self.invalid.get((figure.arm, f"{self.law}({figure.concurrency})"))
            if broken:
                return f"{figure} is invalid: {broken}"
        if combination.per_block(self.cells).empty:
            return self._why_missing(combination)
        return combination.lacks_requests(self.cells)

    def _why_missing(self, combination: _Combination) -> str:
        for figure in combination.figures():
            if summaries.cell(self.trials, figure.arm, figure.concurrency).empty:
                return f"{figure} was not run"
            if figure.per_block(self.cells).empty:
                return f"{figure} gave no {figure.metric}"
        return f"{combination}: no block has both"


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
    `combination` names. level is 0.95 where the ratio lies inside its bounds; outside, where it may refute,
    1 - 0.05 / combinations. trials tells what was run and failed from what was not run. Blocks in `excluded`
    do not count; what needs an `invalid` arm and load is not tested. `noisy` says why this session decides
    nothing: then every verdict is withheld, the figures are not.
    """
    judged = _under(claims.law, derived)
    if excluded:
        judged = judged[~judged["block"].isin(list(excluded))]
    evidence = _Evidence(_Cells(judged), _under(claims.law, trials), claims.law, invalid)
    rows = [
        _check_row(claim, check, _weakest(check, evidence))
        for claim in claims.claims
        for check in claim.checks
    ]
    table = pd.DataFrame(rows, columns=CHECK_COLUMNS)
    return table.assign(verdict=WITHHELD, note=noisy) if noisy else table


def verdicts(evaluated: pd.DataFrame) -> pd.DataFrame:
    """One row per claim (`VERDICT_COLUMNS`) from its deciding checks; condition and note are theirs, joined.

    Refuted if one of them is; else not tested if one is not; confirmed if all are; else inconclusive.
    """
    deciding = evaluated[evaluated["decides"]]
    rows = [_verdict_row(checks) for _, checks in deciding.groupby("claim", sort=False)]
    return pd.DataFrame(rows, columns=VERDICT_COLUMNS)


def _under(law: str, frame: pd.DataFrame) -> pd.DataFrame:
    every = list(frame["load"].unique())
    loads = [load for load in every if str(load).startswith(f"{law}(")]
    return frame if loads == every else frame[frame["load"].isin(loads)]


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
    """The verdict on "every one of these holds"."""
    kinds = set(found)
    for settles in (WITHHELD, REFUTED, NOT_TESTED):
        if settles in kinds:
            return settles
    return CONFIRMED if kinds == {CONFIRMED} else INCONCLUSIVE


def _combinations(check: Check) -> list[_Combination]:
    figures = [_Figure(arm, c, check.metric, check.stat) for arm in check.arms for c in check.concurrencies]
    if check.versus is None:
        return [_Combination(figure, None) for figure in figures]
    return [_Combination(figure, over) for figure in figures for over in _references(figure, check.versus)]


def _references(figure: _Figure, versus: Reference) -> list[_Figure]:
    return [
        _Figure(arm, concurrency, versus.metric or figure.metric, versus.stat or figure.stat)
        for arm in versus.arms or (figure.arm,)
        for concurrency in versus.concurrencies or (figure.concurrency,)
    ]


def _weakest(check: Check, evidence: _Evidence) -> _Outcome:
    """The outcome that stands for the check: of those that settle its verdict, the one that holds least.

    Each combination is judged alone, over all blocks. The extreme of each block would be biased: the largest
    of several noisy ratios lies above the largest true one. "Every one holds" needs no correction for their
    number, since a wrong "confirmed" takes a wrong one of a combination that does not hold; "one does not"
    does, since any of them may be it by chance.
    """
    combinations = _combinations(check)
    strict = 1 - (1 - stats.LEVEL) / len(combinations)
    outcomes = [_judge(check, combination, evidence, strict) for combination in combinations]
    verdict = _together(outcome.verdict for outcome in outcomes)
    standing = [outcome for outcome in outcomes if outcome.verdict == verdict]
    return min(standing, key=lambda outcome: _room(check, outcome))


def _judge(check: Check, combination: _Combination, evidence: _Evidence, strict: float) -> _Outcome:
    """One combination's verdict: confirmed at the usual level, refuted at the `strict` one."""
    nothing = _Outcome(str(combination))
    unusable = evidence.why_unusable(combination)
    if unusable:
        return dataclasses.replace(nothing, note=unusable)
    found = combination.effect(evidence.cells, stats.LEVEL)
    if _margin(check, found.ratio) < 0:
        found = combination.effect(evidence.cells, strict)
    return dataclasses.replace(
        nothing,
        **{name: getattr(found, name) for name in ("low", "high", "level", "blocks")},
        measured=found.ratio,
        verdict=_verdict(check, found),
        note=_joined([_what_is_missing(check, found), DRIFTS if found.drifts else ""]),
    )


def _verdict(check: Check, found: stats.Effect) -> str:
    if found.blocks < stats.FEWEST_BLOCKS:
        return INCONCLUSIVE
    if _margin(check, found.low) >= 0 and _margin(check, found.high) >= 0:
        return CONFIRMED
    # both ends beyond the same bound: with one beyond each, the interval holds all that is allowed
    beyond = found.high < _number(check.at_least) or found.low > _number(check.at_most)
    return REFUTED if beyond else INCONCLUSIVE


def _what_is_missing(check: Check, found: stats.Effect) -> str:
    """What would settle a check that is inconclusive, or why nothing will."""
    if found.blocks < stats.FEWEST_BLOCKS:
        return f"{found.blocks} of at least {stats.FEWEST_BLOCKS} blocks"
    if _verdict(check, found) != INCONCLUSIVE:
        return ""
    distance = abs(_margin(check, found.ratio))
    if not math.isfinite(found.spread) or not math.isfinite(distance):
        return "no interval: a figure is zero, or infinite for failures"
    return "the interval holds the bound"


def _room(check: Check, outcome: _Outcome) -> tuple[float, ...]:
    """How far the interval lies inside its bounds, by the end that its verdict hangs on; then the ratio."""
    ends = [_margin(check, outcome.low), _margin(check, outcome.high)]
    end = max(ends) if outcome.verdict == REFUTED else min(ends)
    return tuple(-math.inf if math.isnan(room) else room for room in (end, _margin(check, outcome.measured)))


def _margin(check: Check, ratio: float) -> float:
    """How far inside its bounds a ratio lies, in logs; negative outside. NaN of NaN."""
    log = float(_log(ratio))
    above = math.inf if check.at_least is None else log - math.log(check.at_least)
    below = math.inf if check.at_most is None else math.log(check.at_most) - log
    return float(np.minimum(above, below))


def _log(values: npt.ArrayLike) -> Floats:
    with np.errstate(divide="ignore"):
        return np.log(np.asarray(values, dtype=np.float64))


def _bounds(check: Check) -> str:
    if check.at_most is None:
        return f"≥ {check.at_least:g}"
    return f"≤ {check.at_most:g}" if check.at_least is None else f"{check.at_least:g} to {check.at_most:g}"


# -- the printed tables, beside ours -------------------------------------------------------------------


def published_tables(claims: Claims, derived: pd.DataFrame) -> pd.DataFrame:
    """One row per printed table and arm that repeats it: the print, ours (pooled over blocks), the split.

    `published_model` and `published_io` are the print as text, `…_ms` the same figures as lists.
    Model is the route's view, and split into queue, in_worker and resume (medians). A *_ratio is against the
    model or the I/O alone: table T1's there, the lone arm's model and the arm's own I/O at c = 1 here.
    met_at, for tables that ask for it: at which concurrency the printed model ratio is met on this machine.
    """
    judged = _Printed(_under(claims.law, derived))
    rows = [_table_row(claims, table, arm, judged) for table in claims.tables for arm in table.arms]
    return pd.DataFrame(rows)


class _Printed:
    """The measured rows of each arm and concurrency, with what the article prints."""

    def __init__(self, derived: pd.DataFrame) -> None:
        self._cells = summaries.Cells(derived, ("arm", "concurrency"))

    def concurrencies(self, arm: str) -> list[int]:
        return sorted(int(concurrency) for other, concurrency in self._cells if other == arm)

    def select(self, arm: str, concurrency: int) -> pd.DataFrame:
        names = ["phase", "ok", "route_model_ms", "queue_ms", "model_ms", "resume_ms", "io_ms"]
        return summaries.measured(self._cells.select((arm, concurrency), names))


def _table_row(claims: Claims, table: Table, arm: str, derived: _Printed) -> dict[str, object]:
    printed_ratio = float(np.median(table.model_ms) / np.median(claims.lone_table.model_ms))
    ratios = _model_ratios(derived, arm, claims.lone)
    met_at = str(summaries.matching_concurrency(ratios, printed_ratio)) if table.find_load else ""
    return {
        **_printed(table),
        "published_model_ratio": printed_ratio,
        "published_io_ratio": float(np.median(table.io_ms) / np.median(claims.lone_table.io_ms)),
        **_ours(table, arm, claims.lone, derived),
        "model_ratio": ratios.get(table.concurrency, math.nan),
        "met_at": met_at,
    }


def _printed(table: Table) -> dict[str, object]:
    return {
        "table": table.id,
        "strategy": table.strategy,
        "load_text": table.load,
        "published_model": _as_printed(table.model_ms, table.gap_before_last),
        "published_model_ms": list(table.model_ms),
        "published_model_p50_ms": float(np.median(table.model_ms)),
        "published_io": _as_printed(table.io_ms, table.gap_before_last),
        "published_io_ms": list(table.io_ms),
        "published_io_p50_ms": float(np.median(table.io_ms)),
    }


def _as_printed(figures: tuple[float, ...], gap_before_last: bool) -> str:
    texts = [f"{figure:g}" for figure in figures]
    return " ".join([*texts[:-1], "…", texts[-1]] if gap_before_last else texts)


def _ours(table: Table, arm: str, lone: Lone, derived: _Printed) -> dict[str, object]:
    rows = derived.select(arm, table.concurrency)
    io_alone = _median(derived.select(arm, lone.concurrency), "io_ms")
    return {
        "arm": arm,
        "concurrency": table.concurrency,
        "requests": len(rows),
        **_middle(rows, "route_model_ms", "model"),
        "queue_p50_ms": _median(rows, "queue_ms"),
        "in_worker_p50_ms": _median(rows, "model_ms"),
        "resume_p50_ms": _median(rows, "resume_ms"),
        **_middle(rows, "io_ms", "io"),
        "io_ratio": _ratio(_median(rows, "io_ms"), io_alone),
        "note": table.note if len(rows) else f"{arm} was not run at c = {table.concurrency}",
    }


def _model_ratios(derived: _Printed, arm: str, lone: Lone) -> dict[int, float]:
    """Concurrency → the route's Model over the lone model, for every load of this arm."""
    alone = _median(derived.select(lone.arm, lone.concurrency), "model_ms")
    return {
        c: _ratio(_median(derived.select(arm, c), "route_model_ms"), alone)
        for c in derived.concurrencies(arm)
    }


def _middle(rows: pd.DataFrame, metric: str, name: str) -> dict[str, float]:
    percents = (50, 5, 95)
    return {f"{name}_p{p}_ms": summaries.pooled_percentile(rows, metric, p) for p in percents}


def _median(rows: pd.DataFrame, metric: str) -> float:
    return summaries.pooled_percentile(rows, metric, 50)


def _ratio(figure: float, alone: float) -> float:
    return figure / alone if alone else math.nan  # a synthetic workload may well have no I/O at all
