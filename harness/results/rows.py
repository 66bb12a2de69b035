"""The rows of a run's two CSVs as frames: typed, bounded, and each where it belongs; or HarnessError.

A file may come from an editor or a spreadsheet: with a byte order mark, in UTF-16, with other line ends.
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
import math
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints
from warnings import catch_warnings, simplefilter

from harness.errors import HarnessError, UsageError, shortened
from harness.system import text_files
from harness.system.printable import one_line
from harness.wire import bounds
from harness.wire.records import (
    COOLDOWN,
    FAILED,
    INVALID,
    MEASURE,
    NEW_COLUMNS,
    OK,
    PING,
    WARMUP,
    Sample,
    Trial,
    column_types,
    header,
)

if TYPE_CHECKING:
    import pandas as pd

PACKED = ".gz"
MOST_BYTES_OF_ROWS = 2 * 2**30  # ten million requests
LARGEST_NUMBER = 1e12  # in a cell: 30 years in ms; sums of squares of it are numbers still
MOST_OF = {"concurrency": bounds.USERS, "rate_per_s": 1e6, "block": bounds.TRIALS}
_STAMPS = {"due_ms", "sent_ms", "done_ms", "entered_ms", "window_start_ms", "window_end_ms"}
LONGEST_HEADER = 10_000  # bytes; what is longer is no CSV of ours, and need not be read to say so


def read(path: Path, row_type: type[Sample | Trial], layout: int, warnings: list[str]) -> pd.DataFrame:
    """The rows of a CSV; the columns that an older layout lacks are NaN."""
    columns = header(row_type)
    added = {name for since, names in NEW_COLUMNS.items() if since > layout for name in names} & set(columns)
    if not added:
        return _read_csv(path, row_type, warnings)
    kept = [(field.name, field.type) for field in dataclasses.fields(row_type) if field.name not in added]
    older: Any = dataclasses.make_dataclass(row_type.__name__, kept)
    return _read_csv(path, older, warnings).assign(**dict.fromkeys(added, math.nan))[columns]


def plain_or_packed(path: Path) -> Path:
    """The file, or in its place the one that `gzip` makes of it: a long run is large to keep."""
    packed = path.with_name(path.name + PACKED)
    return packed if packed.exists() and not path.exists() else path


def _read_csv(path: Path, row_type: type[Sample | Trial], warnings: list[str]) -> pd.DataFrame:
    """The rows of a CSV, typed: see `_parse`. A torn last line is left out with a warning."""
    data = read_bytes(path)
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        warnings.append(f"The last line of {path.name} was torn off in mid-write and was left out.")
    _refuse_foreign_columns(path, whole, header(row_type))
    try:
        return _parse(whole, row_type)
    except (ValueError, OverflowError, Warning) as error:
        fault = _find_fault(whole, row_type) or error
        raise HarnessError(
            f"{path} is damaged: {fault}.", stage="results", hint="Restore it, or run the plan again."
        ) from error


def read_bytes(path: Path) -> bytes:
    """A CSV's text in UTF-8 without byte order mark, whatever program has saved it."""
    try:
        data = text_files.read_bytes(path, "results", MOST_BYTES_OF_ROWS)
        if path.suffix == PACKED:
            data = _unpacked(data)
        return text_files.in_utf8(data)
    except UsageError as error:
        raise HarnessError(error.what, stage="results", hint=error.hint) from error
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise HarnessError(f"{path} cannot be read: {error}.", stage="results") from error


def _unpacked(data: bytes) -> bytes:
    with gzip.open(io.BytesIO(data)) as stream:
        found = stream.read(MOST_BYTES_OF_ROWS + 1)
    if len(found) > MOST_BYTES_OF_ROWS:
        raise OSError("it is larger than any run's once it is unpacked")
    return found


