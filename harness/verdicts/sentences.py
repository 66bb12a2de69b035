"""The words of a comparison's rows: the sentence that leads a row, and why it has no verdict. Pure."""

from __future__ import annotations

import math
from typing import Any

from harness.analysis.stats import FEWEST_BLOCKS_FOR_VERDICT, Verdict
from harness.numbers import counted, figure, fine_ratio
from harness.verdicts.metrics import Rules, unit


def sentence(row: dict[str, Any], rules: Rules) -> str:
    """What the row says: the ratio, the values, the interval, the blocks and the verdict."""
    metric, found = row["_metric"], row["_found"]
    if row["verdict"] == Verdict.INVALID:
        return f"{_versus(row)}: invalid, as {row['reason']}."
    if found.trouble:
        return f"{_versus(row)}: no ratio, as {found.trouble}, {_blocks(row)}: {_ending(row, rules)}."
    what = unit(metric.name)
    phrase = metric.phrase or f"{{arm}}'s {metric.label} is {{ratio}}x that of {{reference}}"
    said = phrase.format(arm=row["arm"], ratio=fine_ratio(row["ratio"]), reference=row["reference"])
    values = (
        f"{figure(row['arm_value'])} against {figure(row['reference_value'])} {what} "
        f"({figure(row['difference'], sign='+')} {what})"
    )
    saturated = f"; {row['_saturated']}" if row["_saturated"] else ""
    ending = f"{_ending(row, rules)}{saturated}"
    return f"{said} at {row['load']}: {values}, {_interval(row)}, {_blocks(row)}: {ending}."


def _versus(row: dict[str, Any]) -> str:
    return f"{row['arm']} against {row['reference']} at {row['load']}, {row['_metric'].label}"


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
    said = f"{verdict}: {row['why']}" if row["why"] else str(verdict)
    if math.isnan(row["blocks_most"]):
        return said
    delta = 100 * rules.delta(row["metric"])
    least, most = int(row["blocks_least"]), int(row["blocks_most"])
    needed = str(least) if least == most else f"{least} to {most}"
    return f"{said}; an interval of ±{delta:g} % would take {needed} blocks"


def why(row: dict[str, Any], rules: Rules) -> str:
    """What keeps a row from a verdict, or from the size of its difference; "" where nothing does."""
    margin = f"{100 * rules.delta(row['metric']):g} %"
    if row["verdict"] in (Verdict.FASTER_SIZE_UNCERTAIN, Verdict.SLOWER_SIZE_UNCERTAIN):
        return f"the interval touches {margin}"
    if row["verdict"] == Verdict.CLIENT_LIMITED:
        return str(row["_limited"])
    if row["verdict"] != Verdict.INCONCLUSIVE:
        return ""
    if row["blocks"] < FEWEST_BLOCKS_FOR_VERDICT:
        return f"{counted(row['blocks'], 'block')}, and a verdict takes {FEWEST_BLOCKS_FOR_VERDICT}"
    if math.isnan(row["low"]) or math.isnan(row["high"]):
        return "there is no interval"
    if row["low"] <= 1 <= row["high"]:
        return f"the interval holds 1 and exceeds ±{margin}"
    if math.isnan(row["p_holm"]):
        return "there is no p"
    return f"p = {row['p_holm']:.2g} after correction for {counted(row['_family'], 'comparison')}"
