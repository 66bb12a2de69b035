"""A run on disk: the only reader and writer of its rows and its record. Writing needs no pandas.

A trial's requests are appended and synced first, then its row in `trials.csv`: that row is the commit mark.
Whatever a killed run left behind it is a torn tail, which reading drops with a warning.
"""

from __future__ import annotations

import csv
import dataclasses
import errno
import fcntl
import gzip
import io
import json
import math
import os
import shutil
import stat
import weakref
import zlib
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_type_hints
from warnings import catch_warnings, simplefilter

from harness import bounds, recorded, signals, text_files
from harness.errors import HarnessError, UsageError, shortened
from harness.records import (
    COOLDOWN,
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
    to_cells,
)

if TYPE_CHECKING:
    import pandas as pd

RESULTS = Path("results")
READABLE = range(min(NEW_COLUMNS) - 1, SCHEMA_VERSION + 1)  # layouts of run.json and the CSVs
PACKED = ".gz"
MOST_BYTES_OF_RECORD = 64 * 2**20
MOST_BYTES_OF_ROWS = 2 * 2**30  # ten million requests
LARGEST_NUMBER = 1e12  # in a cell: 30 years in ms; sums of squares of it are numbers still
MOST_OF = {"concurrency": bounds.USERS, "rate_per_s": 1e6, "block": bounds.TRIALS}
_STAMPS = {"due_ms", "sent_ms", "done_ms", "entered_ms", "window_start_ms", "window_end_ms"}
LONGEST_HEADER = 10_000  # bytes; what is longer is no CSV of ours, and need not be read to say so


class Run(NamedTuple):
    """A run as read back. `warnings` say what was dropped and why."""

    folder: Path
    record: dict[str, Any]  # run.json
    requests: pd.DataFrame  # columns of Sample
    trials: pd.DataFrame  # columns of Trial
    warnings: list[str]


def default_folder(plan: str) -> Path:
    """results/<UTC time>-<plan>; does not exist yet."""
    return RESULTS / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{plan}"


