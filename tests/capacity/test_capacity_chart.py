"""The chart of a capacity run: its intervals are the table's, and its legend names every mark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.analysis import slo
from harness.capacity import chart
from harness.capacity.arms import AT_LEAST, AT_MOST

P95 = slo.parse(["p95 < 100 ms"])
KINDS = [("search", False, False), ("given up", False, True), ("confirming", True, False)]


def windows_of(arm: str, kinds: Sequence[tuple[str, bool, bool]] = KINDS) -> pd.DataFrame:
    """Two windows of each kind, between 30 and 65 requests a second."""
    rates = [30.0, 65.0, 40.0, 60.0, 45.0, 50.0]
    rows = [
        {"rate_per_s": rates.pop(0), "confirms": confirms, "gave_up": gave_up}
        for _, confirms, gave_up in kinds
        for _ in range(2)
    ]
    return pd.DataFrame(rows).assign(arm=arm, latency_ms=90.0)


def row_of(arm: str = "thread", **other: Any) -> dict[str, Any]:
    known = {"capacity_per_s": 59.3, "low_per_s": 53.7, "high_per_s": 87.6, "bound": "", "knee_per_s": 50.0}
    return {"arm": arm, "not_judged": ""} | known | other


def drawn(*rows: dict[str, Any], windows: pd.DataFrame | None = None) -> Figure:
    found = pd.concat([windows_of(row["arm"]) for row in rows]) if windows is None else windows
    return chart.draw(found, pd.DataFrame(rows), P95)


def panel_of(figure: Figure) -> Axes:
    (panel,) = [ax for ax in figure.axes if ax.get_visible()]
    return panel


def band_of(panel: Axes) -> tuple[float, float]:
    (left, _), (right, _) = (
        panel.patches[0].get_extents().transformed(panel.transData.inverted()).get_points()
    )
    return left, right


def arrows_of(panel: Axes) -> list[str]:
    return [str(line.get_marker()) for line in panel.lines if line.get_label() == "open end"]


def legend_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def labels_of(figure: Figure) -> set[str]:
    every = [artist.get_label() for panel in figure.axes for artist in (*panel.lines, *panel.patches)]
    return {str(label) for label in every}


def test_the_band_is_the_interval_of_the_table_even_beyond_the_highest_rate_tried() -> None:
    panel = panel_of(drawn(row_of()))
    assert band_of(panel) == pytest.approx((53.7, 87.6))
    assert panel.get_xlim()[0] == 0
    assert panel.get_xlim()[1] > 87.6
    assert arrows_of(panel) == []


def test_an_interval_without_an_upper_end_fills_the_panel_and_has_an_arrow() -> None:
    figure = drawn(row_of(bound=AT_LEAST, high_per_s=math.inf))
    panel = panel_of(figure)
    assert band_of(panel) == pytest.approx((53.7, panel.get_xlim()[1]))
    assert arrows_of(panel) == [">"]
    assert "open end" in legend_of(figure)


def test_an_interval_without_a_lower_end_begins_at_the_axis_and_has_an_arrow() -> None:
    figure = drawn(row_of(bound=AT_MOST, low_per_s=0.0, high_per_s=61.0))
    assert band_of(panel_of(figure)) == pytest.approx((0.0, 61.0))
    assert arrows_of(panel_of(figure)) == ["<"]


def test_an_arm_that_failed_at_every_rate_shows_the_rate_its_capacity_is_below() -> None:
    nothing = row_of(bound=AT_MOST, capacity_per_s=math.nan, low_per_s=0.0, high_per_s=27.1)
    panel = panel_of(drawn(nothing))
    assert panel.get_title(loc="right") == "below 27.1/s"
    assert band_of(panel) == pytest.approx((0.0, 27.1))


def test_without_an_interval_there_is_no_band() -> None:
    figure = drawn(row_of(low_per_s=math.nan, high_per_s=math.nan))
    assert not panel_of(figure).patches
    assert "interval" not in legend_of(figure)


@pytest.mark.parametrize("kinds", [KINDS, KINDS[:1], KINDS[1:], KINDS[2:]])
@pytest.mark.parametrize("high", [87.6, math.inf])
def test_the_legend_names_exactly_the_marks_that_are_drawn(
    kinds: list[tuple[str, bool, bool]], high: float
) -> None:
    figure = drawn(row_of(high_per_s=high), windows=windows_of("thread", kinds))
    assert set(legend_of(figure)) == labels_of(figure)
    assert {name for name, *_ in kinds} <= labels_of(figure)


@pytest.mark.parametrize("high", [87.6, math.inf])
def test_the_legend_stays_on_the_page(high: float) -> None:
    figure = drawn(row_of(high_per_s=high))
    figure.draw_without_rendering()
    assert figure.legends[0].get_window_extent().x1 < figure.bbox.x1


def test_a_mark_of_one_panel_only_is_in_the_legend_too() -> None:
    windows = pd.concat([windows_of("thread", KINDS[:1]), windows_of("batch", KINDS[1:2])])
    figure = drawn(row_of(), row_of("batch", high_per_s=math.inf), windows=windows)
    assert set(legend_of(figure)) == labels_of(figure) >= {"search", "given up", "open end"}
