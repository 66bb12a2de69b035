"""Read the rows of a run's two CSVs as frames, and check types, bounds and the trial of each row."""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, get_type_hints
from warnings import catch_warnings, simplefilter

from harness.errors import HarnessError, shortened
from harness.results import csv_text
from harness.results.csv_text import Lines, Piece
from harness.system.printable import one_line
from harness.wire import bounds
from harness.wire.records import (
    COOLDOWN,
    CUT,
    FAILED,
    INVALID,
    MEASURE,
    NEW_COLUMNS,
    OK,
    PING,
    SCHEMA_VERSION,
    WARMUP,
    Sample,
    Trial,
    column_types,
    header,
)

if TYPE_CHECKING:
    import pandas as pd

    from harness.results.columns import Columns

LARGEST_NUMBER = 1e12  # in a cell: 30 years in ms; sums of its squares are still finite
MOST_OF = {"concurrency": bounds.USERS, "rate_per_s": 1e6, "block": bounds.TRIALS}
_STAMPS = {"due_ms", "sent_ms", "first_byte_ms", "done_ms", "entered_ms", "window_start_ms", "window_end_ms"}
LONGEST_HEADER = 10_000  # bytes; a longer first line cannot be ours, so it is not read

_failure = functools.partial(HarnessError, stage="results")


class Layout(NamedTuple):
    """The columns of a CSV as a version of the layout has them."""

    kinds: dict[str, type]  # column → str, int or float
    required: set[str]  # numbers that cannot be empty

    @classmethod
    def of(cls, row_type: type[Sample | Trial], version: int) -> Layout:
        added = {name for since, names in NEW_COLUMNS.items() if since > version for name in names}
        kinds = {name: kind for name, kind in column_types(row_type).items() if name not in added}
        return cls(kinds, {name for name, hint in get_type_hints(row_type).items() if hint in (int, float)})


def trials(path: Path, version: int, warnings: list[str]) -> pd.DataFrame:
    """The rows of trials.csv (see `_frames`). Columns that an older layout lacks are NaN."""
    import pandas as pd

    layout = Layout.of(Trial, version)
    return _typed(pd.concat(list(_frames(path, layout, warnings)), ignore_index=True), layout)


def frame_of(trial: Trial) -> pd.DataFrame:
    """The frame of a trials.csv that has only this row."""
    import pandas as pd

    layout = Layout.of(Trial, SCHEMA_VERSION)
    frame = pd.DataFrame([dataclasses.asdict(trial)])
    kinds = {name: "str" if kind is str else "float64" for name, kind in layout.kinds.items()}
    return _typed(frame.astype(kinds), layout)


def _typed(frame: pd.DataFrame, layout: Layout) -> pd.DataFrame:
    """All columns of trials.csv. Whole numbers are int64, or float64 if a cell is empty."""
    for name, kind in layout.kinds.items():
        if kind is int and frame[name].notna().all():
            frame[name] = frame[name].astype("int64")
    return frame.reindex(columns=header(Trial))


def requests(path: Path, version: int, warnings: list[str]) -> Columns:
    """The rows of requests.csv, of which only a part at a time is in memory as text (see `_frames`)."""
    from harness.results.columns import Gathered

    gathered = Gathered()
    for frame in _frames(path, Layout.of(Sample, version), warnings):
        gathered.add(frame)
    return gathered.columns()


def read_bytes(path: Path) -> bytes:
    """A CSV's text in UTF-8 without a byte order mark, whatever program saved it."""
    return b"".join(csv_text.blocks(path))


def _frames(path: Path, layout: Layout, warnings: list[str]) -> Iterator[pd.DataFrame]:
    """The rows of a CSV in parts, checked. Leaves out an incomplete last line, with a warning.

    Raises HarnessError that names the first fault and its line.
    """
    lines, head = Lines(path), True
    for piece in lines:
        if head:
            _refuse_foreign_columns(path, piece.text, list(layout.kinds))
            piece, head = Piece(csv_text.after_first_line(piece.text), 2), False
        try:
            yield _parse(piece.text, layout)
        except (ValueError, OverflowError, Warning) as error:
            fault = _find_fault(piece, layout) or error
            hint = "Restore it, or run the plan again."
            raise _failure(f"{path} is damaged: {fault}.", hint=hint) from error
    if lines.incomplete:
        warnings.append(f"The last line of {path.name} was incomplete and was left out.")


