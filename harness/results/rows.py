"""Read the rows of a run's two CSVs as frames, and check types, bounds and the trial of each row.

An editor or a spreadsheet may have saved a file with a byte order mark, in UTF-16, or with other line ends.
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

GZIP_SUFFIX = ".gz"
MOST_BYTES_OF_ROWS = 2 * 2**30  # ten million requests
LARGEST_NUMBER = 1e12  # in a cell: 30 years in ms; sums of its squares are still finite
MOST_OF = {"concurrency": bounds.USERS, "rate_per_s": 1e6, "block": bounds.TRIALS}
_STAMPS = {"due_ms", "sent_ms", "done_ms", "entered_ms", "window_start_ms", "window_end_ms"}
LONGEST_HEADER = 10_000  # bytes; a longer first line cannot be ours, so it is not read

Kinds = dict[str, type]  # column → str, int or float

_failure = functools.partial(HarnessError, stage="results")


def read(path: Path, row_type: type[Sample | Trial], layout: int, warnings: list[str]) -> pd.DataFrame:
    """The rows of a CSV with their types (see `_parse`). Drops an incomplete last line, with a warning.

    Columns that an older layout lacks are NaN.
    """
    data = read_bytes(path)
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        warnings.append(f"The last line of {path.name} was incomplete and was left out.")
    added = {name for since, names in NEW_COLUMNS.items() if since > layout for name in names}
    kinds = {name: kind for name, kind in column_types(row_type).items() if name not in added}
    required = {name for name, hint in get_type_hints(row_type).items() if hint in (int, float)}
    _refuse_foreign_columns(path, whole, list(kinds))
    try:
        return _parse(whole, kinds, required).reindex(columns=header(row_type))
    except (ValueError, OverflowError, Warning) as error:
        fault = _find_fault(whole, kinds, required) or error
        raise _failure(f"{path} is damaged: {fault}.", hint="Restore it, or run the plan again.") from error


def plain_or_compressed(path: Path) -> Path:
    """The file, or its `.gz` if only that exists: users may compress the rows of a long run."""
    compressed = path.with_name(path.name + GZIP_SUFFIX)
    return compressed if compressed.exists() and not path.exists() else path


def read_bytes(path: Path) -> bytes:
    """A CSV's text in UTF-8 without a byte order mark, whatever program saved it."""
    try:
        data = text_files.read_bytes(path, "results", MOST_BYTES_OF_ROWS)
        if path.suffix == GZIP_SUFFIX:
            data = _decompressed(data)
        return text_files.in_utf8(data)
    except UsageError as error:
        raise _failure(error.what, hint=error.hint) from error
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise _failure(f"{path} cannot be read: {error}.") from error


def _decompressed(data: bytes) -> bytes:
    with gzip.open(io.BytesIO(data)) as stream:
        decompressed = stream.read(MOST_BYTES_OF_ROWS + 1)
    if len(decompressed) > MOST_BYTES_OF_ROWS:
        raise OSError(f"it has more than {MOST_BYTES_OF_ROWS:,} bytes after decompression")
    return decompressed


def _refuse_foreign_columns(path: Path, whole: bytes, expected: list[str]) -> None:
    first = whole[: whole.find(b"\n") + 1][:LONGEST_HEADER].decode(errors="replace")
    found = next(csv.reader(first.splitlines()[:1]), [])
    if found != expected:
        missing = [name for name in expected if name not in found]
        detail = f"it lacks {', '.join(missing)}" if missing else "its columns or their order are different"
        raise _failure(f"{path} is not a file of execbench: {detail}.")


