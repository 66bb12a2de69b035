"""Read and write a run's folder; only this module touches its rows and record. Writing needs no pandas.

The requests of a trial are appended while it runs. At its end they are synced, and then its row is appended
to `trials.csv`, which commits the trial. Reading drops what a killed run left uncommitted, with a warning.
"""

from __future__ import annotations

import csv
import dataclasses
import errno
import fcntl
import functools
import io
import json
import os
import shutil
import stat
import weakref
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from harness.errors import HarnessError, UsageError, shortened
from harness.results import csv_text, cut_load, record_schema, rows
from harness.system import signals, text_files
from harness.wire import row_lines
from harness.wire.records import (
    MEASURE,
    OLDEST_READABLE,
    SCHEMA_VERSION,
    Generator,
    Identity,
    Sample,
    Trial,
    header,
    to_cells,
)

if TYPE_CHECKING:
    import pandas as pd

    from harness.results.columns import Columns

RESULTS = Path("results")
GENERATORS = "generators.csv"  # in a run whose load several generators may send
READABLE = range(OLDEST_READABLE, SCHEMA_VERSION + 1)  # layouts of run.json and the CSVs
MOST_BYTES_OF_RECORD = 64 * 2**20

_failure = functools.partial(HarnessError, stage="results")


class Run(NamedTuple):
    """A run as read from disk. `warnings` say what was dropped and why."""

    folder: Path
    record: dict[str, Any]  # run.json
    rows: Columns | pd.DataFrame  # requests.csv, packed or not
    trials: pd.DataFrame  # columns of Trial
    warnings: list[str]

    @property
    def requests(self) -> pd.DataFrame:
        """requests.csv as a frame with the columns of Sample, which a long run makes large."""
        from harness.results.columns import Columns

        return self.rows.frame() if isinstance(self.rows, Columns) else self.rows


def default_folder(plan: str) -> Path:
    """The folder for a new run: results/<UTC time>-<plan>. It is not created yet."""
    return RESULTS / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{plan}"


