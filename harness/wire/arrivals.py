"""Arrival laws: when requests are due. The text of a law is also the value in the column `load`.

* `closed(8)`: 8 users; each sends the next request when the last one is answered.

The others are open: they send requests independent of the answers.

* `constant(50)`, `poisson(50)`: 50 requests per second, at constant or at random intervals.
* `burst(10, 0.5)`: ten requests at the same time, every 0.5 s.
* `replay(FILE)`: at the times in FILE, in seconds from the start; `recordings` describes the file.
* `own(0.8)`: a Poisson law whose rate is 80 % of the arm's own throughput in a closed loop. `for_arm` returns
  the Poisson law once that throughput is known.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import random
from collections.abc import Iterator
from struct import pack
from typing import NamedTuple

from harness.errors import shortened
from harness.system import text_files
from harness.wire import bounds, law_text, recordings

CLOSED = "closed"
OWN = "own"
HASH_DIGITS = 12


class Law(NamedTuple):
    """An arrival law. `str()` gives the text that `parse` reads."""

    name: str
    first: float = 0.0  # users, requests per second, requests per burst, or share of the throughput
    every_s: float = 0.0  # burst only: seconds between bursts
    file: str = ""  # replay only

    @property
    def is_open(self) -> bool:
        return self.name != CLOSED

    @property
    def is_own(self) -> bool:
        """Whether the rate depends on the arm."""
        return self.name == OWN

    def for_arm(self, throughput_per_s: float) -> Law:
        """Return the law for an arm with this throughput: Poisson instead of `own`, else unchanged."""
        return Law("poisson", min(self.first * throughput_per_s, bounds.PER_S)) if self.is_own else self

    @property
    def users(self) -> int | None:
        """The number of users of a closed loop; None in an open loop."""
        return None if self.is_open else int(self.first)

    @property
    def recorded_texts(self) -> str | None:
        """The file with the texts that a replay sends; None if the law has none."""
        return self.file if self.file and recordings.has_texts(self.file) else None

    @property
    def rate_per_s(self) -> float | None:
        """Mean arrivals per second of an open law; None in a closed loop or if it depends on the arm."""
        if not self.is_open or self.is_own:
            return None
        if self.name == "burst":
            return self.first / self.every_s
        if self.name != "replay":
            return self.first
        times = recordings.times_s(self.file)
        return (len(times) - 1) / (times[-1] - times[0]) if times[-1] > times[0] else float(len(times))

    def __str__(self) -> str:
        if self.name == "replay":
            return f"replay({self.file})"
        if self.name == "burst":
            return f"burst({self.first:g}, {self.every_s:.15g})"
        return f"{self.name}({self.first:.15g})"


def closed(users: int) -> Law:
    """Return the closed loop of this number of users."""
    return Law(CLOSED, float(users))


def check_request_count(law: Law, seconds: float) -> None:
    """Raise ValueError if the law sends more requests in this time than a trial can hold."""
    rate_per_s = None if law.file else law.rate_per_s  # the size of its file limits a replay
    if rate_per_s is not None and rate_per_s * seconds > bounds.REQUESTS:
        raise ValueError(
            f"{seconds:g} s of {law} are {rate_per_s * seconds:.3g} requests; a trial may have at most "
            f"{bounds.REQUESTS:,}"
        )


def parse(text: str) -> Law:
    """Return the law that `text` describes. Raises ValueError if the text is not an arrival law."""
    name, parenthesis, rest = text.strip().partition("(")
    name = name.strip()
    if name not in _NAMES or not parenthesis or not rest.endswith(")"):
        raise ValueError(f"{shortened(text)!r} is not an arrival law; examples: {', '.join(EXAMPLES)}")
    try:
        return _parse_arguments(name, rest[:-1].strip())
    except ValueError as error:
        raise ValueError(f"{shortened(text)!r} is not an arrival law: {error}") from error


OPEN_EXAMPLES = ("constant(50)", "poisson(50)", "burst(10, 0.5)", "replay(FILE)", "own(0.8)")
EXAMPLES = ("closed(8)", *OPEN_EXAMPLES)
_NAMES = {example.partition("(")[0] for example in EXAMPLES}
PATTERN = rf"^ *({'|'.join(sorted(_NAMES - {CLOSED}))}) *\(.+\) *$"  # of an open law, in a JSON Schema


def _parse_arguments(name: str, text: str) -> Law:
    """Return the law of this name with the arguments in `text`."""
    match name:
        case "closed":
            return Law(CLOSED, law_text.users(text, "the number of users"))
        case "own":
            return Law(
                OWN, law_text.number(text, "the share of the arm's own throughput", least=0.01, most=10.0)
            )
        case "burst":
            size, _, every = text.partition(",")
            at_once = law_text.users(size, "the size of a burst")
            law = Law("burst", at_once, law_text.number(every, "the seconds between bursts", least=1e-3))
            law_text.check_range(law.first / law.every_s, "the rate", least=0.0, most=bounds.PER_S)
            return law
        case "replay":
            if not text_files.is_utf8(text) or {"\n", "\r"} & set(text):  # it names the load in a CSV
                raise ValueError("its file name contains a line break or bytes that are not UTF-8")
            recordings.times_s(text)
            return Law("replay", file=text)
        case _:
            return Law(name, law_text.number(text, "the rate", least=1e-3, most=bounds.PER_S))


def due_times_s(law: Law, seed: int) -> Iterator[float]:
    """Yield the due times in ascending order, in seconds from the start. Only a replay ends."""
    assert law.is_open, "in a closed loop a request is due when the last answer is complete"
    assert not law.is_own, "the arm's throughput must be known first"
    match law.name:
        case "constant":
            return (number / law.first for number in itertools.count())
        case "poisson":
            draw = random.Random(seed)  # noqa: S311 - arrivals, not secrets
            return itertools.accumulate(draw.expovariate(law.first) for _ in itertools.count())
        case "burst":
            return (number * law.every_s for number in itertools.count() for _ in range(int(law.first)))
        case _:
            return iter(recordings.times_s(law.file))


def digest(law: Law, seed: int, until_s: float = math.inf, count: int | None = None) -> str:
    """Return a hash of the first `count` due times before `until_s`: the same on any machine.

    It covers the texts that a replay sends at these times.
    """
    schedule = hashlib.sha256()
    times = itertools.takewhile(lambda due_s: due_s < until_s, due_times_s(law, seed))
    texts = None if law.recorded_texts is None else iter(recordings.texts(law.recorded_texts))
    for due_s in itertools.islice(times, count):
        schedule.update(pack("<q", round(due_s * 1e6)))
        if texts is not None:
            text = next(texts).encode()
            schedule.update(pack("<q", len(text)) + text)
    return schedule.hexdigest()[:HASH_DIGITS]
