"""The requests of a run by column, and the figures that are derived of a request when they are asked for.

Ten million requests have thirty columns of 80 MB each, so no function may hold more than a few columns of all
of them. `Rows` gives a part of the rows and of the columns as a frame. Functions that take `Requests` also
take a frame of all columns, as `summaries.derive` makes it of a short run.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cached_property
from typing import Any, Protocol, TypeVar

import numpy as np
import pandas as pd

from harness.analysis.arrays import Bools, Counts
from harness.wire.records import MEASURE, PILOT_BLOCK, PING, SOUND, Sample, header

PART_ROWS = 2**19  # of a long run, in a frame at a time

OF_TRIAL = ["arm", "strategy", "load", "block", "trial"]  # the columns of a request that its trial has too
TRIAL_FACTS = ["concurrency", "io_nominal_ms", "window_start_ms", "window_end_ms", "trial_state"]
IO_SERVER, IO_STALL = "io_server_ms", "io_stall_ms"
FIRST_BYTE, TO_FIRST_BYTE = "first_byte_ms", "time_to_first_byte_ms"  # older runs have neither

Of = Callable[[str], "pd.Series[Any]"]  # the values of a column
Figure = Callable[[Of], "pd.Series[Any]"]


# -- figures of a request ------------------------------------------------------------------------------


def _route_model(of: Of) -> pd.Series[Any]:
    """If a server reports a single time for the model, it includes the queue and the way back."""
    whole = of("queue_ms") + of("model_ms") + of("resume_ms")
    return whole.where(~is_unsplit(of), of("model_ms"))


def is_unsplit(of: Of) -> pd.Series[bool]:
    """Which requests have a time for the model with the queue and the way back in it: no worker gave it."""
    return _has_model_alone(of) & of("worker_pid").isna()


def is_elsewhere(of: Of) -> pd.Series[bool]:
    """Which requests had a worker on another host: it gave its own time, and nothing else can be known."""
    return _has_model_alone(of) & of("worker_pid").notna()


def _has_model_alone(of: Of) -> pd.Series[bool]:
    return of("queue_ms").isna() & of("resume_ms").isna() & of("model_ms").notna()


OPTIONAL: dict[str, tuple[Figure, str]] = {  # only there if a request has a value in the column that is named
    IO_STALL: (lambda of: of("io_ms") - of(IO_SERVER), IO_SERVER),
    TO_FIRST_BYTE: (lambda of: of(FIRST_BYTE) - of("due_ms"), FIRST_BYTE),
}
FIGURES: dict[str, Figure] = {
    "ok": lambda of: of("error") == "",
    "route_model_ms": _route_model,
    "outside_ms": lambda of: of("service_ms") - of("handler_ms"),
    "latency_ms": lambda of: of("done_ms") - of("due_ms"),
    "service_ms": lambda of: of("done_ms") - of("sent_ms"),
    "dispatch_lag_ms": lambda of: of("sent_ms") - of("due_ms"),
    "model_plus_io_share": lambda of: (of("route_model_ms") + of("io_ms")) / of("service_ms"),
    "model_share_ms": lambda of: of("model_ms") / of("batch_size"),
}


MEANINGS = {  # figure → what it means; docs/reference/csv.md shows it
    "ok": "Whether the answer is good: `error` is empty.",
    "latency_ms": "done - due: what a user waits.",
    "service_ms": "done - sent.",
    "dispatch_lag_ms": "sent - due.",
    "route_model_ms": "queue + model + resume: what the article calls Model.",
    "outside_ms": "service - handler: network, HTTP parsing, the load generator.",
    "model_plus_io_share": "(route_model + io) / service.",
    "model_share_ms": "model / batch size.",
    IO_STALL: "io - io_server: network, driver, the wait for a connection and for the event loop.",
    TO_FIRST_BYTE: "first byte - due.",
}


class Columns:
    """Columns of some rows, each computed once: those that are there, and the figures derived from them."""

    def __init__(self, given: Of) -> None:
        self._given = given
        self._known: dict[str, pd.Series[Any]] = {}

    def __call__(self, name: str) -> pd.Series[Any]:
        if name not in self._known:
            figure = FIGURES.get(name) or (OPTIONAL[name][0] if name in OPTIONAL else None)
            self._known[name] = figure(self) if figure else self._given(name)
        return self._known[name]


# -- rows ----------------------------------------------------------------------------------------------


class Source(Protocol):
    """The columns of requests.csv, by trial."""

    @property
    def trials(self) -> Counts:
        """The numbers of the trials that have rows, in rising order."""

    @property
    def begins(self) -> Counts:
        """The place of the first row of each of `trials`; at the end, the number of rows."""

    def values(self, name: str, spans: Sequence[slice], keep: Bools | None = None) -> Any:
        """A column's values in these rows, of which only those in the mask `keep` count."""


