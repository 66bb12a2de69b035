"""The harness: what is measured and how. The strategies themselves are in the package `strategies`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    from harness.report.report import Report

__version__ = "0.1.0"


def open_run(folder: str | os.PathLike[str]) -> Report:
    """Read a run's folder and return its tables, sentences and charts, each computed on first use.

    Raises HarnessError if the folder does not contain a run or if the run is damaged.
    """
    from pathlib import Path

    from harness.capacity import report as capacity
    from harness.report import report
    from harness.results import store

    run = store.read(Path(folder))
    return capacity.build(run) if capacity.is_capacity(run.record) else report.build(run)
