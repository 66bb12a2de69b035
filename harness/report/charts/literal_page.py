"""A matplotlib figure whose texts show as they are: no formulas, whatever signs a name has."""

from __future__ import annotations

import warnings
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.text import Text

from harness.system.printable import one_line

LONGEST_LABEL = 60  # characters


def label(text: str, longest: int = LONGEST_LABEL) -> str:
    """A text from elsewhere on one line, without hidden characters, its middle left out where it is long."""
    text = one_line(text)
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]}…{text[half + 1 - longest :]}"


class Page(Figure):
    """Its texts hold no mathtext or TeX; a sign that the font lacks is drawn as a box.

    Labels that leave no room for the axes are drawn over them.
    """

    def draw(self, renderer: Any) -> None:
        """Called for every way to save or show it; labels of ticks are made only here."""
        for text in self.findobj(Text):
            text.set_parse_math(False)
            text.set_usetex(False)
        plain = matplotlib.rc_context({"text.parse_math": False, "text.usetex": False})
        with plain, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from|constrained_layout not", UserWarning)
            super().draw(renderer)