class Writer:
    """Appends to a run's folder, alone until `close`. Raises HarnessError when it cannot be written."""

    def __init__(self, folder: Path) -> None:
        """Make the folder; it must not exist."""
        self.folder = folder
        self.trials = 0  # saved so far
        self.measured = 0  # requests of these in the measured window
        self.record: dict[str, Any] = {}  # run.json as written last
        self._made_parents = _make(folder)
        try:
            self._lock()
            self._make_logs()
            for name, columns in (("requests.csv", header(Sample)), ("trials.csv", header(Trial))):
                (folder / name).touch(exist_ok=False)
                self._append(name, [columns])
        except OSError as error:
            self.discard()
            raise _unwritable(folder, error) from error
        except HarnessError:
            self.discard()
            raise

    @classmethod
    def reopen(cls, folder: Path, finished: Collection[int]) -> Writer:
        """Go on in the folder of a killed run; of its requests, those of `finished` trials are kept."""
        writer = cls.__new__(cls)
        writer.folder = folder
        writer.trials = len(finished)
        writer.measured = 0
        writer.record = {}
        writer._made_parents = []
        writer._lock()
        writer._make_logs()
        writer._cut("trials.csv", header(Trial), finished)
        writer._cut("requests.csv", header(Sample), finished)
        return writer

    def close(self) -> None:
        """Let others write again; what was written stays. Safe to call twice."""
        self._unlock()

    def log(self, arm: str) -> Path:
        """Where an arm's server writes its output."""
        return self.folder / "logs" / f"{arm}.log"

    def write_record(self, record: dict[str, Any]) -> None:
        """Replace run.json as a whole: a reader sees the old one or the new one."""
        self.record = record
        new = self.folder / "run.json.new"
        try:
            with new.open("w") as stream:
                json.dump({"schema": SCHEMA_VERSION, **record}, stream, indent=1)
                stream.write("\n")
                _sync(stream)
            new.replace(self.folder / "run.json")
        except OSError as error:
            with suppress(OSError):
                new.unlink(missing_ok=True)
            raise self._failed(error) from error

    def append(self, trial: Trial, samples: Sequence[Sample]) -> None:
        """Save one finished trial; when this returns it is on the disk. Ctrl-C waits until then."""
        with signals.deferred():
            self._append("requests.csv", map(to_cells, samples))
            self._append("trials.csv", [to_cells(trial)])
            self.trials += 1
            self.measured += trial.measured

    def discard(self) -> None:
        """Remove what this run has made; for one that ended before its first trial did.

        Whatever else lies there by now stays, also other runs in a parent folder made for this one.
        """
        assert not self.trials, "finished trials are never removed"
        shutil.rmtree(self.folder / "logs", ignore_errors=True)
        with suppress(OSError):
            for name in ("requests.csv", "trials.csv", "run.json"):
                (self.folder / name).unlink(missing_ok=True)
            for folder in (self.folder, *self._made_parents):
                folder.rmdir()

    def _lock(self) -> None:
        """A killed run and one that is still running look alike in run.json; the kernel knows."""
        try:
            folder = os.open(self.folder, os.O_RDONLY)
            self._unlock = weakref.finalize(self, os.close, folder)
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise HarnessError(
                f"{self.folder} is being written by another execbench.",
                stage="results",
                hint="Wait for its end, or stop it, before the run is resumed.",
            ) from None
        except OSError as error:
            raise self._failed(error) from error

    def _make_logs(self) -> None:
        try:
            (self.folder / "logs").mkdir(exist_ok=True)
        except OSError as error:
            raise self._failed(error) from error

    def _cut(self, name: str, columns: list[str], finished: Collection[int]) -> None:
        """Drop the torn tail: a line that is not whole, and the rows of a trial that was not finished."""
        place, kept = columns.index("trial"), set(map(str, finished))
        new = self.folder / f"{name}.new"
        try:
            old = io.TextIOWrapper(io.BytesIO(_read_bytes(self.folder / name)), encoding="utf-8", newline="")
            with new.open("w", newline="") as stream:
                lines = csv.writer(stream, lineterminator="\n")
                for number, cells in enumerate(csv.reader(old)):
                    if number == 0 or (len(cells) == len(columns) and cells[place] in kept):
                        lines.writerow(cells)
                _sync(stream)
            new.replace(self.folder / name)
        except OSError as error:
            raise self._failed(error) from error

    def _append(self, name: str, rows: Iterable[list[str]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        try:
            with (self.folder / name).open("r+") as stream:  # a file that was removed is not made again
                stream.seek(0, os.SEEK_END)
                stream.write(text.getvalue())
                _sync(stream)
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> HarnessError:
        if error.errno == errno.ENOENT and not os.path.lexists(self.folder):
            return HarnessError(
                f"The run's folder {self.folder} was removed or renamed while it was written.",
                stage="results",
                hint="Leave it in place until the run has ended.",
            )
        return _unwritable(self.folder, error)


def read(folder: Path) -> Run:
    """Read a run, also one that was killed. Raises HarnessError for what is no run, or a damaged one."""
    record = _read_record(folder)
    warnings: list[str] = []
    trials = _read_rows(folder / "trials.csv", Trial, record["schema"], warnings)
    packed = _plain_or_packed(folder / "requests.csv")
    requests = _read_rows(packed, Sample, record["schema"], warnings)
    finished = requests["trial"].isin(trials["trial"])
    if not finished.all():
        warnings.append(f"{(~finished).sum()} requests of an unfinished trial were left out.")
        requests = requests[finished].reset_index(drop=True)
    _refuse_missing_rows(folder, requests, trials)
    _refuse_other_trials(folder, requests, trials)
    return Run(folder, record, requests, trials, warnings)


def _read_record(folder: Path) -> dict[str, Any]:
    if not is_folder(folder):
        raise HarnessError(
            f"There is no run folder {shortened(str(folder))}.",
            stage="results",
            hint="Runs lie in results/<time>-<plan>.",
        )
    path = folder / "run.json"
    record = _parse_record(folder, path)
    schema = record.get("schema")
    if type(schema) is not int:
        raise _no_run(folder, f"{path} does not say its layout.")
    if schema not in READABLE:
        raise HarnessError(
            f"{folder} has the layout {schema}; this execbench reads layout {READABLE[0]} to {READABLE[-1]}.",
            stage="results",
            hint="Read it with the version that its run.json names under packages.",
        )
    if said := recorded.fault(record):
        raise HarnessError(
            f"{path} is damaged: {said}.", stage="results", hint="Restore it, or run the plan again."
        )
    return record


def _parse_record(folder: Path, path: Path) -> dict[str, Any]:
    try:
        record = json.loads(text_files.read_text(path, "results", MOST_BYTES_OF_RECORD))
    except UsageError as error:
        raise _no_run(folder, error.what) from error
    except RecursionError as error:
        raise _no_run(folder, f"{path} is nested too deep.") from error
    except json.JSONDecodeError as error:
        raise _no_run(folder, f"{path} is not JSON: {error}.") from error
    except ValueError as error:
        raise _no_run(folder, f"A number in {path} has too many digits.") from error
    return record if isinstance(record, dict) else {}


def is_folder(path: Path) -> bool:
    """Whether a folder is there; HarnessError where nobody can tell, as its name is too long for example."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise HarnessError(
            f"The run folder {shortened(str(path))} cannot be read: {error.strerror}.", stage="results"
        ) from error
    except ValueError:  # NUL, or what the file system cannot encode
        return False


def _no_run(folder: Path, why: str) -> HarnessError:
    return HarnessError(
        f"{folder} is not a run of execbench: {why}",
        stage="results",
        hint="Give the folder that a run has written, such as results/<time>-<plan>.",
    )


def _read_rows(path: Path, row_type: type[Sample | Trial], layout: int, warnings: list[str]) -> pd.DataFrame:
    """The rows of a CSV; the columns that an older layout lacks are NaN."""
    columns = header(row_type)
    added = {name for since, names in NEW_COLUMNS.items() if since > layout for name in names} & set(columns)
    if not added:
        return _read_csv(path, row_type, warnings)
    kept = [(field.name, field.type) for field in dataclasses.fields(row_type) if field.name not in added]
    older: Any = dataclasses.make_dataclass(row_type.__name__, kept)
    return _read_csv(path, older, warnings).assign(**dict.fromkeys(added, math.nan))[columns]


def _plain_or_packed(path: Path) -> Path:
    """The file, or in its place the one that `gzip` makes of it: a long run is large to keep."""
    packed = path.with_name(path.name + PACKED)
    return packed if packed.exists() and not path.exists() else path


def _read_csv(path: Path, row_type: type[Sample | Trial], warnings: list[str]) -> pd.DataFrame:
    """The rows of a CSV, typed: see `_parse`. A torn last line is left out with a warning."""
    data = _read_bytes(path)
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


def _read_bytes(path: Path) -> bytes:
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
            raise ValueError(f"column {name} has a word that is none of {', '.join(known)}")


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


def _refuse_missing_rows(folder: Path, requests: pd.DataFrame, trials: pd.DataFrame) -> None:
    if trials["trial"].duplicated().any():
        raise HarnessError(
            f"{folder / 'trials.csv'} is damaged: a trial stands there twice.", stage="results"
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


def _refuse_other_trials(folder: Path, requests: pd.DataFrame, trials: pd.DataFrame) -> None:
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


def _sync(stream: io.TextIOWrapper | Any) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _make(folder: Path) -> list[Path]:
    """Make the folder and its parents; those that were made, the innermost first."""
    try:
        missing = list(takewhile(lambda parent: not parent.exists(), folder.parents))
        folder.mkdir(parents=True)
    except (OSError, ValueError) as error:
        if isinstance(error, FileExistsError) and os.path.lexists(folder):
            raise _exists_already(folder) from None
        raise _unwritable(folder, error) from error
    return missing


def _exists_already(folder: Path) -> HarnessError:
    return HarnessError(
        f"The {'folder' if folder.is_dir() else 'file'} {folder} exists already; a run is never overwritten.",
        stage="results",
        hint="Give another folder with --out, or leave the flag out for a new one.",
    )


_WAYS_OUT = {
    errno.ENOSPC: "Free some space on that disk, or give a folder on another one with --out.",
    errno.EDQUOT: "Free some space of your quota, or give a folder on another disk with --out.",
    errno.EMFILE: "Raise the limit of open files: ulimit -n 1024",
}


def _unwritable(folder: Path, error: OSError | ValueError) -> HarnessError:
    number, why = (error.errno, error.strerror) if isinstance(error, OSError) else (None, None)
    return HarnessError(
        f"The results in {folder} cannot be written: {why or error}.",
        stage="results",
        hint=_WAYS_OUT.get(number or 0, "Give a folder that can be written with --out."),
    )
