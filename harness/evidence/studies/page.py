"""A study as the text of a page, and as one document."""

from __future__ import annotations

from typing import Any

import pandas as pd

from harness.evidence import page
from harness.evidence.check.bench import Result
from harness.evidence.page import Made
from harness.evidence.studies.catalogue import Study, Wanted


def command(name: str, wanted: Wanted) -> str:
    """The command line; it names every number, so that it makes the same table again."""
    flags = [f"--{flag} {_plain(value)}" for flag, value in wanted.said().items()]
    return " ".join(["execbench study", name, *flags])


def render(name: str, study: Study, how: Made, found: pd.DataFrame, *, partial: bool) -> str:
    """The page. `partial`: it was stopped before its end."""
    stopped = f"stopped after {len(found)} rows, so this is not the study." if partial else ""
    lines = page.beginning(study.title, how, name, stopped)
    lines += [study.table(found), study.say(found), ""]
    lines += [_verdict(result) for result in study.judge(found)]
    return "\n".join(lines).rstrip() + "\n"


def as_json(name: str, study: Study, how: Made, found: pd.DataFrame, *, partial: bool) -> dict[str, Any]:
    """The same as one document; what is not a number is null."""
    return {
        "study": name,
        **page.as_json(how, found, partial=partial),
        "says": study.say(found),
        "judged": [result._asdict() for result in study.judge(found)],
    }


def _verdict(result: Result) -> str:
    word = "passed" if result.passed else "failed"
    note = f" ({result.note})" if result.note else ""
    return f"* {result.name}, {result.goal}: {result.measured}: **{word}**{note}."


def _plain(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.15g}"
