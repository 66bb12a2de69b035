"""A committed page of evidence: Markdown that says how it was made, and a CSV of its raw rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from harness import environment
from harness.report import markdown
from harness.results import derived_files
from harness.wire.clock import utc_now


class Made(NamedTuple):
    """How a page was made."""

    command: str
    on: str  # the day it was started, UTC
    machine: str  # at the start
    code: str


def made(command: str) -> Made:
    """Collect the current date, machine and code; `command` makes the same page again."""
    facts = environment.collect()
    commit = (facts["revision"] or {}).get("commit", "")[:12]
    return Made(
        command,
        utc_now()[:10],
        f"{facts['cpu']}, {facts['usable_cores']} cores, load {facts['load_average'][0]:.2f} before, "
        f"{facts['system']} {facts['kernel']}, Python {facts['python']}",
        f"{facts['code']}" + (f" (commit {commit})" if commit else ""),
    )


def beginning(title: str, how: Made, name: str, partial: str = "") -> list[str]:
    """The first lines of the page <name>.md; `partial` says why the page is incomplete, if it is."""
    return [
        f"# {title}",
        "",
        *([f"**Partial: {partial}**", ""] if partial else []),
        f"Made by {markdown.code(how.command)} on {how.on}; do not edit.  ",
        f"Machine: {markdown.literal(how.machine)}.  ",
        f"Code: {how.code}.  ",
        f"Raw rows: [{name}.csv]({name}.csv).",
        "",
    ]


def as_json(how: Made | None, found: pd.DataFrame, *, partial: bool) -> dict[str, Any]:
    """The page's data for JSON; NaN becomes null, and so does what is not recorded of how it was made."""
    facts = dict.fromkeys(Made._fields) if how is None else how._asdict()
    return {**facts, "partial": partial, "rows": json.loads(found.to_json(orient="records"))}


def write(page: Path, text: str, found: pd.DataFrame, *, stage: str) -> None:
    """Write the page and its CSV, replacing older ones. Raises HarnessError if they cannot be written."""
    with derived_files.making(page.parent, stage=stage) as new:
        derived_files.write_text(new, page.name, text)
        derived_files.write_table(new, f"{page.stem}.csv", found)
