"""Charts of names that mean something to matplotlib, have no glyph, or are long."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import made_up
import matplotlib as mpl
import pandas as pd
import pytest
from made_up import Point
from matplotlib.figure import Figure

from harness.analysis import summaries
from harness.report.charts import io_distribution, split, timeline
from harness.report.charts.page import LONGEST_LABEL, Page, label

NAMES = [
    r"c$\frac$.txt",
    r"$\invalid{$",
    "$5 and $6",
    r"\sum_{%&#^~",
    "\x1b[31m\u202e\ud800\nb",
    "模型 ☃",
    "x" * 5000,
]


def derived(*names: str) -> pd.DataFrame:
    return summaries.derive(*made_up.run({(name, 2): Point() for name in names}, blocks=1))


def size(figure: Figure) -> tuple[int, int]:
    """Of the picture; as text in it, SVG has comments."""
    figure.savefig(io.BytesIO(), format="svg")
    width, height = figure.canvas.get_width_height()
    return width, height


def test_a_chart_shows_any_name() -> None:
    assert size(io_distribution.draw(derived(*NAMES))) < (2000, 2000)


def test_a_name_that_leaves_no_room_is_drawn_all_the_same() -> None:
    assert size(split.draw(derived("W" * 5000))) < (2000, 2000)


def test_more_arms_than_a_page_has_room_for_are_no_error() -> None:
    figure = timeline.draw(derived(*map(str, range(400))))
    assert figure.texts[0].get_text().startswith("No time-line")


@pytest.mark.parametrize("draw", [timeline.draw, split.draw, io_distribution.draw])
def test_no_chart_takes_a_name_for_a_formula(draw: Callable[[pd.DataFrame], Figure]) -> None:
    figure = draw(derived(r"$\frac$"))
    figure.savefig(page := io.StringIO(), format="svg")
    assert r"$\frac$" in re.findall("<!-- (.*?) -->", page.getvalue())


def test_neither_do_the_settings_of_the_user() -> None:
    with mpl.rc_context({"text.usetex": True, "text.parse_math": True}):
        size(split.draw(derived(r"$\frac$")))


def test_texts_that_came_late_are_no_formulas_either() -> None:
    page = Page()
    axes = page.subplots()
    axes.set_xticks([0, 1], [r"$\frac$", "b"])
    axes.xaxis.set_major_formatter(lambda value, _: r"$\frac$")
    size(page)


def test_a_label_is_one_short_line_of_visible_characters() -> None:
    assert label("a\nb\x1b") == "a␊b␛"
    assert label("x" * LONGEST_LABEL) == "x" * LONGEST_LABEL
    cut = label("a" * 5000 + "b")
    assert len(cut) == LONGEST_LABEL
    assert re.fullmatch("a+…a+b", cut)
