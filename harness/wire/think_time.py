"""Think time: how long a user of a closed loop pauses between an answer and the next request, in seconds.

* `0.5` or `fixed(0.5)`: always half a second.
* `exponential(0.5)`: drawn at random; half a second in the mean.
* `uniform(0.2, 1)`: drawn at random; all times from 0.2 s to 1 s are equally likely.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

from harness.errors import shortened
from harness.wire import bounds, law_text

EXAMPLES = ("0.5", "exponential(0.5)", "uniform(0.2, 1)")
FIXED, EXPONENTIAL, UNIFORM = "fixed", "exponential", "uniform"
LEAST_S = 1e-3  # a shorter sleep is not exact
_NAMES = (FIXED, EXPONENTIAL, UNIFORM)
PATTERN = rf"^ *(({'|'.join(_NAMES)}) *\(.+\)|[0-9][0-9.e-]*|\.[0-9][0-9e-]*) *$"  # in a JSON Schema


class ThinkTime(NamedTuple):
    """A law of think times. `str()` gives the text that `parse` reads."""

    name: str
    first_s: float  # the time, its mean, or its least value
    most_s: float = 0.0  # uniform only

    @property
    def mean_s(self) -> float:
        return (self.first_s + self.most_s) / 2 if self.name == UNIFORM else self.first_s

    def draw_s(self, chance: random.Random) -> float:
        """Return one think time."""
        if self.name == EXPONENTIAL:
            return chance.expovariate(1 / self.first_s)
        return chance.uniform(self.first_s, self.most_s) if self.name == UNIFORM else self.first_s

    def __str__(self) -> str:
        most = f", {self.most_s:.15g}" if self.name == UNIFORM else ""
        return f"{self.name}({self.first_s:.15g}{most})"


def parse(text: str) -> ThinkTime:
    """Return the think time that `text` describes. Raises ValueError if it describes none."""
    name, parenthesis, rest = text.strip().partition("(")
    try:
        if not parenthesis:
            return ThinkTime(FIXED, _seconds(name, "the think time"))
        if name.strip() in _NAMES and rest.endswith(")"):
            return _parse_arguments(name.strip(), rest[:-1])
    except ValueError as error:
        raise ValueError(f"{shortened(text)!r} is not a think time: {error}") from error
    raise ValueError(f"{shortened(text)!r} is not a think time; examples: {', '.join(EXAMPLES)}")


def _parse_arguments(name: str, text: str) -> ThinkTime:
    if name != UNIFORM:
        what = "the mean of the think times" if name == EXPONENTIAL else "the think time"
        return ThinkTime(name, _seconds(text, what))
    least, _, most = text.partition(",")
    least_s = law_text.number(least, "the shortest think time", least=0.0, most=bounds.A_DAY_S)
    most_s = _seconds(most, "the longest think time")
    if most_s <= least_s:
        raise ValueError("the longest think time must be above the shortest")
    return ThinkTime(UNIFORM, least_s, most_s)


def _seconds(text: str, what: str) -> float:
    return law_text.number(text, what, least=LEAST_S, most=bounds.A_DAY_S)


def pauses_s(law: ThinkTime, seed: int, user: int) -> Iterator[float]:
    """Yield the pauses of one user, in seconds, without end: the first comes before the first request.

    The same seed gives the same pauses. The first is a random share of a think time: users who began with a
    request, or with whole fixed think times, would all send at the same moments.
    """
    chance = random.Random(f"{seed} {user}")  # noqa: S311 - pauses, not secrets
    yield chance.random() * law.draw_s(chance)
    while True:
        yield law.draw_s(chance)
