"""A file of published claims: its keys, and how it is read and checked."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from harness.analysis import summaries
from harness.errors import UsageError
from harness.system import toml
from harness.wire.setting import Frozen, explain

TAILS = frozenset(summaries.STATS) - {"mean", "median", "p50"}  # read from the pooled blocks


def _one_of(known: Collection[str]) -> AfterValidator:
    def check(name: str) -> str:
        if name not in known:
            raise ValueError(f"'{name}' is unknown; known are {', '.join(known)}")
        return name

    return AfterValidator(check)


MetricName = Annotated[str, _one_of(summaries.BLOCK_METRICS)]
StatName = Annotated[str, _one_of(summaries.STATS)]
Arms = Annotated[tuple[str, ...], Field(min_length=1)]
Concurrencies = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
Milliseconds = Annotated[tuple[float, ...], Field(min_length=1)]


class Lone(Frozen):
    """Where the model and the I/O run alone: the article's table, and the arm and load of a run."""

    table: str
    arm: str
    concurrency: PositiveInt


class Table(Frozen):
    """A printed table: its figures in order, and the arms that reproduce it."""

    id: str
    strategy: str  # as the article names it
    load: str  # what the article says of the load
    arms: Arms
    concurrency: PositiveInt  # of the figures shown next to the printed ones
    model_ms: Milliseconds
    io_ms: Milliseconds
    gap_before_last: bool = False  # the article skips rows there
    find_load: bool = False  # find the concurrency at which a run reaches the printed model ratio
    note: str = ""


class Reference(Frozen):
    """What a check divides by; omitted keys are taken from the check itself."""

    metric: MetricName | None = None
    stat: StatName | None = None
    arms: Arms | None = None
    concurrencies: Concurrencies | None = None  # omitted: at equal concurrency


class Check(Frozen):
    """Bounds on a figure, or on its ratio to another, that must hold for every combination."""

    name: str
    metric: MetricName
    stat: StatName = "median"
    arms: Arms
    concurrencies: Concurrencies
    versus: Reference | None = None
    at_least: PositiveFloat | None = None
    at_most: PositiveFloat | None = None
    published: float | None = None  # the article's figure for the same thing
    decides: bool = True  # False: shown for context only
    condition: str  # the verdict applies under this condition

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
            raise ValueError(f"throughput has one figure per trial, so it has no {min(tails)}")
        if tails and "mean" in (self.stat, versus.stat):
            raise ValueError(f"{min(tails)} can be compared with a percentile, not with a mean")
        return self


class Claim(Frozen):
    """A published claim in our words, and how it is judged."""

    id: str
    text: str
    short: Annotated[str, Field(max_length=45)] = ""  # `text` for a line of a table; omitted: cut from `text`
    stated: str  # the published number, as stated
    checks: Annotated[tuple[Check, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _is_decidable(self) -> Claim:
        if not any(check.decides for check in self.checks):
            raise ValueError("no check decides this claim")
        return self


class Claims(Frozen):
    """A file of `harness/data/claims`."""

    source: str
    law: str  # only loads of this arrival law are judged
    lone: Lone
    tables: Annotated[tuple[Table, ...], Field(min_length=1)]
    claims: Annotated[tuple[Claim, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _has_unique_ids(self) -> Claims:
        for ids in ([claim.id for claim in self.claims], [table.id for table in self.tables]):
            if len(set(ids)) < len(ids):
                raise ValueError(f"duplicate id: {', '.join(ids)}")
        return self

    @model_validator(mode="after")
    def _has_its_lone_table(self) -> Claims:
        if self.lone.table not in [table.id for table in self.tables]:
            raise ValueError(f"lone.table: unknown table '{self.lone.table}'")
        return self

    @property
    def lone_table(self) -> Table:
        """The printed table of a single call."""
        return next(table for table in self.tables if table.id == self.lone.table)


def load(name: str) -> Claims:
    """The packaged claims file of this name. Raises UsageError if there is none, or a key in it is wrong."""
    return parse(toml.read_packaged("claims", name), origin=f"{name}.toml")


def parse(text: str, *, origin: str) -> Claims:
    """Claims from TOML. Raises UsageError that names `origin` and the wrong key."""
    try:
        return Claims.model_validate(toml.parse(text, origin, "claims"))
    except ValidationError as error:
        raise UsageError(f"{origin}: {explain(error)}", stage="claims") from error
