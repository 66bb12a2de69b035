"""A study as a committed page and its raw rows: computed, rendered and written in three steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from harness import environment
from harness.evidence.check import Result
from harness.evidence.studies.catalogue import Study, Wanted
from harness.report import markdown
from harness.results import written
from harness.wire.clock import utc_now


class Made(NamedTuple):
    """How it was made."""

    command: str
    on: str  # the day it began, UTC
    machine: str  # as it was at the beginning
    code: str


def made(name: str, wanted: Wanted) -> Made:
    """Facts about now; the command line names every number, so that it makes the same table again."""
    flags = [f"--{flag} {_plain(value)}" for flag, value in wanted._asdict().items() if value is not None]
    facts = environment.collect()
    commit = (facts["revision"] or {}).get("commit", "")[:12]
    return Made(
        command=" ".join(["execbench study", name, *flags]),
        on=utc_now()[:10],
        machine=(
            f"{facts['cpu']}, {facts['usable_cores']} cores, load {facts['load_average'][0]:.2f} before, "
            f"{facts['system']} {facts['kernel']}, Python {facts['python']}"
        ),
        code=f"{facts['code']}" + (f" (commit {commit})" if commit else ""),
    )


def render(name: str, study: Study, how: Made, found: pd.DataFrame, *, partial: bool) -> str:
    """The page. `partial`: it was stopped before its end."""
    lines = [f"# {study.title}", ""]
    if partial:
        lines += [f"**Partial: stopped after {len(found)} rows, so this is not the study.**", ""]
    lines += [f"Made by {markdown.code(how.command)} on {how.on}; do not edit.  "]
    lines += [
        f"Machine: {markdown.literal(how.machine)}.  ",
        f"Code: {how.code}.  ",
        f"Raw rows: [{name}.csv]({name}.csv).",
        "",
    ]
    lines += [study.table(found), study.say(found), ""]
    lines += [_verdict(result) for result in study.judge(found)]
    return "\n".join(lines).rstrip() + "\n"


def as_json(name: str, study: Study, how: Made, found: pd.DataFrame, *, partial: bool) -> dict[str, Any]:
    """The same as one document; what is not a number is null."""
    return {
        "study": name,
        **how._asdict(),
        "partial": partial,
        "rows": json.loads(found.to_json(orient="records")),
        "says": study.say(found),
        "judged": [result._asdict() for result in study.judge(found)],
    }


def write(folder: Path, name: str, text: str, found: pd.DataFrame) -> None:
    """Write <name>.md and <name>.csv, replacing older ones; HarnessError when that cannot be done."""
    with written.making(folder, stage="study") as new:
        written.write_text(new, f"{name}.md", text)
        written.write_table(new, f"{name}.csv", found)


def _verdict(result: Result) -> str:
    word = "passed" if result.passed else "failed"
    note = f" ({result.note})" if result.note else ""
    return f"* {result.name}, {result.goal}: {result.measured}: **{word}**{note}."


def _plain(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.15g}"