class Which(enum.Enum):
    """Which requests of a trial count."""

    EVERY = enum.auto()
    LOAD = enum.auto()  # without pings
    MEASURED = enum.auto()  # in the window, including failures
    GOOD = enum.auto()  # of those, with a good answer


class Rows:
    """The requests of some trials of a run."""

    def __init__(self, source: Source, trials: pd.DataFrame, which: Which) -> None:
        """`trials`: a row for each trial, with its facts and the range [begin, end) of its rows."""
        self._source, self._which = source, which
        self.trials = trials

    @classmethod
    def of(
        cls,
        requests: Source | pd.DataFrame,
        trials: pd.DataFrame,
        *,
        arms: Sequence[str] = (),
        pilot: bool = False,
        pings: bool = False,
    ) -> Rows:
        """The requests of these trials, without the pilot and pings. `arms` gives the order of the arms.

        Requests without a trial (left by a killed run) and trials without a request are left out.
        """
        source = _Frame(requests) if isinstance(requests, pd.DataFrame) else requests
        first = PILOT_BLOCK if pilot else PILOT_BLOCK + 1
        facts = trials[trials["block"] >= first].rename(columns={"state": "trial_state"})
        facts = facts[[*OF_TRIAL, *TRIAL_FACTS]].sort_values("trial")
        places = pd.Index(source.trials).get_indexer(pd.Index(facts["trial"]))
        facts = facts[places >= 0].reset_index(drop=True)
        for name in ("strategy", "load", "trial_state"):  # a few texts, repeated in every row
            facts[name] = facts[name].astype("category")
        order = pd.Index(arms or sorted(set(facts["arm"])))
        facts["arm"] = pd.Categorical(facts["arm"], categories=order, ordered=bool(arms))
        places = places[places >= 0]
        facts = facts.assign(begin=source.begins[places], end=source.begins[places + 1])
        return cls(source, facts, Which.EVERY if pings else Which.LOAD)

    @cached_property
    def columns(self) -> list[str]:
        """The names of all columns, without those of `OPTIONAL` that would be empty."""
        optional = [name for name, (_, needed) in OPTIONAL.items() if self._has(needed)]
        return [*header(Sample), *TRIAL_FACTS, *optional, *FIGURES]

    def _has(self, name: str) -> bool:
        return any(part[name].notna().any() for part in self.parts([name]))

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def __len__(self) -> int:
        return self._count

    @cached_property
    def _count(self) -> int:
        if self._which is Which.EVERY:
            return int((self.trials["end"] - self.trials["begin"]).sum())
        return sum(len(part) for part in self.parts(["trial"]))

    def only(self, where: Any) -> Rows:
        """The requests of those of `trials` that this mask selects."""
        return Rows(self._source, self.trials[np.asarray(where, dtype=bool)], self._which)

    def measured(self) -> Rows:
        """The requests of the measured windows, including failures."""
        return Rows(self._source, self.trials, Which.MEASURED)

    def good(self) -> Rows:
        """The measured requests with a good answer."""
        return Rows(self._source, self.trials, Which.GOOD)

    def frame(self, names: Sequence[str] | None = None) -> pd.DataFrame:
        """All rows, with all columns or these."""
        return self._frame(self._spans(), self.columns if names is None else names)

    def parts(self, names: Sequence[str], most: int | None = None) -> Iterator[pd.DataFrame]:
        """The rows in order, in frames of at most `most` (`PART_ROWS`); at least one, which may be empty."""
        most = most or PART_ROWS
        part: list[tuple[int, slice]] = []
        rows = 0
        for place, span in self._spans():
            for begin in range(span.start, span.stop, most):
                piece = slice(begin, min(begin + most, span.stop))
                if part and rows + piece.stop - piece.start > most:
                    yield self._frame(part, names)
                    part, rows = [], 0
                part.append((place, piece))
                rows += piece.stop - piece.start
        yield self._frame(part, names)

    def _spans(self) -> list[tuple[int, slice]]:
        """The place in `trials` and the rows of each trial."""
        ranges = zip(self.trials["begin"], self.trials["end"], strict=True)
        return [(place, slice(int(begin), int(end))) for place, (begin, end) in enumerate(ranges)]

    def _frame(self, part: Sequence[tuple[int, slice]], names: Sequence[str]) -> pd.DataFrame:
        spans = [span for _, span in part]
        keep = self._keep(spans)
        of_trial = {*OF_TRIAL, *TRIAL_FACTS}
        owners = None if of_trial.isdisjoint(names) else _owners(part, keep)

        def given(name: str) -> pd.Series[Any]:
            if name in of_trial and owners is not None:
                return pd.Series(self.trials[name].array.take(owners))
            return pd.Series(self._source.values(name, spans, keep), copy=False)

        of = Columns(given)
        return pd.DataFrame({name: of(name) for name in names})

    def _keep(self, spans: Sequence[slice]) -> Bools | None:
        """Which of these rows count; None if all do."""
        if self._which is Which.EVERY:
            return None
        phase = self._source.values("phase", spans)
        keep = np.asarray(phase != PING if self._which is Which.LOAD else phase == MEASURE, dtype=bool)
        if self._which is Which.GOOD:
            keep &= np.asarray(self._source.values("error", spans) == "", dtype=bool)
        return None if keep.all() else keep


