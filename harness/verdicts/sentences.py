"""The words of a comparison: each row's sentence, why it has no verdict, and a legend. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from harness.analysis.stats import FEWEST_BLOCKS_FOR_VERDICT, Verdict
from harness.numbers import counted, figure, fine_ratio, users
from harness.verdicts.metrics import Rules, unit

_SIZE_UNCERTAIN = (Verdict.FASTER_SIZE_UNCERTAIN, Verdict.SLOWER_SIZE_UNCERTAIN)


def sentence(row: dict[str, Any], rules: Rules) -> str:
    """The row in words: the ratio, the values, the interval, the blocks and the verdict."""
    metric, found = row["_metric"], row["_found"]
    if row["verdict"] == Verdict.INVALID:
        return f"{_versus(row)}: invalid, because {row['reason']}."
    if found.trouble:
        return f"{_versus(row)}: no ratio, because {found.trouble}, {_blocks(row)}: {_ending(row, rules)}."
    what = unit(metric.name)
    phrase = metric.phrase or f"{{arm}}'s {metric.label} is {{ratio}}x that of {{reference}}"
    ratio = phrase.format(arm=row["arm"], ratio=fine_ratio(row["ratio"]), reference=row["reference"])
    values = (
        f"{figure(row['arm_value'])} against {figure(row['reference_value'])} {what} "
        f"({figure(row['difference'], sign='+')} {what})"
    )
    saturated = f"; {row['_saturated']}" if row["_saturated"] else ""
    ending = f"{_ending(row, rules)}{saturated}"
    return f"{ratio} at {users(row['load'])}: {values}, {_interval(row)}, {_blocks(row)}: {ending}."


def _versus(row: dict[str, Any]) -> str:
    return f"{row['arm']} against {row['reference']} at {users(row['load'])}, {row['_metric'].label}"


def _interval(row: dict[str, Any]) -> str:
    if math.isnan(row["low"]) or math.isnan(row["high"]):
        return "no interval from so few blocks"
    low, high = fine_ratio(row["low"]), fine_ratio(row["high"])
    return f"{100 * row['level']:g} % interval of the ratio {low} to {high}"


def _blocks(row: dict[str, Any]) -> str:
    arm, reference = row["_found"].blocks
    return f"n = {counted(arm, 'block')}" if arm == reference else f"n = {arm} and {reference} blocks"


def _ending(row: dict[str, Any], rules: Rules) -> str:
    verdict, effect = row["verdict"], row["_found"].effect
    if verdict == Verdict.EQUIVALENT:
        delta = 100 * rules.delta(row["metric"])
        inside = f"90 % interval {fine_ratio(effect.low_90)} to {fine_ratio(effect.high_90)}"
        return f"equivalent within {delta:g} % ({inside})"
    if verdict == Verdict.NOISY:
        return "noisy session, no verdict"
    words = f"{verdict} ({row['why']})" if row["why"] else str(verdict)
    if math.isnan(row["blocks_most"]):
        return words
    delta = 100 * rules.delta(row["metric"])
    least, most = int(row["blocks_least"]), int(row["blocks_most"])
    needed = str(least) if least == most else f"{least} to {most}"
    return f"{words}; an interval of ±{delta:g} % would need {needed} blocks"


def why(row: dict[str, Any], rules: Rules) -> str:
    """Why the verdict is inconclusive, or the size of the difference uncertain; else ""."""
    margin = f"{100 * rules.delta(row['metric']):g} %"
    if row["verdict"] in _SIZE_UNCERTAIN:
        return f"the difference may be smaller than {margin}"
    if row["verdict"] == Verdict.CLIENT_LIMITED:
        return str(row["_limited"])
    if row["verdict"] != Verdict.INCONCLUSIVE:
        return ""
    if row["blocks"] < FEWEST_BLOCKS_FOR_VERDICT:
        return f"{counted(row['blocks'], 'block')}; a verdict needs {FEWEST_BLOCKS_FOR_VERDICT}"
    if math.isnan(row["low"]) or math.isnan(row["high"]):
        return "there is no interval"
    if _is_wide(row):
        return f"the interval contains 1 and exceeds ±{margin}"
    if math.isnan(row["p_holm"]):
        return "there is no p-value"
    return f"p = {row['p_holm']:.2g} after correction for {counted(row['_family'], 'comparison')}"


def is_in_legend(row: Mapping[Any, Any]) -> bool:
    """Whether `legend` gives the reason for this row's verdict."""
    return row["verdict"] in _SIZE_UNCERTAIN or _is_wide(row)


def legend(rows: Iterable[Mapping[Any, Any]], rules: Rules) -> list[str]:
    """What "size uncertain" and "inconclusive" mean in these rows of latency and throughput, a line each."""
    rows = list(rows)
    latency, rate = (f"{100 * delta:g} %" for delta in (rules.delta_latency, rules.delta_throughput))
    lines = []
    if any(row["verdict"] in _SIZE_UNCERTAIN for row in rows):
        lines.append(f"size uncertain: the difference may be under {latency} of latency or {rate} of req/s")
    if any(map(_is_wide, rows)):
        lines.append(
            f"inconclusive: the interval contains 1 and exceeds ±{latency} (latency) or ±{rate} (req/s)"
        )
    return lines


def _is_wide(row: Mapping[Any, Any]) -> bool:
    """Whether a row is inconclusive because its interval contains 1 and is too wide to be equivalent."""
    enough = row["blocks"] >= FEWEST_BLOCKS_FOR_VERDICT
    return bool(row["verdict"] == Verdict.INCONCLUSIVE and enough and row["low"] <= 1 <= row["high"])
