"""Which studies there are, each by the same verbs: rows as they come, then a table, a text, a judgement."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pandas as pd

from harness.evidence.check import Listener, Result
from harness.evidence.studies import capacity, coverage, queueing, searching, sessions, verdicts
from harness.numbers import percent


class Wanted(NamedTuple):
    """How much of a study; None: as much as the method asks for."""

    sessions: int | None = None
    seconds: float | None = None
    workload: str | None = None


class Study(NamedTuple):
    """One study. `defaults` are the flags that it takes."""

    title: str
    defaults: Wanted
    rows: Callable[[Wanted, Listener], Iterator[Any]]  # dataclasses, each as soon as it is finished
    frame: Callable[[Any], pd.DataFrame]  # of such rows
    table: Callable[[pd.DataFrame], str]
    say: Callable[[pd.DataFrame], str]
    judge: Callable[[pd.DataFrame], list[Result]]

    def wanted(self, asked: Wanted) -> Wanted:
        """What was asked for, else the defaults. ValueError names a flag that is not for this study."""
        for name, value in asked._asdict().items():
            if value is not None and getattr(self.defaults, name) is None:
                raise ValueError(f"--{name}")
        chosen = {name: value for name, value in asked._asdict().items() if value is not None}
        return self.defaults._replace(**chosen)


def _simulated(run: Callable[..., pd.DataFrame]) -> Callable[[Wanted, Listener], Iterator[Any]]:
    """All rows at once: a simulation that is stopped keeps nothing, and takes a minute or two to repeat."""

    def rows(wanted: Wanted, listener: Listener) -> Iterator[Any]:
        found = run(wanted.sessions or 0, progress=lambda done, total: listener.stage(f"cell {done}/{total}"))
        for row in found.itertuples(index=False, name=None):
            yield dict(zip(found.columns, row, strict=True))

    return rows


def _say_coverage(found: pd.DataFrame) -> str:
    means, tails = found[found["figure"] == "mean"], found[found["figure"] != "mean"]
    drift = means["generator"].str.startswith("drift")
    used = tails[tails["method"] == next(iter(coverage.METHODS))]
    calm = means[~drift]
    return (
        f"Of means over blocks, the 95 % interval covers {_range(calm['coverage'])} where blocks are "
        f"independent and {_range(means[drift]['coverage'])} where they drift; the warning fires in "
        f"{_range(calm['drift_fires'])} and {_range(means[drift]['drift_fires'])} of the data sets. Two "
        f"arms alike are called faster or slower in {percent(calm['beyond'].max())} at most, drift apart. "
        f"Of tails, the interval in use covers {_range(used['coverage'])}."
    )


def _judge_nothing(found: pd.DataFrame) -> list[Result]:  # noqa: ARG001 - the studies' signature
    return []


def _range(values: pd.Series[float]) -> str:
    return f"{percent(values.min())} to {percent(values.max())}" if len(values) else "nothing"


STUDIES: dict[str, Study] = {
    "coverage": Study(
        "Coverage: how often the intervals hold the truth, simulated",
        Wanted(sessions=2000),
        _simulated(coverage.run),
        pd.DataFrame,
        coverage.table,
        _say_coverage,
        coverage.judge,
    ),
    "verdicts": Study(
        "Verdicts: which test decides with few blocks, simulated",
        Wanted(sessions=2000),
        _simulated(verdicts.run),
        pd.DataFrame,
        verdicts.table,
        verdicts.say,
        verdicts.judge,
    ),
    "twins": Study(
        "Twins: the same code against itself",
        Wanted(sessions=200),
        lambda wanted, listener: sessions.each_twin(wanted.sessions or 0, listener),
        sessions.frame,
        sessions.verdict_table,
        sessions.say_twins,
        lambda found: [sessions.judge_twins(found)],
    ),
    "power": Study(
        "Power: is a slow-down of 10 % found?",
        Wanted(sessions=50),
        lambda wanted, listener: sessions.each_slowed(wanted.sessions or 0, listener),
        sessions.frame,
        sessions.verdict_table,
        sessions.say_power,
        lambda found: [sessions.judge_power(found)],
    ),
    "windows": Study(
        "Windows: few long ones or many short ones?",
        Wanted(seconds=48.0, workload="synthetic"),
        lambda wanted, listener: sessions.each_window(
            wanted.seconds or 0.0, listener, wanted.workload or "synthetic"
        ),
        sessions.frame,
        sessions.window_table,
        sessions.say_windows,
        _judge_nothing,
    ),
    "queue": Study(
        "Queue: the measured wait against queueing theory",
        Wanted(seconds=600.0),
        lambda wanted, listener: queueing.each(seconds=wanted.seconds or 0.0, listener=listener),
        queueing.frame,
        queueing.queue_table,
        queueing.say,
        queueing.judge,
    ),
    "search": Study(
        "Search: simulated sessions of `execbench capacity`, whose truth is known",
        Wanted(sessions=200),
        lambda wanted, listener: searching.each(wanted.sessions or 0, listener),
        searching.frame,
        searching.show,
        searching.say,
        searching.judge,
    ),
    "capacity": Study(
        "Capacity: one worker, and what M/D/1 predicts of it",
        Wanted(seconds=400.0),
        lambda wanted, listener: capacity.each(wanted.seconds or 0.0, listener),
        capacity.frame,
        capacity.show,
        capacity.say,
        capacity.judge,
    ),
}
