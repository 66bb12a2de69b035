"""When requests are due: arrival laws as data, written as in the column `load`.

closed(8): so many users, each of whom asks again once answered. The open laws ask whatever the answers do:
constant(50) and poisson(50) in requests a second, burst(10, 0.5) ten at once every 0.5 s, replay(FILE) the
seconds from the start that stand in FILE, one in each line. own(0.8) is a Poisson law whose rate is that
share of what the arm itself can do in closed loop; `for_arm` makes it one, once that is known.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import random
from collections.abc import Iterator
from struct import pack
from typing import NamedTuple

from harness.errors import UsageError, shortened
from harness.system import text_files
from harness.wire import bounds

CLOSED = "closed"
OWN = "own"
DIGITS_OF_HASH = 12
MOST_BYTES = 100_000_000  # of a file to replay


class Law(NamedTuple):
    """An arrival law. `str()` gives the text that `parse` reads."""

    name: str
    first: float = 0.0  # users, requests a second, requests at once, or a share
    every_s: float = 0.0  # of a burst
    file: str = ""  # of a replay

    @property
    def is_open(self) -> bool:
        return self.name != CLOSED

    @property
    def is_own(self) -> bool:
        """Whether the rate depends on the arm."""
        return self.name == OWN

    def for_arm(self, throughput_per_s: float) -> Law:
        """The law for an arm that can do so much; itself unless the rate depends on the arm."""
        return Law("poisson", min(self.first * throughput_per_s, bounds.PER_S)) if self.is_own else self

    @property
    def users(self) -> int | None:
        """Closed loop: how many; None in open loop."""
        return None if self.is_open else int(self.first)

    @property
    def rate_per_s(self) -> float | None:
        """Mean arrivals a second that an open law asks for; None in closed loop, or where the arm decides."""
        if not self.is_open or self.is_own:
            return None
        if self.name == "burst":
            return self.first / self.every_s
        if self.name != "replay":
            return self.first
        times = recorded(self.file)
        return (len(times) - 1) / (times[-1] - times[0]) if times[-1] > times[0] else float(len(times))

    def __str__(self) -> str:
        if self.name == "replay":
            return f"replay({self.file})"
        if self.name == "burst":
            return f"burst({self.first:g}, {self.every_s:.15g})"
        return f"{self.name}({self.first:.15g})"


def closed(users: int) -> Law:
    """The closed loop of so many users."""
    return Law(CLOSED, float(users))


def refuse_too_many(law: Law, seconds: float) -> None:
    """ValueError where so many seconds of the law ask for more than a trial can hold."""
    rate_per_s = None if law.file else law.rate_per_s  # of a replay, its file has a size
    if rate_per_s is not None and rate_per_s * seconds > bounds.REQUESTS:
        raise ValueError(
            f"{seconds:g} s of {law} are {rate_per_s * seconds:.3g} requests; a trial has at most "
            f"{bounds.REQUESTS:,}"
        )


def parse(text: str) -> Law:
    """The law that `text` names; ValueError says what is wrong with it."""
    said, opened, rest = text.strip().partition("(")
    name = said.strip()
    if name not in _NAMES or not opened or not rest.endswith(")"):
        raise ValueError(f"{shortened(text)!r} is no arrival law; there are {', '.join(EXAMPLES)}")
    try:
        return _read(name, rest[:-1].strip())
    except ValueError as error:
        raise ValueError(f"{shortened(text)!r} is no arrival law: {error}") from error


EXAMPLES = ("closed(8)", "constant(50)", "poisson(50)", "burst(10, 0.5)", "replay(FILE)", "own(0.8)")
_NAMES = {example.partition("(")[0] for example in EXAMPLES}


def _read(name: str, text: str) -> Law:
    """The law of that name with what stands in its brackets."""
    match name:
        case "closed":
            return Law(CLOSED, _whole(text, "the number of users"))
        case "own":
            return Law(OWN, _number(text, "the share of the arm's own throughput", least=0.01, most=10.0))
        case "burst":
            size, _, every = text.partition(",")
            at_once = _whole(size, "the size of a burst")
            law = Law("burst", at_once, _number(every, "the seconds between bursts", least=1e-3))
            _refuse_outside(law.first / law.every_s, "the rate", least=0.0, most=bounds.PER_S)
            return law
        case "replay":
            if not text_files.is_utf8(text) or {"\n", "\r"} & set(text):  # it names the load in a CSV
                raise ValueError("the name of its file holds a line end, or bytes that are not UTF-8")
            recorded(text)
            return Law("replay", file=text)
        case _:
            return Law(name, _number(text, "the rate", least=1e-3, most=bounds.PER_S))


def due_times_s(law: Law, seed: int) -> Iterator[float]:
    """Seconds from the start at which requests are due, rising; endless but for a replay."""
    assert law.is_open, "in closed loop a request is due when the last answer is done"
    assert not law.is_own, "what the arm can do must be known first"
    match law.name:
        case "constant":
            return (number / law.first for number in itertools.count())
        case "poisson":
            draw = random.Random(seed)  # noqa: S311 - arrivals, not secrets
            return itertools.accumulate(draw.expovariate(law.first) for _ in itertools.count())
        case "burst":
            return (number * law.every_s for number in itertools.count() for _ in range(int(law.first)))
        case _:
            return iter(recorded(law.file))


def digest(law: Law, seed: int, until_s: float = math.inf, count: int | None = None) -> str:
    """Hash of the due times up to `until_s`, of at most `count`: the same schedule has the same, anywhere."""
    found = hashlib.sha256()
    times = itertools.takewhile(lambda due_s: due_s < until_s, due_times_s(law, seed))
    for due_s in itertools.islice(times, count):
        found.update(pack("<q", round(due_s * 1e6)))
    return found.hexdigest()[:DIGITS_OF_HASH]


def recorded(file: str) -> list[float]:
    """The due times of a replay, in seconds, sorted; ValueError when it cannot be used."""
    times = []
    try:
        text = text_files.read_text(file, "load", MOST_BYTES)
    except UsageError as error:
        raise ValueError(error.what.removesuffix(".")) from error
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            times.append(_number(line.strip(), f"line {number} of {file}", least=0.0, most=1e7))
    if len(times) < 2:
        raise ValueError(f"{file} has fewer than two due times")
    return sorted(times)


def _whole(text: str, what: str) -> float:
    number = _number(text, what, least=1, most=bounds.USERS)
    if number != int(number):
        raise ValueError(f"{what} is a whole number, not {shortened(text)!r}")
    return number


def _number(text: str, what: str, *, least: float, most: float = 1e6) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{what} is a number, not {shortened(text)!r}") from None
    _refuse_outside(number, what, least=least, most=most)
    return number


def _refuse_outside(number: float, what: str, *, least: float, most: float) -> None:
    if not least <= number <= most:
        raise ValueError(f"{what} is from {least:g} to {most:g}, not {number:g}")
