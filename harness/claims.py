"""Published claims as data, and what a run says of each: confirmed, refuted, inconclusive or not tested.

`load` reads and validates a packaged file; everything else is pure. The unit of evidence is the block: a
check is confirmed when its bounds hold in at least `CONFIRMED_FROM` of the blocks and refuted when they hold
in at most `REFUTED_TO`. Fewer than `FEWEST_BLOCKS` decide nothing. A verdict carries no interval yet, so
every one is marked `PROVISIONAL`.
"""

from __future__ import annotations

import dataclasses
import importlib.resources
import math
import tomllib
from collections.abc import Iterable
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import (
    AfterValidator,
    Field,
    PositiveInt,
    ValidationError,
    model_validator,
)

from harness import analysis
from harness.errors import UsageError
from harness.options import Frozen, explain

CONFIRMED = "confirmed"
REFUTED = "refuted"
INCONCLUSIVE = "inconclusive"
NOT_TESTED = "not tested"

CONFIRMED_FROM = 0.8
REFUTED_TO = 0.1  # surer than confirming: of several comparisons one is enough to refute, all must confirm
FEWEST_BLOCKS = (
    10  # a tie then reads "refuted" in 1.1 % of comparisons (of nine: 9 %), at 16 blocks in 0.03 %
)

PROVISIONAL = "provisional: a share of blocks, no interval yet"

CHECK_COLUMNS = [
    "claim",
    "text",
    "stated",
    "check",
    "published",
    "bounds",
    "measured",
    "low",
    "high",
    "blocks",
    "share_of_blocks",
    "verdict",
    "decides",
    "combination",
    "condition",
    "note",
    "standing",
]
VERDICT_COLUMNS = ["claim", "text", "stated", "verdict", "checks", "condition", "note", "standing"]


# -- the file ------------------------------------------------------------------------------------------


def _known_metric(name: str) -> str:
    return _one_of(name, analysis.BLOCK_METRICS)


def _known_stat(name: str) -> str:
    return _one_of(name, analysis.STATS)


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
    at_least: float | None = None
    at_most: float | None = None
    published: float | None = None  # the article's figure for the same thing
    decides: bool = True  # or only shown beside the verdict
    condition: str  # under which the verdict is meant

    @model_validator(mode="after")
    def _is_bounded(self) -> Check:
        if self.at_least is None and self.at_most is None:
            raise ValueError("a check needs at_least or at_most")
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
    folder = importlib.resources.files("harness") / "data" / "claims"
    known = sorted(
        file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml")
    )
    if name not in known:
        raise UsageError(f"no claims called '{name}'", stage="claims", hint=f"there are: {', '.join(known)}")
    return parse((folder / f"{name}.toml").read_text(encoding="utf-8"), origin=f"{name}.toml")


def parse(text: str, *, origin: str) -> Claims:
    """Claims from TOML; UsageError names `origin` and the key that is wrong."""
    try:
        return Claims.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{origin} is not TOML: {error}", stage="claims") from error
    except ValidationError as error:
        raise UsageError(f"{origin}: {explain(error)}", stage="claims") from error


# -- the verdicts --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class _Figure:
    """One statistic of one arm at one concurrency, to be read in every block."""

    arm: str
    concurrency: int
    metric: str
    stat: str

    def per_block(self, derived: pd.DataFrame) -> pd.Series[float]:
        return analysis.per_block(derived, self.arm, self.concurrency, self.metric, self.stat)

    def __str__(self) -> str:
        return f"{self.arm} c = {self.concurrency}"


@dataclasses.dataclass(frozen=True, slots=True)
class _Combination:
    """What is judged over the blocks: a figure, or its ratio to another in the same block."""

    figure: _Figure
    over: _Figure | None

    def figures(self) -> list[_Figure]:
        return [self.figure] if self.over is None else [self.figure, self.over]

    def per_block(self, derived: pd.DataFrame) -> pd.Series[float]:
        values = self.figure.per_block(derived)
        return values if self.over is None else (values / self.over.per_block(derived)).dropna()

    def __str__(self) -> str:
        if self.over is None:
            return str(self.figure)
        other = "" if self.over.metric == self.figure.metric else f" ({self.over.metric})"
        return f"{self.figure} / {self.over}{other}"


