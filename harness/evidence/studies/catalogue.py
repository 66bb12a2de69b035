"""All studies. Each yields rows, then makes a table, a description and results of them.

Also renders a study as a page and as a JSON document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pandas as pd

from harness.evidence.check.bench import Result
from harness.evidence.page import Made, beginning
from harness.evidence.page import as_json as document
from harness.evidence.studies import (
    capacity,
    choosing,
    coverage,
    queueing,
    searching,
    sessions,
    stopping,
    twin_blocks,
    verdicts,
)
from harness.run.listener import Listener


class Wanted(NamedTuple):
    """The size of a study; None: the default, as the method requires."""

    sessions: int | None = None
    seconds: float | None = None
    workload: str | None = None
    twins: Path | None = None  # the rows of the study `twin-blocks`
    runs: tuple[Path, ...] | None = None  # recorded runs

    def given(self) -> dict[str, Any]:
        """The options that are set."""
        return {name: value for name, value in self._asdict().items() if value is not None}


class Study(NamedTuple):
    """One study. `defaults` are the flags that it takes."""

    title: str
    defaults: Wanted
    each: Callable[..., Iterable[Any]]  # yields rows as they are finished; takes those flags and a listener
    row: type  # of the rows
    table: Callable[[pd.DataFrame], str]
    describe: Callable[[pd.DataFrame], str]
    judge: Callable[[pd.DataFrame], list[Result]]
    also: tuple[str, ...] = ()  # flags that it takes, without a default

    def wanted(self, options: Wanted) -> Wanted:
        """Fill in the defaults. Raises ValueError with the name of a flag that this study does not take."""
        for name in options.given():
            if getattr(self.defaults, name) is None and name not in self.also:
                raise ValueError(f"--{name}")
        return self.defaults._replace(**options.given())

    def rows(self, wanted: Wanted, listener: Listener) -> Iterable[Any]:
        """Run the study in this size."""
        return self.each(**wanted.given(), listener=listener)


class _StudyModule(Protocol):
    """A module that is one study."""

    @property
    def each(self) -> Callable[..., Iterable[Any]]: ...
    @property
    def Row(self) -> type: ...
    def table(self, found: pd.DataFrame, /) -> str: ...
    def describe(self, found: pd.DataFrame, /) -> str: ...
    def judge(self, found: pd.DataFrame, /) -> list[Result]: ...


def _study(module: _StudyModule, title: str, defaults: Wanted, also: tuple[str, ...] = ()) -> Study:
    made = Study(title, defaults, module.each, module.Row, module.table, module.describe, module.judge)
    return made._replace(also=also)


STUDIES: dict[str, Study] = {
    "coverage": _study(
        coverage, "Coverage: how often the intervals cover the truth, simulated", Wanted(sessions=2000)
    ),
    "verdicts": _study(
        verdicts, "Verdicts: which test decides with few blocks, simulated", Wanted(sessions=2000)
    ),
    "twins": Study(
        "Twins: the same code against itself",
        Wanted(sessions=200),
        sessions.each_twin,
        sessions.Session,
        sessions.verdict_table,
        sessions.describe_twins,
        lambda found: [sessions.judge_twins(found)],
    ),
    "power": Study(
        "Power: is a slow-down of 10 % found?",
        Wanted(sessions=50),
        sessions.each_slowed,
        sessions.Session,
        sessions.verdict_table,
        sessions.describe_power,
        lambda found: [sessions.judge_power(found)],
    ),
    "windows": Study(
        "Windows: few long ones or many short ones?",
        Wanted(seconds=48.0, workload="synthetic"),
        sessions.each_window,
        sessions.Session,
        sessions.window_table,
        sessions.describe_windows,
        lambda found: [],  # noqa: ARG005 - nothing is judged
    ),
    "twin-blocks": _study(
        twin_blocks, "Twin blocks: sessions of the same code, recorded block by block", Wanted(sessions=100)
    ),
    "stopping": _study(
        stopping,
        "Stopping: how far to trust runs that stop early",
        Wanted(sessions=2000),
        also=("twins", "runs"),
    ),
    "queue": _study(queueing, "Queue: the measured wait against queueing theory", Wanted(seconds=600.0)),
    "search": _study(
        searching,
        "Search: simulated sessions of `execbench capacity` with a known truth",
        Wanted(sessions=200),
    ),
    "capacity": _study(
        capacity, "Capacity: one worker against the prediction of M/D/1", Wanted(seconds=400.0)
    ),
    "choosing": _study(choosing, "Choosing: does `sweep --slo` find the best setting?", Wanted(sessions=20)),
}


# -- as a page and as a document ---------------------------------------------------------------------------


def command(name: str, wanted: Wanted) -> str:
    """The command line with every number, so that it makes the same table again."""
    flags = [_flag(*given) for given in wanted.given().items()]
    return " ".join(["execbench study", name, *flags])


def _flag(name: str, value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(_flag(name.removesuffix("s"), one) for one in value)
    return f"--{name} {value if isinstance(value, str | Path) else format(value, '.15g')}"


def render(name: str, study: Study, how: Made, found: pd.DataFrame, *, partial: bool) -> str:
    """Render the page. `partial`: the study was stopped before its end."""
    stopped = f"stopped after {len(found)} rows, so this is not the study." if partial else ""
    lines = beginning(study.title, how, name, stopped)
    lines += [study.table(found), study.describe(found), ""]
    lines += [_verdict(result) for result in study.judge(found)]
    return "\n".join(lines).rstrip() + "\n"


def as_json(name: str, study: Study, how: Made, found: pd.DataFrame, *, partial: bool) -> dict[str, Any]:
    """The study as one JSON document; NaN becomes null."""
    return {
        "study": name,
        **document(how, found, partial=partial),
        "says": study.describe(found),
        "judged": [result._asdict() for result in study.judge(found)],
    }


def _verdict(result: Result) -> str:
    word = "passed" if result.passed else "failed"
    note = f" ({result.note})" if result.note else ""
    return f"* {result.name}, {result.goal}: {result.measured}: **{word}**{note}."