def _owners(part: Sequence[tuple[int, slice]], keep: Bools | None) -> Counts:
    """The place of each row's trial."""
    lengths = [span.stop - span.start for _, span in part]
    owners = np.repeat(np.array([place for place, _ in part], dtype=np.int64), lengths)
    return owners if keep is None else owners[keep]


class _Frame:
    """A frame of requests as a source."""

    def __init__(self, frame: pd.DataFrame) -> None:
        trial = np.asarray(frame["trial"])
        if (trial[1:] < trial[:-1]).any():
            frame = frame.iloc[np.argsort(trial, kind="stable")]
        self._columns = frame
        self.trials, first = np.unique(np.asarray(frame["trial"], dtype=np.int64), return_index=True)
        self.begins: Counts = np.append(first, len(frame)).astype(np.int64)

    def values(self, name: str, spans: Sequence[slice], keep: Bools | None = None) -> Any:
        places = np.concatenate([np.arange(span.start, span.stop) for span in spans] or [np.arange(0)])
        return self._columns[name].array.take(places if keep is None else places[keep])


# -- rows or a frame -----------------------------------------------------------------------------------

Requests = Rows | pd.DataFrame
R = TypeVar("R", Rows, pd.DataFrame, Rows | pd.DataFrame)


def measured(rows: R) -> R:
    """The rows of phase measure, including failures."""
    return rows.measured() if isinstance(rows, Rows) else rows[rows["phase"] == MEASURE]


def good(rows: R) -> R:
    """The rows of phase measure with a good answer."""
    if isinstance(rows, Rows):
        return rows.good()
    return rows[(rows["phase"] == MEASURE) & rows["ok"].astype(bool)]


def sound(rows: R) -> R:
    """The rows of trials whose figures count."""
    return of_trials(rows, "trial_state", SOUND)


def of_trials(rows: R, name: str, values: Collection[Any], *, but: bool = False) -> R:
    """The rows of trials that have one of these values, or none of them, in a column of their facts."""
    of = rows.trials if isinstance(rows, Rows) else rows
    where = of[name].isin(list(values)) != but
    if where.all():
        return rows
    return rows.only(where) if isinstance(rows, Rows) else rows[where]