class Writer:
    """Appends to a run's folder, with a lock until `close`. Raises HarnessError if writing fails."""

    def __init__(self, folder: Path) -> None:
        """Make the folder, which must not exist."""
        self.folder = folder
        self.trials = 0  # saved so far
        self.measured = 0  # saved requests of the measured windows
        self.uncommitted = 0  # measured requests that are in requests.csv, of a trial without its row
        self.record: dict[str, Any] = {}  # run.json as last written
        self._made_parents = _make(folder)
        try:
            self._lock()
            self._make_logs()
            for name, columns in (("requests.csv", header(Sample)), ("trials.csv", header(Trial))):
                with self._writing():
                    (folder / name).touch(exist_ok=False)
                self._append(name, [columns])
        except HarnessError:
            self.discard()
            raise

    @classmethod
    def reopen(cls, folder: Path, finished: Collection[int]) -> Writer:
        """Continue in the folder of an interrupted run. Keeps the rows of `finished` trials only."""
        writer = cls.__new__(cls)
        writer.folder = folder
        writer.trials = len(finished)
        writer.measured = writer.uncommitted = 0
        writer.record = {}
        writer._made_parents = []
        writer._lock()
        writer._refuse_links()
        writer._make_logs()
        writer._cut("trials.csv", header(Trial), finished)
        writer._cut("requests.csv", header(Sample), finished)
        if (folder / GENERATORS).exists():
            writer._cut(GENERATORS, header(Generator), finished)
        return writer

    def close(self) -> None:
        """Release the lock. Safe to call twice."""
        self._unlock()

    def log(self, arm: str) -> Path:
        """The log file of an arm's server."""
        return self.folder / "logs" / f"{arm}.log"

    def write_record(self, record: dict[str, Any]) -> None:
        """Replace run.json atomically: a reader sees the old or the new file."""
        self.record = record
        new = self.folder / "run.json.new"
        try:
            with self._writing():
                with new.open("w", encoding="utf-8") as stream:
                    json.dump({"schema": SCHEMA_VERSION, **record}, stream, indent=1)
                    stream.write("\n")
                    _sync(stream)
                new.replace(self.folder / "run.json")
        except HarnessError:
            with suppress(OSError):
                new.unlink(missing_ok=True)
            raise

    def append(self, trial: Trial, samples: Sequence[Sample]) -> None:
        """Save one finished trial. It is on disk when this returns; Ctrl-C waits until then."""
        with signals.deferred():
            self._append("requests.csv", map(to_cells, samples))
            self._commit(trial)

    def stream(self, identity: Identity, lines: str) -> None:
        """Append rows of a trial that still runs (see `wire.row_lines`); `finish` completes it.

        Once this returns, they survive the end of this process, but perhaps not that of the machine.
        """
        with self._appending("requests.csv") as stream:
            stream.write(row_lines.of_trial(identity, lines))
        self.uncommitted += lines.count(f",{MEASURE},")

    def finish(self, trial: Trial) -> None:
        """Complete a trial whose rows were streamed. All is on disk when this returns; Ctrl-C waits."""
        with signals.deferred():
            with self._appending("requests.csv") as stream:
                _sync(stream)
            self._commit(trial)

    def append_generators(self, trial: int, generators: Iterable[Generator]) -> None:
        """Save how the load generators of a finished trial did; the file exists only if there are any."""
        lines = [to_cells(dataclasses.replace(one, trial=trial)) for one in generators]
        if not lines:
            return
        with self._writing():
            is_new = not (self.folder / GENERATORS).exists()
            (self.folder / GENERATORS).touch()
        with signals.deferred():
            self._append(GENERATORS, [*([header(Generator)] if is_new else []), *lines])

    def _commit(self, trial: Trial) -> None:
        self._append("trials.csv", [to_cells(trial)])
        self.trials += 1
        self.measured += trial.measured
        self.uncommitted = 0

    def discard(self) -> None:
        """Remove what this run has created. Only for a run without a finished trial.

        Keeps all other files, including other runs in a parent folder that was created for this one.
        """
        assert not self.trials, "finished trials are never removed"
        shutil.rmtree(self.folder / "logs", ignore_errors=True)
        with suppress(OSError):
            for name in ("requests.csv", "trials.csv", "run.json", GENERATORS):
                (self.folder / name).unlink(missing_ok=True)
            for folder in (self.folder, *self._made_parents):
                folder.rmdir()

    def _lock(self) -> None:
        """Lock the folder: run.json cannot show whether a run was killed or still runs, but a lock can."""
        with self._writing():
            folder = os.open(self.folder, os.O_RDONLY)
            self._unlock = weakref.finalize(self, os.close, folder)
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.close()
                raise _failure(
                    f"Another execbench is writing to {self.folder}.",
                    hint="Wait for its end, or stop it, before you resume the run.",
                ) from None

    def _refuse_links(self) -> None:
        """Refuse links, which lead out of a folder that may come from elsewhere, and files that may block."""
        logs = self.folder / "logs"
        with self._writing():
            bad = [logs] if logs.is_symlink() else []
            bad += [path for path in (*logs.glob("*"), *self.folder.glob("*.new")) if not _is_plain(path)]
        if bad:
            raise _failure(
                f"{bad[0]} is a link or not a regular file, and a resumed run would write to it.",
                hint="Remove it.",
            )

    def _make_logs(self) -> None:
        with self._writing():
            (self.folder / "logs").mkdir(exist_ok=True)

    def _cut(self, name: str, columns: list[str], finished: Collection[int]) -> None:
        """Drop an incomplete last line and the rows of unfinished trials."""
        place, kept = columns.index("trial"), set(map(str, finished))
        new = self.folder / f"{name}.new"
        with self._writing():
            old = io.TextIOWrapper(
                io.BytesIO(rows.read_bytes(self.folder / name)), encoding="utf-8", newline=""
            )
            with new.open("w", encoding="utf-8", newline="") as stream:
                lines = csv.writer(stream, lineterminator="\n")
                for number, cells in enumerate(csv.reader(old)):
                    if number == 0 or (len(cells) == len(columns) and cells[place] in kept):
                        lines.writerow(cells)
                _sync(stream)
            new.replace(self.folder / name)

    def _append(self, name: str, rows: Iterable[list[str]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        with self._appending(name) as stream:
            stream.write(text.getvalue())
            _sync(stream)

    @contextmanager
    def _appending(self, name: str) -> Iterator[TextIO]:
        # fails if the file was removed, rather than creating one without a header
        with self._writing(), (self.folder / name).open("r+", encoding="utf-8") as stream:
            stream.seek(0, os.SEEK_END)
            yield stream

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn an OSError into a HarnessError that says why the folder cannot be written."""
        try:
            yield
        except OSError as error:
            if error.errno == errno.ENOENT and not os.path.lexists(self.folder):
                raise _failure(
                    f"The run's folder {self.folder} was removed or renamed during the run.",
                    hint="Leave it in place until the run has ended.",
                ) from error
            raise _unwritable(self.folder, error) from error


def read(folder: Path) -> Run:
    """Read a run, which may have been interrupted. Raises HarnessError if it is damaged or not a run."""
    record = read_record(folder)
    warnings: list[str] = []
    trials = rows.trials(folder / "trials.csv", record["schema"], warnings)
    path = csv_text.plain_or_compressed(folder / "requests.csv")
    requests = rows.requests(path, record["schema"], warnings)
    if trials.empty and (cut := cut_load.trial(record, requests)) is not None:
        trials = rows.frame_of(cut)
        warnings.append(cut_load.WARNING)
    finished = requests.of_trials(trials["trial"])
    if unfinished := len(requests) - len(finished):
        warnings.append(f"{unfinished} requests of an unfinished trial were left out.")
    rows.refuse_missing(folder, finished, trials)
    rows.refuse_other_trials(folder, finished, trials)
    return Run(folder, record, finished, trials, warnings)


def read_record(folder: Path) -> dict[str, Any]:
    """The run's record, checked. Raises HarnessError if it is damaged or of an unknown layout."""
    if not is_folder(folder):
        raise _failure(
            f"There is no run folder {shortened(str(folder))}.", hint="Runs are in results/<time>-<plan>."
        )
    path = folder / "run.json"
    record = _parse_record(folder, path)
    schema = record.get("schema")
    if type(schema) is not int:
        raise _no_run(folder, f"{path} has no valid key `schema`.")
    if schema not in READABLE:
        raise _failure(
            f"{folder} has layout {shortened(str(schema), 20)}, "
            f"but this execbench reads layouts {READABLE[0]} to {READABLE[-1]}.",
            hint="Use the version of executor-bench that its run.json names under packages.",
        )
    if fault := record_schema.fault(record):
        raise _failure(f"{path} is damaged: {fault}.", hint="Restore it, or run the plan again.")
    return record


def read_generators(folder: Path) -> pd.DataFrame:
    """The rows of generators.csv; none if the run has one load generator. Raises HarnessError if damaged."""
    import pandas as pd

    path = folder / GENERATORS
    if not path.exists():
        return pd.DataFrame(columns=header(Generator))
    try:
        return pd.read_csv(path)[header(Generator)]
    except (OSError, ValueError, KeyError) as error:
        raise _failure(f"{path} is damaged: {error}.", hint="Remove it, or restore it.") from error


def _parse_record(folder: Path, path: Path) -> dict[str, Any]:
    try:
        record = json.loads(text_files.read_text(path, "results", MOST_BYTES_OF_RECORD))
    except UsageError as error:
        raise _no_run(folder, error.what) from error
    except RecursionError as error:
        raise _no_run(folder, f"{path} is nested too deeply.") from error
    except json.JSONDecodeError as error:
        raise _no_run(folder, f"{path} is not JSON: {error}.") from error
    except ValueError as error:
        raise _no_run(folder, f"A number in {path} has too many digits.") from error
    return record if isinstance(record, dict) else {}


def is_folder(path: Path) -> bool:
    """Whether the folder exists. Raises HarnessError if that is unknown, such as for a name too long."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise _failure(f"The run folder {shortened(str(path))} cannot be read: {error.strerror}.") from error
    except ValueError:  # NUL, or a character that the file system cannot encode
        return False


def _no_run(folder: Path, why: str) -> HarnessError:
    return _failure(
        f"{folder} is not a run of execbench: {why}",
        hint="Give the folder of a run, such as results/<time>-<plan>.",
    )


def _is_plain(path: Path) -> bool:
    """Whether the path is a regular file without other hard links."""
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1


def _sync(stream: TextIO) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _make(folder: Path) -> list[Path]:
    """Make the folder and its parents. Returns the parents that were missing, the innermost first."""
    try:
        missing = list(takewhile(lambda parent: not parent.exists(), folder.parents))
        folder.mkdir(parents=True)
    except (OSError, ValueError) as error:
        if isinstance(error, FileExistsError) and os.path.lexists(folder):
            kind = "folder" if folder.is_dir() else "file"
            raise _failure(
                f"The {kind} {folder} already exists, and runs are never overwritten.",
                hint="Give another folder with --out, or leave the flag out for a new one.",
            ) from None
        raise _unwritable(folder, error) from error
    return missing


_HINTS = {
    errno.ENOSPC: "Free some space on that disk, or give a folder on another disk with --out.",
    errno.EDQUOT: "Free some space of your quota, or give a folder on another disk with --out.",
    errno.EMFILE: "Raise the limit of open files: ulimit -n 1024",
}


def _unwritable(folder: Path, error: OSError | ValueError) -> HarnessError:
    number, why = (error.errno, error.strerror) if isinstance(error, OSError) else (None, None)
    return _failure(
        f"The results in {folder} cannot be written: {why or error}.",
        hint=_HINTS.get(number or 0, "Give a writable folder with --out."),
    )
