"""The results of a sweep: its settings, the best first, and the effect of each axis averaged over the others.

Pure: frames in, frames and sentences out, no disk. The unit is the block; every setting is in every block.
`harness.report.choice` decides which setting is the best, and which ones the blocks do not separate from it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from harness.analysis import stats
from harness.analysis.stats import Verdict
from harness.numbers import counted, interval, rate, users
from harness.report import choice, levels
from harness.report.choice import Choice, Inputs, Why
from harness.verdicts import best_arm, same_work
from harness.verdicts.best_arm import LATENCIES, RATES
from harness.verdicts.metrics import Metric

BEST, RIVAL, BEATEN, LEFT_OUT, WITHHELD = "best", "not told apart", "beaten", "left out", "withheld"
STALLS = "holds the event loop"  # however good its figures
MISSES = "misses an objective"
UNJUDGED = "not judged"  # no other setting does the same work, or too few blocks
STRATEGY = "strategy"

EFFECT_MEANINGS = {  # column → what it means; docs/reference/csv.md shows it
    "axis": "The setting that varies.",
    "value": "One of its values.",
    "against": "Its first value, with which that one is compared.",
    "load": "The arrival law that decides.",
    "metric": "What is compared.",
    "ratio": "Value over first value: geometric mean over the settings of the other axes that have both.",
    "low": "Lower end of the ratio's interval.",
    "high": "Upper end of the ratio's interval.",
    "least": "Lowest ratio of one such setting; far from `most` if the axes depend on each other.",
    "most": "Highest ratio of one such setting.",
    "settings": "Pairs of settings that differ in this axis only.",
    "blocks": "Blocks that count.",
    "p_holm": "p after Holm's correction over the rows of one metric.",
    "verdict": "What may be said of it.",
}
EFFECTS = list(EFFECT_MEANINGS)


MEANINGS = {  # column of sweep.csv → what it means
    "place": "best, not told apart, beaten, holds the event loop, misses an objective, left out, withheld "
    "or not judged.",
    "arm": "Name of the arm. Next to it: a column for each axis, with the value of this setting.",
    "load": "The arrival law, such as closed(8).",
    "throughput_per_s": "Good answers per second: geometric mean over blocks.",
    "throughput_per_s_low": "Lower end of its interval.",
    "throughput_per_s_high": "Upper end of its interval.",
    "latency_p50_ms": "Median latency: geometric mean over blocks.",
    "latency_p50_ms_low": "Lower end of its interval.",
    "latency_p50_ms_high": "Upper end of its interval.",
    "latency_p99_ms": "99th percentile of the pooled requests.",
    "latency_p99_ms_low": "Lower end of its interval.",
    "latency_p99_ms_high": "Upper end of its interval.",
    "client_limited": "Whether the load generator limits the arm, so that its figures are bounds.",
    "cpu_ms_per_request": "CPU of the server and its workers, per request.",
    "memory_uss_mb": "Memory of the arm's own (USS) after its last trial; MB of 1e6 bytes.",
    "failed_trials": "Trials that failed or are invalid.",
}


@dataclasses.dataclass(frozen=True)
class Swept:
    """The results. `table`: a row per setting and load; `effects`: a row per axis, value and metric."""

    axes: tuple[str, ...]  # the columns of `table` that make up a setting
    load: str  # the load that decides
    metric: Metric  # the metric that decides
    table: pd.DataFrame  # `MEANINGS`, with the axes after the arm
    effects: pd.DataFrame  # EFFECTS
    sentences: tuple[str, ...]  # the best setting, one sentence for each kind of work


def find(found: Inputs, summary: pd.DataFrame, chosen: Choice) -> Swept | None:
    """The results of the run's sweep; None if the run has no sweep, or no figures of it.

    `summary` has all arms, those that do other work too; `chosen` is the report's choice.
    """
    swept = (found.record.get("plan") or {}).get("sweep")
    if not swept or summary.empty:
        return None
    settings = _settings(found.record, swept)
    summary = summary[summary["arm"].isin(list(settings.of))]
    if summary.empty:
        return None
    load, metric = (chosen.load, chosen.metric) if chosen.load else best_arm.decisive(summary)
    groups = _groups(found, summary, list(settings.of), chosen)
    table = _table(found, summary, settings, _places(found, settings, groups))
    order = {arm: place for place, arm in enumerate(_by_figure(table, load, metric))}
    table = table.sort_values(
        ["load", "arm"],
        key=lambda cells: cells.map(order) if cells.name == "arm" else cells.ne(load),
        kind="stable",
    )
    answered = summary[(summary["load"] == load) & (summary["latency_p50_ms"] < math.inf)]
    sound = list(answered["arm"].astype(str))
    effects = [row for by in (RATES, LATENCIES) for row in _of_metric(found, settings, sound, load, by)]
    return Swept(
        axes=settings.axes,
        load=load,
        metric=metric,
        table=table.reset_index(drop=True),
        effects=pd.DataFrame(effects, columns=EFFECTS),
        sentences=tuple(
            _sentence(found, group, settings) for group in groups[: 1 if found.withheld else None]
        ),
    )


def words(setting: Mapping[str, Any], axes: tuple[str, ...]) -> str:
    """A setting in words, such as "workers=2, torch_threads=1"."""
    options = [f"{name}={setting[name]}" for name in axes if name in setting and name != STRATEGY]
    return ", ".join([*([str(setting[STRATEGY])] if STRATEGY in axes else []), *options])


class _Settings(NamedTuple):
    axes: tuple[str, ...]
    of: dict[str, dict[str, Any]]  # arm → axis → value, strategy included

    def words(self, arm: str) -> str:
        return words(self.of[arm], self.axes)


def _settings(record: Mapping[str, Any], swept: Mapping[str, Any]) -> _Settings:
    planned = {arm["name"]: arm.get("strategy", "") for arm in record["plan"].get("arms", [])}
    of = {
        arm: {STRATEGY: planned[arm], **values} for arm, values in swept["settings"].items() if arm in planned
    }
    several = len({setting[STRATEGY] for setting in of.values()}) > 1
    return _Settings(tuple(name for name in (STRATEGY, *swept["axes"]) if name != STRATEGY or several), of)


# -- the best ------------------------------------------------------------------------------------------


class _Group(NamedTuple):
    """Settings that do the same work, and the choice among them."""

    arms: list[str]
    reference: str  # the plan's, or the first of these arms
    choice: Choice


def _groups(found: Inputs, summary: pd.DataFrame, arms: list[str], chosen: Choice) -> list[_Group]:
    """One choice for each kind of work: a model of half the size is faster, whatever the setting.

    The group with the report's reference has the report's own choice.
    """
    groups: list[list[str]] = []
    for arm in arms:
        same = (group for group in groups if not same_work.other_work(found.record, group[0], [arm]))
        group = next(same, None)
        if group is None:
            groups.append([arm])
        else:
            group.append(arm)
    return [_group(found, summary, group, chosen) for group in groups]


def _group(found: Inputs, summary: pd.DataFrame, arms: list[str], chosen: Choice) -> _Group:
    if found.reference in arms:
        return _Group(arms, found.reference, chosen)
    tables = dataclasses.replace(found.tables, summary=summary[summary["arm"].isin(arms)])
    return _Group(arms, arms[0], choice.choose(found._replace(tables=tables, reference=arms[0])))


def _places(found: Inputs, settings: _Settings, groups: list[_Group]) -> dict[str, str]:
    if found.withheld:
        return dict.fromkeys(settings.of, WITHHELD)
    places = dict.fromkeys(settings.of, LEFT_OUT)
    for group in groups:
        chosen = group.choice
        places |= {arm: MISSES for arm in group.arms if choice.missed_by(found, arm, chosen.load)}
        if chosen.why in (Why.ONE_ARM, Why.TOO_FEW_BLOCKS, Why.OWN_LOADS):
            places |= dict.fromkeys(group.arms, UNJUDGED)
        places |= dict.fromkeys(chosen.judged, BEATEN)
        if chosen.take not in chosen.stalls:
            places |= dict.fromkeys(chosen.stalls, STALLS)
        places |= dict.fromkeys([*chosen.unsettled, *chosen.equivalent], RIVAL)
        places |= {chosen.take: BEST} if chosen.take else {}
    return places


def _sentence(found: Inputs, group: _Group, settings: _Settings) -> str:
    chosen = group.choice
    if found.withheld:
        return "No setting is called the best, because the session is noisy."
    if not chosen.take:
        return _none(found, group, settings)
    name, metric = settings.words(chosen.take), chosen.metric
    sign = -1.0 if metric.lower_is_better else 1.0
    value = found.rules.effect(sign * chosen.logs[chosen.take].dropna())  # over blocks, as in the table
    unit = "requests/s" if metric is RATES else "ms (median)"
    bound = ("at least " if metric is RATES else "at most ") if chosen.take in chosen.limited else ""
    shown = f"{bound}{rate(value.ratio)} {unit}{interval(value.low, value.high, rate)}"
    parts = [
        f"Best: {name}: {shown} at {users(chosen.load)}",
        _gain(group, settings.words(group.reference)),
        _not_separated(chosen, settings),
    ]
    if chosen.luck >= choice.LUCK_WORTH_NAMING:
        share = f"{100 * chosen.luck:.0f} %"
        parts.append(
            f"about {share} of its figure is luck, as it is the best of {len(chosen.judged)} settings"
        )
    if chosen.limited:
        several = counted(len(chosen.limited), "setting")
        parts.append(f"the client limits {several}, so those figures are bounds")
    return f"{'; '.join(filter(None, parts))}."


def _none(found: Inputs, group: _Group, settings: _Settings) -> str:
    """Why no setting of a group is the best."""
    if group.choice.why is Why.ONE_ARM:
        return f"{settings.words(group.arms[0])} is compared with no other setting: none does the same work."
    if group.choice.why is Why.TOO_FEW_BLOCKS:
        return f"No setting is called the best: {group.choice.blocks} blocks are too few."
    if group.choice.why is Why.OWN_LOADS:
        return "No setting is called the best: each has a load of its own."
    at = f" at {users(group.choice.load)}" if group.choice.load else ""
    if any(choice.missed_by(found, arm, group.choice.load) for arm in group.arms):
        return f"No setting keeps every objective{at}, so none is the best."
    return f"No setting gave good answers in every block{at}, so none is the best."


def _gain(group: _Group, reference: str) -> str:
    """The ratio to the first setting: the mean of the blocks' log ratios, as in the comparisons."""
    chosen = group.choice
    if chosen.take == group.reference:
        return "the other settings are compared with it" if len(group.arms) > 1 else ""
    if chosen.over(chosen.take, group.reference) is None:
        return ""
    return f"{chosen.times(chosen.take, group.reference)} that of {reference}"


