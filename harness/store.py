"""A run on disk; the only reader and writer of `results/`. Writing needs no pandas.

A trial's requests are appended and synced first, then its row in `trials.csv`: that row is the commit mark.
Whatever a killed run left behind it is a torn tail, which reading drops with a warning.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.errors import HarnessError
from harness.records import SCHEMA_VERSION, Sample, Trial, column_types, header, to_cells

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

RESULTS = Path("results")
REQUIRED = frozenset({"trial", "block", "seq", "concurrency", "requests", "measured", "failed"})


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
    """Makes a run's folder and appends to it. Raises HarnessError if it exists or cannot be written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trials = 0  # saved so far
        self._made_parent = not folder.parent.exists()
        try:
            folder.mkdir(parents=True)
            (folder / "logs").mkdir()
        except FileExistsError:
            raise HarnessError(
                f"The folder {folder} exists already; a run is never overwritten.",
                stage="results",
                hint="Give another folder with --out, or leave the flag out for a new one.",
            ) from None
        except OSError as error:
            raise _unwritable(folder, error) from error
        self._append("requests.csv", [header(Sample)])
        self._append("trials.csv", [header(Trial)])

    def log(self, arm: str) -> Path:
        """Where an arm's server writes its output."""
        return self.folder / "logs" / f"{arm}.log"

    def write_record(self, record: dict[str, Any]) -> None:
        """Replace run.json as a whole: a reader sees the old one or the new one."""
        new = self.folder / "run.json.new"
        try:
            with new.open("w") as stream:
                json.dump({"schema": SCHEMA_VERSION, **record}, stream, indent=1)
                stream.write("\n")
                _sync(stream)
            new.replace(self.folder / "run.json")
        except OSError as error:
            raise _unwritable(self.folder, error) from error

    def append(self, trial: Trial, samples: Sequence[Sample]) -> None:
        """Save one finished trial; when this returns it is on the disk."""
        self._append("requests.csv", map(to_cells, samples))
        self._append("trials.csv", [to_cells(trial)])
        self.trials += 1

    def discard(self) -> None:
        """Remove the folder again; for a run that ended before its first trial did."""
        assert not self.trials, "finished trials are never removed"
        shutil.rmtree(self.folder)
        if self._made_parent:
            self.folder.parent.rmdir()

    def _append(self, name: str, rows: Iterable[list[str]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        try:
            with (self.folder / name).open("a") as stream:
                stream.write(text.getvalue())
                _sync(stream)
        except OSError as error:
            raise _unwritable(self.folder, error) from error


def read(folder: Path) -> Run:
    """Read a run, also one that was killed. Raises HarnessError for what is no run, or a damaged one."""
    record = _read_record(folder)
    warnings: list[str] = []
    trials = _read_csv(folder / "trials.csv", Trial, warnings)
    requests = _read_csv(folder / "requests.csv", Sample, warnings)
    finished = requests["trial"].isin(trials["trial"])
    if not finished.all():
        warnings.append(f"{(~finished).sum()} requests of an unfinished trial were left out.")
    requests = requests[finished].reset_index(drop=True)
    _refuse_missing_rows(folder, requests, trials)
    return Run(folder, record, requests, trials, warnings)


def write_table(folder: Path, name: str, table: pd.DataFrame) -> None:
    """Write a derived table beside the raw rows, replacing an older one. NaN is an empty cell."""
    try:
        table.to_csv(folder / name, index=False, float_format="%.6g")
    except OSError as error:
        raise _unwritable(folder, error) from error


def write_chart(folder: Path, name: str, figure: Figure) -> None:
    """Write charts/<name>.png and .svg, replacing older ones; the same figure gives the same bytes."""
    import matplotlib

    charts = folder / "charts"
    try:
        charts.mkdir(exist_ok=True)
        figure.savefig(charts / f"{name}.png", dpi=110, metadata={"Software": None})
        with matplotlib.rc_context({"svg.hashsalt": name}):
            figure.savefig(charts / f"{name}.svg", metadata={"Date": None})
    except OSError as error:
        raise _unwritable(folder, error) from error


def _read_record(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise HarnessError(
            f"There is no run folder {folder}.", stage="results", hint="Runs lie in results/<time>-<plan>."
        )
    try:
        record: dict[str, Any] = json.loads((folder / "run.json").read_text())
        schema = record["schema"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HarnessError(
            f"{folder} is not a run of execbench: its run.json is bad ({type(error).__name__}: {error}).",
            stage="results",
        ) from error
    if schema != SCHEMA_VERSION:
        raise HarnessError(
            f"{folder} has the layout {schema}; this execbench reads layout {SCHEMA_VERSION}.",
            stage="results",
            hint="Read it with the version that its run.json names under packages.",
        )
    return record


def _read_csv(path: Path, row_type: type[Sample | Trial], warnings: list[str]) -> pd.DataFrame:
    import pandas as pd

    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise HarnessError(f"{path} cannot be read: {error}.", stage="results") from error
    whole, _, torn = text.rpartition("\n")
    if torn:
        warnings.append(f"The last line of {path.name} was torn off in mid-write and was left out.")
    lines = list(csv.reader(io.StringIO(whole)))
    _refuse_foreign_columns(path, lines, header(row_type))
    try:
        _refuse_ragged(lines)
        return _typed(pd.DataFrame(lines[1:], columns=lines[0], dtype=str), row_type)
    except ValueError as error:
        raise HarnessError(
            f"{path} is damaged: {error}.", stage="results", hint="Restore it, or run the plan again."
        ) from error


def _refuse_foreign_columns(path: Path, lines: list[list[str]], expected: list[str]) -> None:
    found = lines[0] if lines else []
    if found != expected:
        missing = [name for name in expected if name not in found]
        detail = f"it lacks {', '.join(missing)}" if missing else "it has other columns, or in another order"
        raise HarnessError(f"{path} is not a file of execbench: {detail}.", stage="results")


def _refuse_ragged(lines: list[list[str]]) -> None:
    for number, line in enumerate(lines, 1):
        if len(line) != len(lines[0]):
            raise ValueError(f"line {number} has {len(line)} cells in place of {len(lines[0])}")


def _typed(frame: pd.DataFrame, row_type: type[Sample | Trial]) -> pd.DataFrame:
    import pandas as pd

    for name, kind in column_types(row_type).items():
        if kind is not str:
            try:
                frame[name] = pd.to_numeric(frame[name].mask(frame[name] == ""))
            except ValueError as error:
                raise ValueError(f"column {name}: {error}") from error
            if name in REQUIRED and frame[name].isna().any():
                raise ValueError(f"column {name}: line {int(frame[name].isna().argmax()) + 2} is empty")
    return frame


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


def _sync(stream: io.TextIOWrapper | Any) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _unwritable(folder: Path, error: OSError) -> HarnessError:
    return HarnessError(
        f"The results in {folder} cannot be written: {error.strerror or error}.",
        stage="results",
        hint="Give a folder that can be written with --out.",
    )
