"""The newest of several runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.errors import HarnessError
from harness.results import store


def run_in(results: Path) -> Path:
    """Return the folder in `results` whose run started last. Skips folders that contain no sound run.json.

    Raises HarnessError if there is none.
    """
    started = max(_starts(results), default=None)
    if started is None:
        raise HarnessError(
            f"There is no run in {results}.",
            stage="results",
            hint="`execbench run smoke` makes one in seconds, in the folder results/ below the current one.",
        )
    return started[1]


def _starts(results: Path) -> Iterator[tuple[str, Path]]:
    """When each run started (UTC, as run.json has it, so that texts sort by time), and its folder."""
    for path in results.glob("*/run.json"):
        try:
            yield str(store.read_record(path.parent).get("started_at", "")), path.parent
        except HarnessError:
            continue
