"""How the parts of a request look in every chart, and the colours and sizes that charts share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from matplotlib.artist import Artist
from matplotlib.patches import Patch

TEXT_PT, SMALL_PT = 12.0, 10.0
GREY = "#555555"
INK = "#00324F"  # what was measured
MARK_COLOUR = "#D55E00"  # what measured figures are compared with


class Stretch(NamedTuple):
    """One part of a request's time, and its look in every chart."""

    column: str
    label: str
    colour: str
    hatch: str
    ink: str  # colour of the hatch lines


# In the order of a request's life, except for the last, which surrounds the others.
# The first three add up to what the route waits for the model, the article's "Model".
STRETCHES = (
    Stretch("queue_ms", "queue", "#DCEEF9", "///", "#7FA8C2"),
    Stretch("model_ms", "worker", "#005A91", "", "#FFFFFF"),
    Stretch("resume_ms", "way back", "#111111", "", "#FFFFFF"),
    Stretch("io_ms", "I/O", "#E69F00", "\\\\\\", "#FFDE9C"),
    Stretch("outside_ms", "outside", "#FFFFFF", "xxx", "#8C8C8C"),
)
UNSPLIT = Stretch("service_ms", "service time, not split", "#A8A8A8", "|||", "#707070")


def look(part: Stretch) -> dict[str, Any]:
    """Keyword arguments for a patch or a bar."""
    return {
        "facecolor": part.colour,
        "edgecolor": part.ink if part.hatch else part.colour,  # a patch draws its hatch in this colour
        "hatch": part.hatch,
        "linewidth": 0.6,
        "label": part.label,
    }


def patches(parts: Iterable[Stretch]) -> list[Artist]:
    """Legend entries for these parts."""
    return [Patch(**look(part)) for part in parts]
