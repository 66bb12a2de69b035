"""The forest chart is checked by what it draws: marks, intervals, bands and words are read back."""

from __future__ import annotations

import io
import math
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from article_world import ARTICLE, EVERY_BLOCK, TRUE_WORLD, checks, false_in
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from harness.report.charts import forest
from harness.verdicts import claims

pytestmark = pytest.mark.integration  # drawing takes long


@pytest.fixture(scope="module")
def evaluated() -> pd.DataFrame:
    return checks(false_in("C6", EVERY_BLOCK))


def axis(table: pd.DataFrame) -> Axes:
    (ax,) = forest.draw(table).axes
    return ax


def words(ax: Axes) -> list[str]:
    return [text.get_text().replace("\n", " ") for text in ax.texts]


def marks(ax: Axes, marker: str) -> list[float]:
    """Return the positions of a shape's marks on the axis, from top to bottom."""
    drawn = [line for line in ax.lines if line.get_marker() == marker]
    ordered = sorted(drawn, key=lambda line: float(np.asarray(line.get_ydata())[0]))
    return [float(x) for line in ordered for x in np.asarray(line.get_xdata())]


def bands(ax: Axes) -> list[tuple[float, float]]:
    drawn = sorted(
        (p for p in ax.patches if type(p) is Rectangle and p.get_zorder() == 2), key=Rectangle.get_y
    )
    return [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in drawn]


def test_every_check_has_its_published_and_its_measured_mark(evaluated: pd.DataFrame) -> None:
    ax = axis(evaluated)
    assert marks(ax, "D") == evaluated["published"].dropna().to_list()
    assert marks(ax, "s") == evaluated["measured"].to_list()
    ends = evaluated[["low", "high"]].to_numpy().ravel()
    assert marks(ax, "|") == ends.tolist()


def test_every_check_has_a_band_where_its_bounds_hold(evaluated: pd.DataFrame) -> None:
    ax = axis(evaluated)
    left, right = ax.get_xlim()
    bounds = [evaluated["at_least"].fillna(left), evaluated["at_most"].fillna(right)]
    assert np.array(bands(ax)) == pytest.approx(np.column_stack(bounds))


def test_every_claim_and_every_verdict_is_written_out(evaluated: pd.DataFrame) -> None:
    said = words(axis(evaluated))
    for claim in ARTICLE.claims:
        assert f"{claim.id}  {claim.text}" in said
        for check in claim.checks:
            assert check.name in said
    expected = [
        row["verdict"] if row["decides"] else f"({row['verdict']})" for row in evaluated.to_dict("records")
    ]
    assert [word for word in said if word.strip("()") in {claims.CONFIRMED, claims.REFUTED}] == expected


def test_rows_do_not_overlap_and_words_stay_on_the_page(evaluated: pd.DataFrame) -> None:
    fig = forest.draw(evaluated)
    fig.draw_without_rendering()
    boxes = [text.get_window_extent() for text in (*fig.axes[0].texts, *fig.texts)]
    width, height = fig.get_size_inches() * fig.dpi
    assert all(box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height for box in boxes)
    clashes = [
        (one, other) for at, one in enumerate(boxes) for other in boxes[at + 1 :] if one.overlaps(other)
    ]
    assert clashes == []


def test_texts_next_to_the_axis_do_not_reach_into_it(evaluated: pd.DataFrame) -> None:
    fig = forest.draw(evaluated)
    fig.draw_without_rendering()
    ax = fig.axes[0]
    inside = ax.get_window_extent()
    names = {check.name for claim in ARTICLE.claims for check in claim.checks}
    labels = [text for text in ax.texts if text.get_text().replace("\n", " ") in names]
    assert len(labels) == len(evaluated)
    assert all(text.get_window_extent().x1 <= inside.x0 for text in labels)


def test_what_was_not_measured_keeps_its_print_and_its_band() -> None:
    table = checks({("inline", 1): TRUE_WORLD["inline", 1]})
    ax = axis(table)
    assert len(marks(ax, "D")) == table["published"].notna().sum()
    assert len(marks(ax, "s")) == table["measured"].notna().sum() == 2
    assert len(bands(ax)) == len(table)
    assert words(ax).count(claims.NOT_TESTED) == (table["decides"] & table["measured"].isna()).sum()


def test_without_an_interval_the_ratio_is_drawn_alone() -> None:
    table = checks(TRUE_WORLD, blocks=1)
    ax = axis(table)
    assert len(marks(ax, "s")) == table["measured"].notna().sum() > 10
    assert all(map(math.isnan, marks(ax, "|")))


def test_an_infinite_ratio_is_written_and_not_drawn(evaluated: pd.DataFrame) -> None:
    table = evaluated.assign(measured=math.inf, low=math.nan, high=math.nan)
    assert marks(axis(table), "s") == []


def test_a_withheld_session_still_shows_its_figures(evaluated: pd.DataFrame) -> None:
    table = evaluated.assign(verdict=claims.WITHHELD)
    assert len(marks(axis(table), "s")) == len(table)
    assert claims.WITHHELD in words(axis(table))


def test_without_claims_the_page_states_that_there_are_none() -> None:
    empty = pd.DataFrame(columns=claims.CHECK_COLUMNS)
    assert "No claims" in forest.draw(empty).texts[0].get_text()


def test_the_same_table_gives_the_same_picture(evaluated: pd.DataFrame) -> None:
    pictures = []
    for _ in range(2):
        stream = io.BytesIO()
        with mpl.rc_context({"svg.hashsalt": "claims"}):
            forest.draw(evaluated).savefig(stream, format="svg", metadata={"Date": None})
        pictures.append(stream.getvalue())
    assert pictures[0] == pictures[1]


def test_it_is_readable_in_grey(evaluated: pd.DataFrame) -> None:
    """Published and measured differ in shape, and either stands out from the band."""

    def lightness(colour: Any) -> float:
        return float(np.dot(mpl.colors.to_rgb(colour), [0.299, 0.587, 0.114]))

    ax = axis(evaluated)
    band = lightness(forest._BAND)
    for marker in ("D", "s"):
        inks = {line.get_markeredgecolor() for line in ax.lines if line.get_marker() == marker}
        inks |= {line.get_color() for line in ax.lines if line.get_marker() == "s" == marker}
        assert all(abs(lightness(ink) - band) > 0.25 for ink in inks if marker == "D" or ink != "none")
