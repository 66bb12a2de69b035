"""The harness: what is measured and how. The strategies themselves are in the package `strategies`.

`open_run`, `newest_run` and `compare` are for notebooks and scripts. Python shows the hint of their errors
below the message.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from pathlib import Path

    from harness.report.report import Report
    from harness.verdicts.compare_runs import Comparison

__version__ = "0.1.0"


def open_run(folder: str | os.PathLike[str]) -> Report:
    """Read a run's folder and return its tables, sentences and charts, each computed on first use.

    Raises HarnessError if the folder does not contain a run or if the run is damaged.
    """
    from pathlib import Path

    from harness.capacity import report as capacity
    from harness.report import report
    from harness.results import store

    with _hints_shown():
        run = store.read(Path(folder))
    return capacity.build(run) if capacity.is_capacity(run.record) else report.build(run)


def newest_run(results: str | os.PathLike[str] = "results") -> Path:
    """Return the folder of the run in `results` that started last.

    Raises HarnessError if `results` contains no run.
    """
    from pathlib import Path

    from harness.results import newest

    with _hints_shown():
        return newest.run_in(Path(results))


def compare(
    first: str | os.PathLike[str], second: str | os.PathLike[str] | None = None, *, force: bool = False
) -> Comparison:
    """Compare two runs or two arms, or the arms of one run with its reference, as `execbench compare` does.

    `first` and `second` are a run's folder, or "FOLDER:ARM". The result has the `table`, whose columns are
    those of `Report.comparisons`, and `notes`.

    Raises UsageError for an unknown arm, HarnessError if a folder is no run, and NotComparable if machine,
    model or load differ (unless `force`) or nothing is left to compare.
    """
    import os

    from harness.verdicts import compare_runs

    with _hints_shown():
        return compare_runs.compare(
            os.fspath(first), None if second is None else os.fspath(second), force=force
        )


@contextmanager
def _hints_shown() -> Iterator[None]:
    """Add the hint of an error as a note, so that Python shows it below the message."""
    from harness.errors import HarnessError

    try:
        yield
    except HarnessError as error:
        if error.hint:
            error.add_note(error.hint)
        raise
