"""The texts that a table is filled with: all different, and the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator

_PARTS = (
    (
        "How much is",
        "Who repaired",
        "Where can I see",
        "Why did they close",
        "When did they paint",
        "Is anybody using",
    ),
    ("the old", "the new", "the small", "the famous", "the second", "the other", "the nearest", "the empty"),
    ("bridge", "library", "bakery", "harbour", "tram line", "market hall", "lighthouse", "orchard", "quarry"),
    (
        "in London",
        "in Lisbon",
        "near the river",
        "behind the station",
        "on the hill",
        "by the sea",
        "in Oslo",
    ),
)
_FROM_YEAR, _YEARS = 1500, 500


def distinct(seed: int, number: int) -> Iterator[str]:
    """`number` sentences, at most 1,512,000."""
    sizes = [len(part) for part in _PARTS]
    total = _YEARS
    for size in sizes:
        total *= size
    for place in random.Random(seed).sample(range(total), number):  # noqa: S311 - texts, not secrets
        yield _sentence(place)


def _sentence(place: int) -> str:
    """The sentence at this place of all, the parts being its digits."""
    place, year = divmod(place, _YEARS)
    words = []
    for part in _PARTS:
        place, digit = divmod(place, len(part))
        words.append(part[digit])
    return f"{' '.join(words)} in {_FROM_YEAR + year}?"