def _not_separated(chosen: Choice, settings: _Settings) -> str:
    rivals = [*chosen.unsettled, *chosen.equivalent]
    if not rivals and chosen.fastest in chosen.stalls and chosen.take not in chosen.stalls:
        return f"{settings.words(chosen.fastest)} is faster, but blocks the event loop"
    if not rivals:
        return "better than all others" if len(chosen.judged) > 1 else ""
    named = [settings.words(arm) for arm in rivals[:3]]
    more = len(rivals) - len(named)
    tail = f" and {more} more" if more else ""
    return f"{chosen.blocks} blocks do not separate it from: {' / '.join(named)}{tail}"


# -- the settings --------------------------------------------------------------------------------------


def _table(
    found: Inputs, summary: pd.DataFrame, settings: _Settings, places: Mapping[str, str]
) -> pd.DataFrame:
    merged = summary.merge(found.tables.costs, on=["arm", "load"], how="left")
    kept = ["cpu_ms_per_request", "memory_uss_mb", "failed_trials"]
    rows = [
        {
            "place": places[arm],
            "arm": arm,
            **{axis: settings.of[arm].get(axis, "") for axis in settings.axes},
            "load": load,
            **levels.of_cell(found, arm, load),
            "client_limited": (arm, load) in found.side.limited,
            **{name: row[name] for name in kept},
        }
        for row in merged.to_dict("records")
        for arm, load in [(str(row["arm"]), str(row["load"]))]
    ]
    return pd.DataFrame(rows)


