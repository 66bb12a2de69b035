"""Whether the session was noisy: how far the twin, the reference run again, differs from it. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.stats import ALPHA, FEWEST_BLOCKS_FOR_VERDICT, Verdict
from harness.numbers import counted, percent, users
from harness.verdicts.metrics import Rules


def noisy(table: pd.DataFrame) -> str:
    """Why the verdicts are withheld, and what to do; "" if the session was quiet."""
    withheld = table.loc[table["verdict"] == Verdict.NOISY, "reason"]
    return str(withheld.iloc[0]) if len(withheld) else ""


def twin_differences(table: pd.DataFrame) -> dict[str, float]:
    """Load → how far the twin differs from the reference, as a share; empty without a twin."""
    seen = _twins(table).dropna(subset=["ratio"])
    return {str(row["load"]): float(_size(row["ratio"])) for row in seen.to_dict("records")}


def twin_sentence(table: pd.DataFrame) -> str:
    """The largest difference between the twin and the reference; "" without a twin."""
    seen = _twins(table).dropna(subset=["ratio"])
    if seen.empty:
        return ""
    worst = seen.loc[_size(seen["ratio"]).idxmax()]
    most = percent(float(_size(worst["ratio"])))
    return f"The twin of {worst['reference']} differs by up to {most} ({users(worst['load'])})"


def twin_doubt(table: pd.DataFrame, twin: str | None) -> str:
    """Why the twin could not have shown a noisy session; "" if it could, or there is no twin.

    This withholds no verdict: the session may have been quiet.
    """
    if twin is None:
        return ""
    seen = _twins(table)
    finite = seen[np.isfinite(seen["ratio"].astype(float)) & seen["p"].notna()]
    if finite.empty:
        return f"The twin cannot show whether the session was noisy: {twin} has no finite ratio."
    most = int(finite["blocks"].max())
    if most >= FEWEST_BLOCKS_FOR_VERDICT:
        return ""
    return (
        f"The twin cannot show whether the session was noisy: it has {counted(most, 'block')}, and "
        f"a difference needs {FEWEST_BLOCKS_FOR_VERDICT}. Run more blocks (--blocks)."
    )


def twin_differs(rows: list[dict[str, Any]], rules: Rules) -> str:
    """The sentence for a noisy session, about the load where the twin differs most; "" if it was quiet."""
    seen = [row for row in rows if row["twin"] and row["primary"]]
    judged = [row for row in seen if row["blocks"] >= FEWEST_BLOCKS_FOR_VERDICT and row["p_holm"] < ALPHA]
    beyond = [row for row in judged if _size(row["ratio"]) > rules.delta_latency]
    if not beyond:
        return ""
    worst = max(beyond, key=lambda row: float(_size(row["ratio"])))
    direction = "slower" if worst["ratio"] > 1 else "faster"
    return (
        f"The session is noisy: the twin of {worst['reference']}, which is the same code run again, is "
        f"{percent(float(_size(worst['ratio'])))} {direction} at {users(worst['load'])} "
        f"(p = {worst['p_holm']:.2g}, Holm over {counted(len(seen), 'load')}), "
        f"more than the {100 * rules.delta_latency:g} % that count as a difference. "
        "No verdict is given: close other programs, use a quieter machine, or run more blocks "
        "(--blocks)."
    )


def _twins(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["twin"].astype(bool) & table["primary"].astype(bool)]


def _size(ratio: Any) -> Any:
    """How far a ratio, or a column of ratios, is from 1 in either direction: 1 / 1.05 is as far as 1.05."""
    return np.exp(np.abs(np.log(ratio))) - 1.0