def _refuse_foreign_columns(path: Path, whole: bytes, expected: list[str]) -> None:
    first = whole[: whole.find(b"\n") + 1][:LONGEST_HEADER].decode(errors="replace")
    found = next(csv.reader(first.splitlines()[:1]), [])
    if found != expected:
        missing = [name for name in expected if name not in found]
        detail = f"it lacks {', '.join(missing)}" if missing else "it has other columns, or in another order"
        raise HarnessError(f"{path} is not a file of execbench: {detail}.", stage="results")


def _parse(whole: bytes, row_type: type[Sample | Trial]) -> pd.DataFrame:
    """A sound CSV as a frame, quickly. Anything unsound raises, without saying where: see `_find_fault`.

    A million requests have a handful of texts, so theirs become categories. A whole number that may be
    empty is int64 where no cell is, else float64 with NaN. Floats of three decimals are read exactly.
    """
    import pandas as pd

    with catch_warnings():
        simplefilter("error", pd.errors.ParserWarning)  # too many cells in the first line
        frame = pd.read_csv(
            io.BytesIO(whole),
            dtype=_dtypes(row_type),
            keep_default_na=False,  # an arm may well be called "NA"
            na_values={name: ["", "nan"] for name, kind in column_types(row_type).items() if kind is not str},
            skip_blank_lines=False,
            index_col=False,
        )
    if row_type.__name__ == Sample.__name__:  # also that of an older layout
        frame = _with_categories(frame)
    if whole.count(b",") != (len(frame) + 1) * (len(frame.columns) - 1) + _commas_in_texts(frame):
        raise ValueError("a line is too short")  # which pandas fills up in silence
    _refuse_unsound_cells(frame, row_type)
    frame = _with_texts_of_one_line(frame)
    return _with_whole_numbers(frame, row_type)


def _refuse_unsound_cells(frame: pd.DataFrame, row_type: type[Sample | Trial]) -> None:
    for name in _required(row_type):
        if frame[name].isna().any():
            raise ValueError(f"column {name} has an empty cell")
    for name, kind in column_types(row_type).items():
        if kind is not str and not frame[name].dropna().between(*_bounds_of(name)).all():
            raise ValueError(f"column {name} has a number that is out of bounds")
    for name, known in _WORDS.items():
        if name in frame and not frame[name].isin(known).all():
            raise ValueError(f"column {name} must be one of {', '.join(known)}")


def _bounds_of(name: str) -> tuple[float, float]:
    """Counts, numbers and durations have none below zero; a stamp of a server may lie before its trial."""
    least = -LARGEST_NUMBER if name in _STAMPS else 0.0
    return least, MOST_OF.get(name, LARGEST_NUMBER)


def _dtypes(row_type: type[Sample | Trial]) -> dict[str, str]:
    required = _required(row_type)
    return {
        name: "str" if kind is str else "int64" if kind is int and name in required else "float64"
        for name, kind in column_types(row_type).items()
    }


def _required(row_type: type[Sample | Trial]) -> set[str]:
    """The columns of numbers that are never empty."""
    return {name for name, hint in get_type_hints(row_type).items() if hint in (int, float)}


def _commas_in_texts(frame: pd.DataFrame) -> int:
    """Commas inside quoted cells: the others separate cells, and their number tells of a short line."""
    counts = [frame[name].value_counts() for name in frame.select_dtypes(exclude="number")]
    return sum(str(text).count(",") * int(times) for count in counts for text, times in count.items())


def _with_texts_of_one_line(frame: pd.DataFrame) -> pd.DataFrame:
    """Ours have no line end; with one, a name could pass for another line of a report or of a log."""
    import pandas as pd

    for name in frame.select_dtypes(exclude="number"):
        texts = frame[name].unique()
        if changed := {text: one_line(text) for text in texts if "\n" in text or "\r" in text}:
            cells = pd.Series([changed.get(text, text) for text in frame[name]], dtype="str")
            frame[name] = cells.astype("category") if frame[name].dtype == "category" else cells
    return frame


