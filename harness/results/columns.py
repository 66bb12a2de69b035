"""The rows of requests.csv in memory, packed: ten million requests take some 0.5 GB instead of 2.

Times have three decimals in the file, so they are whole microseconds: n of them are n / 1000.0 ms, the same
double as that of the text in the file. A column that holds anything else is kept as doubles.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.wire.records import Sample, column_types, header

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]
Spans = Sequence[slice]  # of rows that follow each other

_MICROSECONDS = 1000.0  # in a millisecond
_INTEGERS = (np.int8, np.int16, np.int32, np.int64)
_KINDS = column_types(Sample)


class Gathered:
    """Rows of requests.csv that are read part by part."""

    def __init__(self) -> None:
        self._parts: dict[str, list[Array]] = {name: [] for name in header(Sample)}
        self._codes: dict[str, dict[str, int]] = {name: {} for name, kind in _KINDS.items() if kind is str}
        self._count = 0

    def add(self, frame: pd.DataFrame) -> None:
        """Add checked rows: texts are categories, whole numbers may be float64 with NaN."""
        self._count += len(frame)
        for name, parts in self._parts.items():
            if name in self._codes:
                parts.append(_packed(self._coded(name, frame[name]), 1.0))
            elif name in frame:
                parts.append(_packed(np.asarray(frame[name]), _per_unit(name)))

    def _coded(self, name: str, column: pd.Series[Any]) -> Array:
        known = self._codes[name]
        numbers = [known.setdefault(str(text), len(known)) for text in column.cat.categories]
        return np.array(numbers, dtype=np.int64)[column.cat.codes]

    def columns(self) -> Columns:
        """All rows, by trial and sequence number. Takes them away from here, so that none is kept twice."""
        columns: dict[str, Column] = {}
        for name, parts in self._parts.items():
            raw = (
                _joined(parts, _per_unit(name))
                if parts
                else _constant(_missing(np.int8), np.int8, self._count)
            )
            columns[name] = _texts(raw, self._codes[name]) if name in self._codes else _numbers(name, raw)
        if (order := _order(columns["trial"].raw, columns["seq"].raw)) is not None:
            for name in columns:  # one by one, so that only one is in memory twice
                columns[name] = columns[name].taken(order)
        return Columns(columns)


def _order(trial: Array, seq: Array) -> Array | None:
    """The places of the rows by trial and sequence number; None if they are in that order.

    A load generator writes requests as they end.
    """
    follows = (trial[1:] > trial[:-1]) | ((trial[1:] == trial[:-1]) & (seq[1:] >= seq[:-1]))
    return None if follows.all() else np.lexsort((seq, trial))


@dataclasses.dataclass(frozen=True, eq=False)
class Column:
    """One packed column. The lowest number of the type of `raw` is a missing value."""

    raw: Array
    per_unit: float  # 1000 for microseconds, else 1
    whole: bool = False  # whether it has whole numbers
    texts: pd.CategoricalDtype | None = None  # `raw` are the codes of these

    def values(self, raw: Array) -> Any:
        """A part of `raw` as a Categorical, as int64 if no row has a missing value, or as float64."""
        if self.texts is not None:
            return pd.Categorical.from_codes(raw, dtype=self.texts, validate=False)
        if self.whole and self._is_complete:
            return raw.astype(np.int64)
        return _unpacked(raw, self.per_unit)

    @cached_property
    def _is_complete(self) -> bool:
        return bool(self.raw.dtype.kind == "i" and (self.raw != _missing(self.raw.dtype)).all())

    def taken(self, rows: Array | slice) -> Column:
        """Only these rows: their places, a mask, or a range."""
        return dataclasses.replace(self, raw=_taken(self.raw, rows))


class Columns:
    """Rows of requests.csv, by trial and sequence number."""

    def __init__(self, columns: Mapping[str, Column]) -> None:
        self._columns = columns

    def __len__(self) -> int:
        return len(self._columns["trial"].raw)

    @cached_property
    def trials(self) -> npt.NDArray[np.int64]:
        """The numbers of the trials that have rows, in rising order."""
        return self._columns["trial"].raw[self.begins[:-1]].astype(np.int64)

    @cached_property
    def begins(self) -> npt.NDArray[np.int64]:
        """The place of the first row of each of `trials`; at the end, the number of rows."""
        trial = self._columns["trial"].raw
        inner = np.flatnonzero(trial[1:] != trial[:-1]) + 1
        return np.array([*([0] if len(trial) else []), *inner, len(trial)], dtype=np.int64)

    @property
    def sizes(self) -> dict[int, int]:
        """Trial → number of its rows."""
        return dict(zip(self.trials.tolist(), np.diff(self.begins).tolist(), strict=True))

    def values(self, name: str, spans: Spans, keep: Bools | None = None) -> Any:
        """A column's values in these rows, of which only those in the mask `keep` count."""
        column = self._columns[name]
        parts = [column.raw[at] for at in spans] or [column.raw[:0]]
        raw = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return column.values(raw if keep is None else raw[keep])

    def frame(self) -> pd.DataFrame:
        """All rows as a frame, which needs some five times the memory."""
        return pd.DataFrame({name: column.values(column.raw) for name, column in self._columns.items()})

    def of_trials(self, numbers: Iterable[int]) -> Columns:
        """The rows of these trials."""
        kept = np.isin(self.trials, list(numbers))
        first = int(kept.sum())
        rows = slice(int(self.begins[first])) if kept[:first].all() else np.repeat(kept, np.diff(self.begins))
        return Columns({name: column.taken(rows) for name, column in self._columns.items()})

    def first_that_differs(self, name: str, expected: Mapping[int, object]) -> int | None:
        """The first trial with a row whose value is not the expected one of the trial; None without one."""
        column = self._columns[name]
        wanted = [expected[trial] for trial in self.trials.tolist()]
        if column.texts is not None:
            wanted = list(column.texts.categories.get_indexer(pd.Index(wanted, dtype="str")))
        differs = column.raw != np.repeat(np.array(wanted, dtype=np.int64), np.diff(self.begins))
        return int(self._columns["trial"].raw[differs.argmax()]) if differs.any() else None