def _refuse_foreign_columns(path: Path, whole: bytes, expected: list[str]) -> None:
    first = whole[: whole.find(b"\n") + 1][:LONGEST_HEADER].decode(errors="replace")
    found = next(csv.reader(first.splitlines()[:1]), [])
    if found != expected:
        missing = [name for name in expected if name not in found]
        detail = f"it lacks {', '.join(missing)}" if missing else "its columns or their order are different"
        raise _failure(f"{path} is not a file of execbench: {detail}.")


def _parse(text: bytes, layout: Layout) -> pd.DataFrame:
    """Sound lines as a frame, quickly. Raises for unsound ones without the place: see `_find_fault`.

    Requests have only a few different texts, so these become categories. Whole numbers that may be empty are
    float64 with NaN. Floats of three decimals are read exactly.
    """
    import pandas as pd

    kinds, required = layout
    with catch_warnings():
        simplefilter("error", pd.errors.ParserWarning)  # too many cells in the first line
        frame = pd.read_csv(
            io.BytesIO(b"".join([",".join(kinds).encode(), b"\n", text])),
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
    if text.count(b",") != len(frame) * (len(frame.columns) - 1) + _commas_in(frame[texts]):
        raise ValueError("a line is too short")  # pandas fills it up silently
    _refuse_unsound_cells(frame, layout)
    _put_on_one_line(frame, texts)
    return frame


def _refuse_unsound_cells(frame: pd.DataFrame, layout: Layout) -> None:
    kinds, required = layout
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


def _find_fault(piece: Piece, layout: Layout) -> str | None:
    """The first fault of some lines, and its line; None if only pandas finds one. Slow, for bad files."""
    kinds, required = layout
    try:
        lines = csv.reader(io.TextIOWrapper(io.BytesIO(piece.text), encoding="utf-8", newline=""))
        for cells in lines:
            line = piece.first_line + lines.line_num - 1
            if len(cells) != len(kinds):
                return f"line {line} has {len(cells)} cells instead of {len(kinds)}"
            for (name, kind), cell in zip(kinds.items(), cells, strict=True):
                fault = _fault_of(cell, kind, _bounds_of(name), required=name in required)
                if fault:
                    return f"column {name}: line {line} {fault}"
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


def refuse_missing(folder: Path, found: Columns, trials: pd.DataFrame) -> None:
    """Raise HarnessError if a trial is duplicated or its requests are not complete."""
    if trials["trial"].duplicated().any():
        raise _failure(f"{folder / 'trials.csv'} is damaged: it has a duplicate trial.")
    sizes = found.sizes
    wrong = [
        (trial, planned)
        for trial, planned in zip(trials["trial"], trials["requests"], strict=True)
        if sizes.get(trial, 0) != planned
    ]
    if wrong:
        trial, planned = wrong[0]
        raise _failure(
            f"{folder / 'requests.csv'} is damaged: trial {trial} should have {planned} rows but has "
            f"{sizes.get(trial, 0)} (trials with a wrong number of rows: {len(wrong)}).",
            hint="Restore the file, or run the plan again.",
        )


IDENTITY = ("arm", "strategy", "load", "block")  # columns of both files
_WORDS = {"phase": (WARMUP, MEASURE, COOLDOWN, PING), "state": (OK, FAILED, INVALID, CUT)}


def refuse_other_trials(folder: Path, found: Columns, trials: pd.DataFrame) -> None:
    """Raise HarnessError if a request's arm, strategy, load or block is not that of its trial."""
    for name in IDENTITY:
        trial = found.first_that_differs(name, dict(zip(trials["trial"], trials[name], strict=True)))
        if trial is not None:
            raise _failure(
                f"{folder} is damaged: for trial {trial}, requests.csv and trials.csv differ in {name}.",
                hint="Restore the files, or run the plan again.",
            )