@dataclasses.dataclass(frozen=True, slots=True)
class _Outcome:
    """One combination, judged."""

    combination: str
    measured: float = math.nan
    low: float = math.nan
    high: float = math.nan
    blocks: int = 0
    share_of_blocks: float = math.nan
    verdict: str = NOT_TESTED
    note: str = ""


def evaluate(claims: Claims, derived: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """One row per check (`CHECK_COLUMNS`), in the file's order.

    measured, low and high: median and range over the blocks of the check's weakest combination, the one
    that `combination` names. trials tells what was run and failed from what was not run.
    """
    judged = _under(claims.law, derived)
    tried = _under(claims.law, trials)
    rows = [
        _check_row(claim, check, _weakest(check, judged, tried))
        for claim in claims.claims
        for check in claim.checks
    ]
    return pd.DataFrame(rows, columns=CHECK_COLUMNS)


def verdicts(evaluated: pd.DataFrame) -> pd.DataFrame:
    """One row per claim (`VERDICT_COLUMNS`) from its deciding checks; condition and note are theirs, joined.

    Refuted if one of them is; else not tested if one is not; confirmed if all are; else inconclusive.
    """
    deciding = evaluated[evaluated["decides"]]
    rows = [_verdict_row(checks) for _, checks in deciding.groupby("claim", sort=False)]
    return pd.DataFrame(rows, columns=VERDICT_COLUMNS)


def _under(law: str, frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["load"].astype(str).str.startswith(f"{law}(")]


def _check_row(claim: Claim, check: Check, outcome: _Outcome) -> dict[str, object]:
    return {
        "claim": claim.id,
        "text": claim.text,
        "stated": claim.stated,
        "check": check.name,
        "published": math.nan if check.published is None else check.published,
        "bounds": _bounds(check),
        "decides": check.decides,
        "condition": check.condition,
        "standing": PROVISIONAL,
        **dataclasses.asdict(outcome),
    }


def _verdict_row(checks: pd.DataFrame) -> dict[str, object]:
    found = list(checks["verdict"])
    return {
        **{name: checks[name].iloc[0] for name in ("claim", "text", "stated", "standing")},
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
    if REFUTED in kinds:
        return REFUTED
    if NOT_TESTED in kinds:
        return NOT_TESTED
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


def _weakest(check: Check, derived: pd.DataFrame, trials: pd.DataFrame) -> _Outcome:
    """The outcome that stands for the check: of those that settle its verdict, the one that holds least.

    Each combination is judged alone, over all blocks. The extreme of each block would be biased: the largest
    of several noisy ratios lies above the largest true one.
    """
    outcomes = [_judge(check, combination, derived, trials) for combination in _combinations(check)]
    verdict = _together(outcome.verdict for outcome in outcomes)
    standing = [outcome for outcome in outcomes if outcome.verdict == verdict]
    return min(standing, key=lambda outcome: (outcome.share_of_blocks, _margin(check, outcome.measured)))


def _judge(check: Check, combination: _Combination, derived: pd.DataFrame, trials: pd.DataFrame) -> _Outcome:
    values = combination.per_block(derived)
    if values.empty:
        return _Outcome(str(combination), note=_why_missing(combination, derived, trials))
    share = float(np.mean([_margin(check, value) >= 0 for value in values]))
    low, high = _spread(values)
    return _Outcome(
        combination=str(combination),
        measured=analysis.percentile(np.asarray(values, dtype=np.float64), 50),
        low=low,
        high=high,
        blocks=len(values),
        share_of_blocks=share,
        verdict=_verdict(len(values), share),
        note=f"{len(values)} of at least {FEWEST_BLOCKS} blocks" if len(values) < FEWEST_BLOCKS else "",
    )


def _verdict(blocks: int, share: float) -> str:
    if blocks < FEWEST_BLOCKS or REFUTED_TO < share < CONFIRMED_FROM:
        return INCONCLUSIVE
    return CONFIRMED if share >= CONFIRMED_FROM else REFUTED


def _spread(values: pd.Series[float]) -> tuple[float, float]:
    """The range over blocks. An interval for the effect takes its place once there is one."""
    return float(values.min()), float(values.max())


def _margin(check: Check, value: float) -> float:
    """How far inside its bounds a value lies; negative outside."""
    above = math.inf if check.at_least is None else value - check.at_least
    below = math.inf if check.at_most is None else check.at_most - value
    return min(above, below)


def _bounds(check: Check) -> str:
    if check.at_most is None:
        return f"≥ {check.at_least:g}"
    return f"≤ {check.at_most:g}" if check.at_least is None else f"{check.at_least:g} to {check.at_most:g}"


def _why_missing(combination: _Combination, derived: pd.DataFrame, trials: pd.DataFrame) -> str:
    for figure in combination.figures():
        if analysis.cell(trials, figure.arm, figure.concurrency).empty:
            return f"{figure} was not run"
        if figure.per_block(derived).empty:
            return f"{figure} gave no {figure.metric}"
    return f"{combination}: no block has both"


# -- the printed tables, beside ours -------------------------------------------------------------------


def published_tables(claims: Claims, derived: pd.DataFrame) -> pd.DataFrame:
    """One row per printed table and arm that repeats it: the print, ours (pooled over blocks), the split.

    `published_model` and `published_io` are the print as text, `…_ms` the same figures as lists.
    Model is the route's view, and split into queue, in_worker and resume (medians). A *_ratio is against the
    model or the I/O alone: table T1's there, the lone arm's model and the arm's own I/O at c = 1 here.
    met_at, for tables that ask for it: at which concurrency the printed model ratio is met on this machine.
    """
    judged = analysis.measured(_under(claims.law, derived))
    rows = [_table_row(claims, table, arm, judged) for table in claims.tables for arm in table.arms]
    return pd.DataFrame(rows)


def _table_row(claims: Claims, table: Table, arm: str, derived: pd.DataFrame) -> dict[str, object]:
    printed_ratio = float(np.median(table.model_ms) / np.median(claims.lone_table.model_ms))
    ratios = _model_ratios(derived, arm, claims.lone)
    met_at = str(analysis.matching_concurrency(ratios, printed_ratio)) if table.find_load else ""
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


def _ours(table: Table, arm: str, lone: Lone, derived: pd.DataFrame) -> dict[str, object]:
    rows = analysis.cell(derived, arm, table.concurrency)
    io_alone = _median(analysis.cell(derived, arm, lone.concurrency), "io_ms")
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


def _model_ratios(derived: pd.DataFrame, arm: str, lone: Lone) -> dict[int, float]:
    """Concurrency → the route's Model over the lone model, for every load of this arm."""
    alone = analysis.lone_model_ms(derived, lone.arm, lone.concurrency)
    levels = derived.loc[derived["arm"] == arm].groupby("concurrency")
    return {int(str(c)): _ratio(_median(rows, "route_model_ms"), alone) for c, rows in levels}


def _middle(rows: pd.DataFrame, metric: str, name: str) -> dict[str, float]:
    percents = (50, 5, 95)
    return {f"{name}_p{p}_ms": analysis.pooled_percentile(rows, metric, p) for p in percents}


def _median(rows: pd.DataFrame, metric: str) -> float:
    return analysis.pooled_percentile(rows, metric, 50)


def _ratio(figure: float, alone: float) -> float:
    return figure / alone if alone else math.nan  # a synthetic workload may well have no I/O at all