def _with_whole_numbers(frame: pd.DataFrame, row_type: type[Sample | Trial]) -> pd.DataFrame:
    for name, kind in column_types(row_type).items():
        if kind is int and frame[name].dtype != "int64":
            known = frame[name].dropna()
            if (known % 1 != 0).any():
                raise ValueError(f"column {name} has a cell that is no whole number")
            if len(known) == len(frame):
                frame[name] = known.astype("int64")
    return frame


def _with_categories(frame: pd.DataFrame) -> pd.DataFrame:
    """Not by read_csv, which would take the arms "1" and "01" for the same number."""
    for name in frame.select_dtypes(exclude="number"):
        frame[name] = frame[name].astype("category")
    return frame


def _find_fault(whole: bytes, row_type: type[Sample | Trial]) -> str | None:
    """The first thing wrong with a CSV, and its line; None when only pandas knows. Slow, but only then."""
    kinds, required = list(column_types(row_type).items()), _required(row_type)
    try:
        lines = csv.reader(io.TextIOWrapper(io.BytesIO(whole), encoding="utf-8", newline=""))
        for cells in lines:
            if len(cells) != len(kinds):
                return f"line {lines.line_num} has {len(cells)} cells in place of {len(kinds)}"
            if lines.line_num == 1:
                continue
            for (name, kind), cell in zip(kinds, cells, strict=True):
                fault = _fault_of(cell, kind, _bounds_of(name), required=name in required)
                if fault:
                    return f"column {name}: line {lines.line_num} {fault}"
    except (UnicodeDecodeError, csv.Error) as error:
        return str(error)
    return None


def _fault_of(cell: str, kind: type, bounds_: tuple[float, float], *, required: bool) -> str | None:
    least, most = bounds_
    if not cell:
        return "is empty" if required and kind is not str else None
    try:
        number = 0.0 if kind is str else float(cell)
    except ValueError:
        return f"is no number: {shortened(cell)!r}"
    if math.isnan(number):
        return f"is no number: {shortened(cell)!r}" if required else None
    if kind is not str and not least <= number <= most:
        return f"is out of bounds: {shortened(cell)}"
    return f"is no whole number: {cell!r}" if kind is int and number % 1 else None


def refuse_missing(folder: Path, requests: pd.DataFrame, trials: pd.DataFrame) -> None:
    if trials["trial"].duplicated().any():
        raise HarnessError(
            f"{folder / 'trials.csv'} is damaged: it has the same trial twice.", stage="results"
        )
    found = requests.groupby("trial").size().reindex(trials["trial"], fill_value=0)
    wrong = trials["trial"][found.to_numpy() != trials["requests"].to_numpy()]
    if len(wrong):
        trial = int(wrong.iloc[0])
        planned = int(trials.set_index("trial")["requests"][trial])
        raise HarnessError(
            f"{folder / 'requests.csv'} is damaged: trial {trial} should have {planned} rows and has "
            f"{found[trial]} ({len(wrong)} such trials).",
            stage="results",
            hint="Restore the file, or run the plan again.",
        )


_WORDS = {"phase": (WARMUP, MEASURE, COOLDOWN, PING), "state": (OK, FAILED, INVALID)}
_IDENTITY = ("arm", "strategy", "load", "block")  # stands in both files


def refuse_other_trials(folder: Path, requests: pd.DataFrame, trials: pd.DataFrame) -> None:
    """The rows of a trial say of it what its own row says."""
    for name in _IDENTITY:
        told, own = requests[name], trials[name]
        if name != "block":  # texts are compared by number: there are a million of a handful
            own = own.map({text: code for code, text in enumerate(told.cat.categories)})
            told = told.cat.codes
        own.index = trials["trial"]
        differs = requests["trial"].map(own).ne(told)
        if differs.any():
            trial = int(requests["trial"][differs].iloc[0])
            raise HarnessError(
                f"{folder} is damaged: requests.csv and trials.csv name another {name} for trial {trial}.",
                stage="results",
                hint="Restore the files, or run the plan again.",
            )