def _parse(whole: bytes, kinds: Kinds, required: set[str]) -> pd.DataFrame:
    """A sound CSV as a frame, quickly. Raises for an unsound one without the place: see `_find_fault`.

    A million requests have only a few different texts, so these become categories. Whole numbers that may be
    empty are int64 if no cell is empty, else float64 with NaN. Floats of three decimals are read exactly.
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
    if "seq" in frame:  # rows of requests. read_csv itself would merge the categories "1" and "01"
        for name in texts:
            frame[name] = frame[name].astype("category")
    if whole.count(b",") != (len(frame) + 1) * (len(frame.columns) - 1) + _commas_in(frame[texts]):
        raise ValueError("a line is too short")  # pandas fills it up silently
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
            raise ValueError(f"column {name} has a cell that is not a whole number")
    for name, known in _WORDS.items():
        if name in frame and not frame[name].isin(known).all():
            raise ValueError(f"column {name} must be one of {', '.join(known)}")


def _bounds_of(name: str) -> tuple[float, float]:
    """The least and the largest number of a column. Only stamps can be negative: before the trial's start."""
    least = -LARGEST_NUMBER if name in _STAMPS else 0.0
    return least, MOST_OF.get(name, LARGEST_NUMBER)


def _commas_in(frame: pd.DataFrame) -> int:
    """The number of commas inside quoted cells. All other commas separate cells, and show a short line."""
    counts = [frame[name].value_counts() for name in frame]
    return sum(str(text).count(",") * int(times) for count in counts for text, times in count.items())


def _put_on_one_line(frame: pd.DataFrame, names: list[str]) -> None:
    """Remove line ends from texts. We write none, and one could make a name look like a line of a report."""
    import pandas as pd

    for name in names:
        texts = frame[name].unique()
        if changed := {text: one_line(text) for text in texts if "\n" in text or "\r" in text}:
            cells = pd.Series([changed.get(text, text) for text in frame[name]], dtype="str")
            frame[name] = cells.astype("category") if frame[name].dtype == "category" else cells


def _find_fault(whole: bytes, kinds: Kinds, required: set[str]) -> str | None:
    """The first fault of a CSV and its line; None if only pandas finds one. Slow, so only for bad files."""
    try:
        lines = csv.reader(io.TextIOWrapper(io.BytesIO(whole), encoding="utf-8", newline=""))
        for cells in lines:
            if len(cells) != len(kinds):
                return f"line {lines.line_num} has {len(cells)} cells instead of {len(kinds)}"
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
        return f"is not a number: {shortened(cell)!r}"
    if math.isnan(number):
        return f"is not a number: {shortened(cell)!r}" if required else None
    if kind is not str and not least <= number <= most:
        return f"is out of bounds: {shortened(cell)}"
    return f"is not a whole number: {cell!r}" if kind is int and number % 1 else None


def refuse_missing(folder: Path, requests: pd.DataFrame, trials: pd.DataFrame) -> None:
    """Raise HarnessError if a trial is duplicated or its requests are not complete."""
    if trials["trial"].duplicated().any():
        raise _failure(f"{folder / 'trials.csv'} is damaged: it has a duplicate trial.")
    planned = trials.set_index("trial")["requests"]
    found = requests["trial"].value_counts().reindex(planned.index, fill_value=0)
    wrong = planned.index[found != planned]
    if len(wrong):
        trial = wrong[0]
        raise _failure(
            f"{folder / 'requests.csv'} is damaged: trial {trial} should have {planned[trial]} rows but has "
            f"{found[trial]} (trials with a wrong number of rows: {len(wrong)}).",
            hint="Restore the file, or run the plan again.",
        )


_WORDS = {"phase": (WARMUP, MEASURE, COOLDOWN, PING), "state": (OK, FAILED, INVALID)}
_IDENTITY = ("arm", "strategy", "load", "block")  # columns of both files


def refuse_other_trials(folder: Path, requests: pd.DataFrame, trials: pd.DataFrame) -> None:
    """Raise HarnessError if a request's arm, strategy, load or block is not that of its trial."""
    for name in _IDENTITY:
        of_request, of_trial = requests[name], trials[name]
        if name != "block":  # compare texts by their category's number, which is fast
            of_trial = of_trial.map({text: code for code, text in enumerate(of_request.cat.categories)})
            of_request = of_request.cat.codes
        of_trial.index = trials["trial"]
        differs = requests["trial"].map(of_trial).ne(of_request)
        if differs.any():
            trial = int(requests["trial"][differs].iloc[0])
            raise _failure(
                f"{folder} is damaged: for trial {trial}, requests.csv and trials.csv differ in {name}.",
                hint="Restore the files, or run the plan again.",
            )
