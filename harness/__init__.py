"""What is measured, and how. The strategies themselves live in the package `strategies`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    from harness.report.report import Report

__version__ = "0.1.0"


def open_run(folder: str | os.PathLike[str]) -> Report:
    """Read a run's folder: its tables, sentences and charts, each computed when it is first asked for.

    Raises HarnessError when the folder is no run, or a damaged one.
    """
    from pathlib import Path

    from harness.capacity import report as capacity
    from harness.report import report
    from harness.results import store

    run = store.read(Path(folder))
    return capacity.build(run) if capacity.is_capacity(run.record) else report.build(run)