# -- packing -------------------------------------------------------------------------------------------


def _per_unit(name: str) -> float:
    return _MICROSECONDS if _KINDS[name] is float else 1.0


def _numbers(name: str, raw: Array) -> Column:
    return Column(raw, _per_unit(name) if raw.dtype.kind == "i" else 1.0, whole=_KINDS[name] is int)


def _texts(raw: Array, codes: Mapping[str, int]) -> Column:
    """A column of texts, whose categories are in alphabetical order, as pandas has them."""
    ordered = sorted(codes)
    places = np.empty(len(codes), dtype=np.int64)
    places[[codes[text] for text in ordered]] = np.arange(len(codes))
    dtype = pd.CategoricalDtype(pd.Index(ordered, dtype="str"))
    return Column(_packed(places[raw], 1.0), 1.0, texts=dtype)


def _packed(values: Array, per_unit: float) -> Array:
    """Return the values times `per_unit` as small integers, or unchanged if a product is not whole."""
    if values.dtype.kind == "i":
        return _shrunk(values, np.zeros(len(values), dtype=bool))
    missing = np.isnan(values)
    scaled = np.rint(values * per_unit)
    exact = missing | (scaled / per_unit == values)
    return _shrunk(scaled, missing) if exact.all() else values


def _shrunk(values: Array, missing: Bools) -> Array:
    """Return whole numbers as small integers. The lowest number of their type marks a missing value."""
    known = values[~missing]
    least, most = (int(known.min()), int(known.max())) if len(known) else (0, 0)
    kind = next(one for one in _INTEGERS if _missing(one) < least and most <= np.iinfo(one).max)
    if len(values) and missing.all():
        return _constant(_missing(kind), kind, len(values))
    if least == most and not missing.any():
        return _constant(least, kind, len(values))
    packed = np.where(missing, 0, values).astype(kind)
    packed[missing] = _missing(kind)
    return packed


def _joined(parts: list[Array], per_unit: float) -> Array:
    """The parts as one array. Empties the list, so that only one part at a time is in memory twice."""
    count = sum(map(len, parts))
    first = parts[0]
    if all(_is_constant(part) and part.dtype == first.dtype and part[0] == first[0] for part in parts):
        return _constant(first[0], first.dtype, count)
    whole = np.empty(count, dtype=max((part.dtype for part in parts), key=_width))
    end = count
    while parts:
        part = parts.pop()
        end, place = end - len(part), slice(end - len(part), end)
        if whole.dtype.kind == "f":
            whole[place] = _unpacked(part, per_unit)
        else:
            whole[place] = part
            whole[place][part == _missing(part.dtype)] = _missing(whole.dtype)
    return whole


def _width(kind: np.dtype[Any]) -> tuple[bool, int]:
    return kind.kind == "f", kind.itemsize


def _unpacked(raw: Array, per_unit: float) -> npt.NDArray[np.float64]:
    if raw.dtype.kind == "f":
        return raw
    values = raw.astype(np.float64)
    values /= per_unit
    values[raw == _missing(raw.dtype)] = np.nan
    return values


def _missing(kind: npt.DTypeLike) -> int:
    return int(np.iinfo(kind).min)


def _constant(value: Any, kind: npt.DTypeLike, count: int) -> Array:
    """An array that repeats one value and needs no memory."""
    return np.broadcast_to(np.array(value, dtype=kind), (count,))


def _is_constant(raw: Array) -> bool:
    return len(raw) > 0 and raw.strides == (0,)


def _taken(raw: Array, rows: Array | slice) -> Array:
    if isinstance(rows, slice) or not _is_constant(raw):
        return raw[rows]
    return _constant(raw[0], raw.dtype, int(rows.sum()) if rows.dtype == bool else len(rows))
