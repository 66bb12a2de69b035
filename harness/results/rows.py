"""The rows of a run's two CSVs as frames: typed, bounded, and each where it belongs; or HarnessError.

A file may come from an editor or a spreadsheet: with a byte order mark, in UTF-16, with other line ends.
"""

from __future__ import annotations

import csv
import functools
import gzip
import io
import math
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, get_type_hints
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

Kinds = dict[str, type]  # column → str, int or float

_failure = functools.partial(HarnessError, stage="results")


def read(path: Path, row_type: type[Sample | Trial], layout: int, warnings: list[str]) -> pd.DataFrame:
    """The rows of a CSV, typed: see `_parse`. A torn last line is left out with a warning.

    The columns that an older layout lacks are NaN.
    """
    data = read_bytes(path)
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        warnings.append(f"The last line of {path.name} was torn off in mid-write and was left out.")
    added = {name for since, names in NEW_COLUMNS.items() if since > layout for name in names}
    kinds = {name: kind for name, kind in column_types(row_type).items() if name not in added}
    required = {name for name, hint in get_type_hints(row_type).items() if hint in (int, float)}
    _refuse_foreign_columns(path, whole, list(kinds))
    try:
        return _parse(whole, kinds, required).reindex(columns=header(row_type))
    except (ValueError, OverflowError, Warning) as error:
        fault = _find_fault(whole, kinds, required) or error
        raise _failure(f"{path} is damaged: {fault}.", hint="Restore it, or run the plan again.") from error


def plain_or_packed(path: Path) -> Path:
    """The file, or in its place the one that `gzip` makes of it: a long run is large to keep."""
    packed = path.with_name(path.name + PACKED)
    return packed if packed.exists() and not path.exists() else path


def read_bytes(path: Path) -> bytes:
    """A CSV's text in UTF-8 without byte order mark, whatever program has saved it."""
    try:
        data = text_files.read_bytes(path, "results", MOST_BYTES_OF_ROWS)
        if path.suffix == PACKED:
            data = _unpacked(data)
        return text_files.in_utf8(data)
    except UsageError as error:
        raise _failure(error.what, hint=error.hint) from error
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise _failure(f"{path} cannot be read: {error}.") from error


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
        raise _failure(f"{path} is not a file of execbench: {detail}.")


def _parse(whole: bytes, kinds: Kinds, required: set[str]) -> pd.DataFrame:
    """A sound CSV as a frame, quickly. Anything unsound raises, without saying where: see `_find_fault`.

    A million requests have a handful of texts, so theirs become categories. A whole number that may be
    empty is int64 where no cell is, else float64 with NaN. Floats of three decimals are read exactly.
    """
    import pandas as pd

    with catch_warnings():
        simplefilter("error", pd.errors.ParserWarning)  # too many cells in the first line
        frame = pd.read_csv(
            io.BytesIO(whole),
            dtype={
                name: "str" if kind is str else "int64" if kind is int and name in required else "float64"
                for name, kind in kinds.items()
            },
            keep_default_na=False,  # an arm may well be called "NA"
            na_values={name: ["", "nan"] for name, kind in kinds.items() if kind is not str},
            skip_blank_lines=False,
            index_col=False,
        )
    texts = [name for name, kind in kinds.items() if kind is str]
    if "seq" in frame:  # of requests. Not by read_csv, which would take the arms "1" and "01" for one number
        for name in texts:
            frame[name] = frame[name].astype("category")
    if whole.count(b",") != (len(frame) + 1) * (len(frame.columns) - 1) + _commas_in(frame[texts]):
        raise ValueError("a line is too short")  # which pandas fills up in silence
    _refuse_unsound_cells(frame, kinds, required)
    _put_on_one_line(frame, texts)
    for name, kind in kinds.items():
        if kind is int and frame[name].notna().all():
            frame[name] = frame[name].astype("int64")
    return frame


def _refuse_unsound_cells(frame: pd.DataFrame, kinds: Kinds, required: set[str]) -> None:
    for name in required:
        if frame[name].isna().any():
            raise ValueError(f"column {name} has an empty cell")
    for name, kind in kinds.items():
        if kind is not str and not frame[name].dropna().between(*_bounds_of(name)).all():
            raise ValueError(f"column {name} has a number that is out of bounds")
        if kind is int and (frame[name] % 1 > 0).any():
            raise ValueError(f"column {name} has a cell that is no whole number")
    for name, known in _WORDS.items():
        if name in frame and not frame[name].isin(known).all():
            raise ValueError(f"column {name} must be one of {', '.join(known)}")


def _bounds_of(name: str) -> tuple[float, float]:
    """Counts, numbers and durations have none below zero; a stamp of a server may lie before its trial."""
    least = -LARGEST_NUMBER if name in _STAMPS else 0.0
    return least, MOST_OF.get(name, LARGEST_NUMBER)


def _commas_in(frame: pd.DataFrame) -> int:
    """Commas inside quoted cells: the others separate cells, and their number tells of a short line."""
    counts = [frame[name].value_counts() for name in frame]
    return sum(str(text).count(",") * int(times) for count in counts for text, times in count.items())


def _put_on_one_line(frame: pd.DataFrame, names: list[str]) -> None:
    """Our texts have no line end; with one, a name could pass for another line of a report or of a log."""
    import pandas as pd

    for name in names:
        texts = frame[name].unique()
        if changed := {text: one_line(text) for text in texts if "\n" in text or "\r" in text}:
            cells = pd.Series([changed.get(text, text) for text in frame[name]], dtype="str")
            frame[name] = cells.astype("category") if frame[name].dtype == "category" else cells


def _find_fault(whole: bytes, kinds: Kinds, required: set[str]) -> str | None:
    """The first thing wrong with a CSV, and its line; None when only pandas knows. Slow, but only then."""
    try:
        lines = csv.reader(io.TextIOWrapper(io.BytesIO(whole), encoding="utf-8", newline=""))
        for cells in lines:
            if len(cells) != len(kinds):
                return f"line {lines.line_num} has {len(cells)} cells in place of {len(kinds)}"
            if lines.line_num == 1:
                continue
            for (name, kind), cell in zip(kinds.items(), cells, strict=True):
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
        raise _failure(f"{folder / 'trials.csv'} is damaged: it has the same trial twice.")
    planned = trials.set_index("trial")["requests"]
    found = requests["trial"].value_counts().reindex(planned.index, fill_value=0)
    wrong = planned.index[found != planned]
    if len(wrong):
        trial = wrong[0]
        raise _failure(
            f"{folder / 'requests.csv'} is damaged: trial {trial} should have {planned[trial]} rows and has "
            f"{found[trial]} ({len(wrong)} such trials).",
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
            raise _failure(
                f"{folder} is damaged: requests.csv and trials.csv name another {name} for trial {trial}.",
                hint="Restore the files, or run the plan again.",
            )
