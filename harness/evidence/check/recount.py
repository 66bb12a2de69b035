"""Recount the figures of a run's report from its two CSVs, without any of the code that made the report.

Uses the standard library's csv, numpy's percentile and scipy's t interval; the rules are those of the method,
implemented a second time. The plan's criteria are not applied, so the run must have no excluded block.
"""

from __future__ import annotations

import csv
import json
import math
import statistics
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats

Line = dict[str, str]  # of a CSV
Cell = tuple[str, str]  # arm, load
Figures = dict[str, float]

FEWEST = {5: 64, 50: 1, 90: 64, 95: 64, 99: 662}  # requests below which a percentile is not shown
PERCENTS = {"latency": (5, 50, 90, 95, 99), "io": (5, 50, 90, 95, 99), "dispatch_lag": (5, 50, 95, 99)}
USUAL_PERCENTS = (5, 50, 95)
FLAT = 1e-12  # log ratios that differ by less differ by rounding only


class Comparison(NamedTuple):
    """Reported numbers compared with the recount."""

    compared: int
    worst: float  # relative error; infinite if only one of two is NaN or infinite
    where: str  # the number with that error
    unknown: list[str]  # reported, but without a recount


def compare(reported: dict[Cell, Figures], counted: dict[Cell, Figures]) -> Comparison:
    """Compare every reported number with the recount; a cell on one side only is an error."""
    worst, where, compared, unknown = 0.0, "", 0, set()
    for cell in sorted(reported.keys() | counted.keys()):
        if cell not in reported or cell not in counted:
            return Comparison(compared, math.inf, f"{cell} is on one side only", [])
        for name, value in reported[cell].items():
            if name not in counted[cell]:
                unknown.add(name)
                continue
            compared += 1
            error = relative_error(value, counted[cell][name])
            if error > worst:
                worst, where = error, f"{name} of {cell[0]}, {cell[1]}"
    return Comparison(compared, worst, where, sorted(unknown))


def relative_error(value: float, truth: float) -> float:
    """|value / truth − 1|; 0 if both are NaN or the same infinity, infinite if only one is."""
    if value == truth or (math.isnan(value) and math.isnan(truth)):
        return 0.0
    if not (math.isfinite(value) and math.isfinite(truth)):
        return math.inf
    # for durations in ms whose truth is 0: anything below a picosecond is 0
    return abs(value - truth) / max(abs(truth), 1e-9)


def count(folder: Path) -> dict[Cell, Figures]:
    """Arm and load → the figures of the summary, and of the comparison with the reference arm."""
    trials = [line for line in _lines(folder / "trials.csv") if int(line["block"]) > 0]
    requests = [line for line in _lines(folder / "requests.csv") if line["phase"] != "ping"]
    plan = json.loads((folder / "run.json").read_text())["plan"]
    reference = plan["reference"] or plan["arms"][0]["name"]
    return {
        cell: _figures_of(cell, trials, requests) | _effects(cell, reference, trials, requests)
        for cell in {_cell(trial) for trial in trials}
    }


def _lines(path: Path) -> list[Line]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def _cell(line: Line) -> Cell:
    return line["arm"], line["load"]


def _figures_of(cell: Cell, trials: list[Line], requests: list[Line]) -> Figures:
    its_trials = [trial for trial in trials if _cell(trial) == cell]
    numbers = {trial["trial"] for trial in its_trials}
    its_requests = [request for request in requests if request["trial"] in numbers]
    rows = [request for request in its_requests if request["phase"] == "measure"]
    sound = [trial for trial in its_trials if trial["state"] == "ok"]
    return {
        "blocks": len({trial["block"] for trial in sound}),
        "failed_trials": len(its_trials) - len(sound),
        "requests": len(rows),
        "failed": sum(row["error"] != "" for row in rows),
        "window_s": _median([(end - begin) / 1e3 for begin, end in map(_window, sound)]),
        "throughput_per_s": _throughput(sound, its_requests),
        "answered_per_s": _throughput(sound, its_requests, failed_too=True),
        "rate_per_s": float(sound[0]["rate_per_s"] or "nan") if sound else math.nan,
        **{name: value for metric in _METRICS for name, value in _metric_figures(metric, rows).items()},
    }


def _throughput(trials: list[Line], requests: list[Line], *, failed_too: bool = False) -> float:
    """The median throughput over trials."""
    return _median(
        [_throughput_of(trial, _requests_of(trial, requests), failed_too=failed_too) for trial in trials]
    )


def _requests_of(trial: Line, requests: list[Line]) -> list[Line]:
    return [row for row in requests if row["trial"] == trial["trial"]]


def _median(values: list[float]) -> float:
    return statistics.median(values) if values else math.nan


def _window(trial: Line) -> tuple[float, float]:
    return float(trial["window_start_ms"]), float(trial["window_end_ms"])


def _throughput_of(trial: Line, requests: list[Line], *, failed_too: bool = False) -> float:
    """Good answers per second: in a closed loop by Little's law, in an open loop those within the window."""
    counted = [request for request in requests if failed_too or request["error"] == ""]
    begin, end = _window(trial)
    if trial["load"].startswith("closed("):
        rows = [request for request in requests if request["phase"] == "measure"]
        in_flight_ms = math.fsum(_latency(row) for row in rows)
        answers = sum(row["phase"] == "measure" for row in counted)
        users_in_requests = math.fsum(_inside(row, begin, end) for row in requests) / (end - begin)
        return answers * users_in_requests / in_flight_ms * 1e3
    return sum(begin < float(request["done_ms"]) <= end for request in counted) / (end - begin) * 1e3