def _by_figure(table: pd.DataFrame, load: str, metric: Metric) -> list[str]:
    """The arms, the best first; the ones left out come last."""
    here = table[table["load"] == load]
    name = "throughput_per_s" if metric is RATES else "latency_p50_ms"
    here = here.assign(_last=here["place"].isin([MISSES, LEFT_OUT]))
    return list(
        here.sort_values(["_last", name], ascending=[True, metric.lower_is_better], kind="stable")["arm"]
    )


# -- the axes ------------------------------------------------------------------------------------------


def _of_metric(
    found: Inputs, settings: _Settings, sound: list[str], load: str, metric: Metric
) -> list[dict[str, Any]]:
    figures = best_arm.figures(found.side, sound, load, metric)
    sign = -1.0 if metric.lower_is_better else 1.0
    logs = figures.replace([math.inf, -math.inf], math.nan).dropna() * sign
    known = {arm: setting for arm, setting in settings.of.items() if arm in logs.columns and len(logs)}
    rows = [
        {"axis": axis, "value": value, "against": first, "load": load, "metric": metric.name}
        | _effect(found, logs, pairs, load, metric)
        for axis in settings.axes
        for first, value in _steps(known, axis)
        if (pairs := _pairs(known, axis, first, value))
    ]
    for row, p in zip(rows, stats.holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = float(p)
        if str(row["verdict"]).startswith((Verdict.FASTER, Verdict.SLOWER)) and not p < found.rules.alpha:
            row["verdict"] = Verdict.INCONCLUSIVE
    return rows


def _steps(settings: Mapping[str, Mapping[str, Any]], axis: str) -> list[tuple[Any, Any]]:
    """Pairs of the first value and each other value."""
    values = list(dict.fromkeys(setting[axis] for setting in settings.values() if axis in setting))
    return [(values[0], value) for value in values[1:]]


def _pairs(
    settings: Mapping[str, Mapping[str, Any]], axis: str, first: Any, value: Any
) -> list[tuple[str, str]]:
    """Pairs of settings that differ in this axis only: (with the first value, with the other)."""
    rests = {
        arm: frozenset((name, known) for name, known in setting.items() if name != axis)
        for arm, setting in settings.items()
    }
    bases = {rests[arm]: arm for arm, setting in settings.items() if setting.get(axis) == first}
    others = [arm for arm, setting in settings.items() if setting.get(axis) == value]
    return [(bases[rests[arm]], arm) for arm in others if rests[arm] in bases]


def _effect(
    found: Inputs, logs: pd.DataFrame, pairs: list[tuple[str, str]], load: str, metric: Metric
) -> dict[str, Any]:
    gaps = np.stack([(logs[arm] - logs[base]).to_numpy(dtype=np.float64) for base, arm in pairs])
    effect = found.rules.effect(gaps.mean(axis=0))
    verdict = stats.verdict(
        effect,
        found.rules.delta(metric.name),
        lower_is_better=metric.lower_is_better,
        noisy=bool(found.withheld),
    )
    if any((arm, load) in found.side.limited for pair in pairs for arm in pair):
        verdict = verdict if verdict == Verdict.NOISY else Verdict.CLIENT_LIMITED
    each = np.exp(gaps.mean(axis=1))
    return {
        "ratio": effect.ratio,
        "low": effect.low,
        "high": effect.high,
        "least": float(each.min()),
        "most": float(each.max()),
        "settings": len(pairs),
        "blocks": effect.blocks,
        "p": effect.p,
        "verdict": verdict,
    }
