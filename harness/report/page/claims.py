"""The article's claims: each with its verdict, and the measured ratios between their bounds."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from harness.numbers import ratio, ratio_interval
from harness.report.charts.page import positive
from harness.report.page.context import Context
from harness.report.page.drawing import MARK_AT, log_ticks, mark_key, markup, rows_figure, span
from harness.report.page.parts import Panel, Picture, Table
from harness.verdicts import claims_file
from harness.verdicts.claims import tally

_BAND, _MEASURED, _MARK = "#e4e4e4", "#00324f", "#d55e00"
_PUBLISHED: dict[str, Any] = {
    **{"marker": "D", "linestyle": "", "color": _MARK, "markersize": 6.5},
    **{"markerfacecolor": "#ffffff", "markeredgecolor": _MARK, "markeredgewidth": 1.8},
}
_DOT: dict[str, Any] = {"marker": "s", "color": _MEASURED, "markersize": 6.5, "markeredgewidth": 0}


def picture(found: Context) -> Picture | None:
    """A row for each deciding check: the bounds as a band, the published and the measured ratio."""
    checks = found.report.checks
    if checks.empty:
        return None
    deciding = checks[checks["decides"].astype(bool)]
    names = ["published", "measured", "low", "high", "at_least", "at_most"]
    values = positive(deciding[names].to_numpy(float).ravel())
    ends = (min(float(values.min()), 1.0) / 1.3, max(float(values.max()), 1.0) * 1.3)
    half = (len(deciding) + 1) // 2
    parts = [part for part in (deciding.iloc[:half], deciding.iloc[half:]) if len(part)]
    return Picture(
        title=tally(found.report.claims),
        alt="Published and measured ratios of the claims. "
        + " ".join(map(_in_words, deciding.to_dict("records"))),
        panels=[
            Panel(
                f"{part['claim'].iloc[0]} to {part['claim'].iloc[-1]}", _panel(part, ends, f"claims-{number}")
            )
            for number, part in enumerate(parts)
        ],
        table=_checks(checks),
        keys=[
            mark_key("the claim holds here", _BAND, line=9),
            mark_key("published", _MARK, marker="D", hollow=True),
            mark_key("measured", _MEASURED, marker="s", line=2.2),
        ],
        note="Confirmed: the whole interval is inside the band. Refuted: the whole interval is outside. "
        "Without a diamond, the article gives no figure.",
    )


def table(found: Context) -> Table:
    """A row for each claim: its verdict, what it says, and the check that is nearest to its bound."""
    verdicts = found.report.claims.set_index("claim")["verdict"]
    rows = [
        [
            str(row["claim"]),
            str(verdicts[row["claim"]]),
            str(row["text"]),
            f"{row['check']}: {_measured(row)}; bound {row['bounds']}{_of_several(found, row['claim'])}",
        ]
        for row in found.report.nearest_checks.to_dict("records")
    ]
    return Table(["claim", "verdict", "what the article says", "measured [interval]"], rows, words=4)


def _of_several(found: Context, claim: object) -> str:
    checks = found.report.checks
    count = int(((checks["claim"] == claim) & checks["decides"].astype(bool)).sum())
    return f" (the nearest to its bound of {count} checks)" if count > 1 else ""


def source(found: Context) -> str:
    """The article, as the file of claims names it."""
    return f"The article: {claims_file.load(found.report.plan['claims']).source}."


def _panel(checks: pd.DataFrame, ends: tuple[float, float], name: str) -> str:
    names = [f"{row['claim']} {row['check']}" for row in checks.to_dict("records")]
    fig, ax = rows_figure(names, "ratio (log scale)")
    log_ticks(ax, "x", *ends)
    ax.axvline(1.0, color="#555555", linewidth=1.0, zorder=1)
    for row, check in enumerate(checks.to_dict("records")):
        low = ends[0] if math.isnan(check["at_least"]) else check["at_least"]
        high = ends[1] if math.isnan(check["at_most"]) else check["at_most"]
        ax.barh(row + MARK_AT, high - low, left=low, height=0.36, color=_BAND, linewidth=0, zorder=1)
        if math.isfinite(check["published"]):
            ax.plot(check["published"], row + MARK_AT - 0.02, zorder=5, **_PUBLISHED)
        if math.isfinite(check["measured"]):
            span(ax, row + MARK_AT + 0.1, check["low"], check["high"], _MEASURED)
            ax.plot(check["measured"], row + MARK_AT + 0.1, zorder=6, **_DOT)
    ax.set_xlim(*ends)
    return markup(fig, name)


def _in_words(check: dict[Any, Any]) -> str:
    printed = "" if math.isnan(check["published"]) else f", published {ratio(check['published'])}"
    words = f"{_measured(check)}{printed}, bound {check['bounds']}: {check['verdict']}"
    return f"{check['claim']}, {check['check']}: {words}."


def _measured(check: dict[Any, Any]) -> str:
    return ratio_interval(check["measured"], check["low"], check["high"])


def _checks(checks: pd.DataFrame) -> Table:
    return Table(
        ["claim", "check", "verdict", "where", "condition", "published", "measured [interval]", "bound"],
        [
            [
                str(row["claim"]),
                str(row["check"]) + (f" (note: {row['note']})" if row["note"] else ""),
                str(row["verdict"]) if row["decides"] else f"({row['verdict']})",
                str(row["combination"]),
                str(row["condition"]),
                "-" if math.isnan(row["published"]) else ratio(row["published"]),
                ratio_interval(row["measured"], row["low"], row["high"]),
                str(row["bounds"]),
            ]
            for row in checks.to_dict("records")
        ],
        words=5,
    )
