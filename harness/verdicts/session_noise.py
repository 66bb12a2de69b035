"""Was the session noisy? By how far a twin, the reference arm run again, differs from the reference. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.stats import ALPHA, FEWEST_BLOCKS_FOR_VERDICT, Verdict
from harness.numbers import counted, percent
from harness.verdicts.metrics import Rules


def noisy(table: pd.DataFrame) -> str:
    """What was seen that withholds the verdicts, and what to do; "" when the session was quiet."""
    withheld = table.loc[table["verdict"] == Verdict.NOISY, "reason"]
    return str(withheld.iloc[0]) if len(withheld) else ""


def twin_sentence(table: pd.DataFrame) -> str:
    """How far the same code differed from itself, at most; "" when there was no twin to tell."""
    seen = _twins(table).dropna(subset=["ratio"])
    if seen.empty:
        return ""
    worst = seen.loc[_size(seen["ratio"]).idxmax()]
    most = percent(float(_size(worst["ratio"])))
    return f"The twin of {worst['reference']} differs by at most {most} ({worst['load']})"


def twin_doubt(table: pd.DataFrame, twin: str | None) -> str:
    """Why a twin that was asked for could not have shown a noisy session; "" when it could, or was not asked.

    No verdict is withheld for that: it is not known that the session was noisy.
    """
    if twin is None:
        return ""
    seen = _twins(table)
    told = seen[np.isfinite(seen["ratio"].astype(float)) & seen["p"].notna()]
    if told.empty:
        return f"The twin could not tell: {twin} has no comparison with a finite ratio."
    most = int(told["blocks"].max())
    if most >= FEWEST_BLOCKS_FOR_VERDICT:
        return ""
    return (
        f"The twin could not tell: it has {counted(most, 'block')}, and a difference takes "
        f"{FEWEST_BLOCKS_FOR_VERDICT}, so a noisy session would look quiet. Run more blocks (--blocks)."
    )


def twin_differs(rows: list[dict[str, Any]], rules: Rules) -> str:
    """The sentence that says so, of the load where it differs most; "" when the session was quiet."""
    seen = [row for row in rows if row["twin"] and row["primary"]]
    judged = [row for row in seen if row["blocks"] >= FEWEST_BLOCKS_FOR_VERDICT and row["p_holm"] < ALPHA]
    beyond = [row for row in judged if _size(row["ratio"]) > rules.delta_latency]
    if not beyond:
        return ""
    worst = max(beyond, key=lambda row: float(_size(row["ratio"])))
    way = "slower" if worst["ratio"] > 1 else "faster"
    return (
        f"The session is noisy: the twin of {worst['reference']}, which is the same code run again, is "
        f"{percent(float(_size(worst['ratio'])))} {way} at {worst['load']} (p = {worst['p_holm']:.2g}, "
        f"Holm over {counted(len(seen), 'load')}), and {100 * rules.delta_latency:g} % is what counts as "
        "different. No verdict is given: close other programs, use a quieter machine, or run more blocks "
        "(--blocks)."
    )


def _twins(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["twin"].astype(bool) & table["primary"].astype(bool)]


def _size(ratio: Any) -> Any:
    """How far a ratio, or a column of them, is from 1, whichever way: 1 / 1.05 is as far as 1.05."""
    return np.exp(np.abs(np.log(ratio))) - 1.0