def in_parts(rows: Requests, names: Sequence[str]) -> Iterator[pd.DataFrame]:
    """The rows with these columns, in order, in frames that are not too large; at least one."""
    if isinstance(rows, Rows):
        yield from rows.parts(names)
    else:
        yield rows


def column(rows: Requests, name: str) -> Any:
    """One column's values in all rows."""
    found = [np.asarray(part[name]) for part in in_parts(rows, [name])]
    return found[0] if len(found) == 1 else np.concatenate(found)


def at(rows: Requests, places: Counts, names: Sequence[str]) -> pd.DataFrame:
    """The rows at these places, in their order, with these columns."""
    found, begin = [], 0
    for part in in_parts(rows, names):
        here = places[(places >= begin) & (places < begin + len(part))]
        found.append(part[list(names)].iloc[here - begin].set_axis(here))
        begin += len(part)
    return pd.concat(found).loc[places]


def trial_facts(rows: Requests) -> pd.DataFrame:
    """A frame with `OF_TRIAL` and `TRIAL_FACTS`: a row for each trial, or for each request of a frame."""
    return rows.trials if isinstance(rows, Rows) else rows


def ordered_arms(rows: Requests) -> list[str]:
    """The arms in the order of ordered categories, also those without a row; empty without such an order."""
    kind = trial_facts(rows)["arm"].dtype
    return list(kind.categories) if isinstance(kind, pd.CategoricalDtype) and kind.ordered else []


def arms_of(rows: Requests) -> list[str]:
    """The arms of these rows, in the order of their categories, or else as they appear."""
    arm = trial_facts(rows)["arm"]
    there = [str(name) for name in arm.unique()]
    kind = arm.dtype
    order = kind.categories if isinstance(kind, pd.CategoricalDtype) else there
    return [str(name) for name in order if name in there]


class Cells:
    """An index of rows by cell, so that selecting a cell need not search the other rows.

    A key is a tuple of values of the columns `by`, which must be facts of a trial. Rows with a missing value
    belong to no cell.
    """

    def __init__(self, rows: Requests, by: Sequence[str] = ("arm", "load")) -> None:
        self._rows = rows
        of = trial_facts(rows)
        numbers = np.asarray(of.groupby(list(by), observed=True, sort=False).ngroup())
        order = np.argsort(numbers, kind="stable")
        cells, begins = np.unique(numbers[order], return_index=True)
        places = np.split(order, begins)[1:]  # the part before the first cell is empty
        keys = zip(*(of[name].array.take(order[begins]) for name in by), strict=True)
        self._places = {key: at for number, key, at in zip(cells, keys, places, strict=True) if number >= 0}

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """The keys, in order of first appearance."""
        return iter(self._places)

    def select(self, key: tuple[Any, ...], names: Sequence[str] | None = None) -> pd.DataFrame:
        """A cell's rows in their order, with a new index; only the columns `names`, if given."""
        at = self._at(key)
        if isinstance(self._rows, Rows):
            return self._of(self._rows, at).frame(names)
        columns = self._rows.columns if names is None else names
        return pd.DataFrame({name: self._rows[name].array.take(at) for name in columns})

    def fact(self, key: tuple[Any, ...], name: str) -> Any:
        """What the first of a cell's trials has in this column of `TRIAL_FACTS`."""
        return trial_facts(self._rows)[name].iloc[self._places[key][0]]

    def rows(self, key: tuple[Any, ...], names: Sequence[str]) -> Requests:
        """As `select`, but `Rows` of a cell that is too large for a frame of `names`."""
        if not isinstance(self._rows, Rows):
            return self.select(key, names)
        of_cell = self._of(self._rows, self._at(key))
        few = (of_cell.trials["end"] - of_cell.trials["begin"]).sum() <= PART_ROWS
        return of_cell.frame(names) if few else of_cell

    def _at(self, key: tuple[Any, ...]) -> Counts:
        return self._places.get(key, np.empty(0, dtype=np.intp))

    @staticmethod
    def _of(rows: Rows, at: Counts) -> Rows:
        where = np.zeros(len(rows.trials), dtype=bool)
        where[at] = True
        return rows.only(where)