def _inside(request: Line, begin: float, end: float) -> float:
    """The part of the request within the window, in ms."""
    return max(0.0, min(float(request["done_ms"]), end) - max(float(request["due_ms"]), begin))


def _metric_figures(metric: str, rows: list[Line]) -> Figures:
    of = _METRICS[metric]
    values = [of(row) for row in rows if row["error"] == ""]
    known = [value for value in values if not math.isnan(value)]
    ranked = known + [math.inf for row in rows if row["error"] and metric == "latency"]
    return {
        f"{metric}_mean_ms": math.fsum(known) / len(known) if known else math.nan,
        **{
            f"{metric}_p{percent}_ms": linear_percentile(ranked, percent)
            if len(ranked) >= FEWEST[percent]
            else math.nan
            for percent in PERCENTS.get(metric, USUAL_PERCENTS)
        },
    }


def linear_percentile(values: Sequence[float], percent: float) -> float:
    """numpy's percentile, but infinite if a failure (an infinite value) takes part, where numpy gives NaN.

    Whether a failure takes part is decided with Fractions, because a float may round to the next rank.
    """
    rank = math.ceil((len(values) - 1) * Fraction(str(percent)) / 100)
    finite = [value for value in values if math.isfinite(value)]
    if rank >= len(finite):
        return math.inf
    padding = [max(finite)] * (len(values) - len(finite))  # above the rank, so without influence
    return float(np.percentile([*finite, *padding], percent))


# -- against the reference -----------------------------------------------------------------------------

EFFECTS = {("latency_ms", "median"): "median latency", ("throughput_per_s", "rate"): "throughput"}
EFFECT_FIGURES = ("blocks", "arm_value", "reference_value", "ratio", "low", "high", "p")
LEVEL = 0.95


def _effects(cell: Cell, reference: str, trials: list[Line], requests: list[Line]) -> Figures:
    """The effects over the blocks in which both arms have an ok trial; empty for the reference itself."""
    arm, load = cell
    if arm == reference:
        return {}
    of = {name: _by_block((name, load), trials, requests) for name in (arm, reference)}
    blocks = sorted(of[arm].keys() & of[reference].keys())
    return {
        f"{metric} {name}": value
        for place, metric in enumerate(EFFECTS.values())
        for name, value in _effect(*([of[who][block][place] for block in blocks] for who in of)).items()
    }


def _by_block(cell: Cell, trials: list[Line], requests: list[Line]) -> dict[str, tuple[float, float]]:
    """Block → median latency and throughput of its ok trial."""
    figures = {}
    for trial in trials:
        if _cell(trial) == cell and trial["state"] == "ok":
            its = _requests_of(trial, requests)
            waits = [math.inf if row["error"] else _latency(row) for row in its if row["phase"] == "measure"]
            figures[trial["block"]] = linear_percentile(waits, 50), _throughput_of(trial, its)
    return figures


def _effect(arm: list[float], reference: list[float]) -> Figures:
    """Geometric means, their ratio, its t interval and its t test over blocks."""
    if not arm:
        return dict.fromkeys(EFFECT_FIGURES, math.nan) | {"blocks": 0.0}
    logs = [[_log(value) for value in side] for side in (arm, reference)]
    ratios = [one - other for one, other in zip(*logs, strict=True)]
    means = (sum(values) / len(values) for values in (*logs, ratios))  # fmean refuses inf - inf
    values = (float(len(arm)), *map(_exp, means), *_t(ratios))
    return dict(zip(EFFECT_FIGURES, values, strict=True))


def _log(value: float) -> float:
    return math.log(value) if value else -math.inf


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


def _t(ratios: list[float]) -> tuple[float, float, float]:
    """Interval and p. If the log ratios differ by rounding only, p is 1 if they are 0, else 0."""
    if len(ratios) < 2 or not all(map(math.isfinite, ratios)):
        return math.nan, math.nan, math.nan
    middle, error = statistics.fmean(ratios), statistics.stdev(ratios) / math.sqrt(len(ratios))
    low, high = stats.t.interval(LEVEL, len(ratios) - 1, loc=middle, scale=error)
    is_flat = max(ratios) - min(ratios) <= FLAT
    p = abs(middle) <= FLAT if is_flat else stats.ttest_1samp(ratios, 0.0).pvalue
    return _exp(float(low)), _exp(float(high)), float(p)


# -- metrics -------------------------------------------------------------------------------------------


def _number(name: str) -> Callable[[Line], float]:
    return lambda line: float(line.get(name) or "nan")  # older runs lack some columns


def _latency(line: Line) -> float:
    return float(line["done_ms"]) - float(line["due_ms"])


def _service(line: Line) -> float:
    return float(line["done_ms"]) - float(line["sent_ms"])


_ROUTE = ("queue", "model", "resume")
_METRICS: dict[str, Callable[[Line], float]] = {
    "latency": _latency,
    "service": _service,
    "dispatch_lag": lambda line: float(line["sent_ms"]) - float(line["due_ms"]),
    "route_model": lambda line: sum(map(float, (line[f"{name}_ms"] or "nan" for name in _ROUTE))),
    "queue": _number("queue_ms"),
    "model": _number("model_ms"),
    "model_cpu": _number("model_cpu_ms"),
    "resume": _number("resume_ms"),
    "io": _number("io_ms"),
    "io_server": _number("io_server_ms"),
    "io_stall": lambda line: _number("io_ms")(line) - _number("io_server_ms")(line),
    "handler": _number("handler_ms"),
    "time_to_first_byte": lambda line: _number("first_byte_ms")(line) - float(line["due_ms"]),
    "outside": lambda line: _service(line) - _number("handler_ms")(line),
}
