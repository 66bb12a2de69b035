"""When requests are due: arrival laws as data, written as in the column `load`.

closed(8): so many users, each of whom asks again once answered. The open laws ask whatever the answers do:
constant(50) and poisson(50) in requests a second, burst(10, 0.5) ten at once every 0.5 s, replay(FILE) the
seconds from the start that stand in FILE, one in each line. own(0.8) is a Poisson law whose rate is that
share of what the arm itself can do in closed loop; `for_arm` makes it one, once that is known.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Callable, Iterable, Iterator
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
        return _mean_rate(recorded(self.file)) if self.name == "replay" else self.first

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
    name, opened, rest = text.strip().partition("(")
    read = _READERS.get(name.strip())
    if read is None or not opened or not rest.endswith(")"):
        raise ValueError(f"{shortened(text)!r} is no arrival law; there are {', '.join(EXAMPLES)}")
    try:
        law = read(rest[:-1].strip())
    except ValueError as error:
        raise ValueError(f"{shortened(text)!r} is no arrival law: {error}") from error
    return law


EXAMPLES = ("closed(8)", "constant(50)", "poisson(50)", "burst(10, 0.5)", "replay(FILE)", "own(0.8)")


def due_times_s(law: Law, seed: int) -> Iterator[float]:
    """Seconds from the start at which requests are due, rising; endless but for a replay."""
    assert law.is_open, "in closed loop a request is due when the last answer is done"
    assert not law.is_own, "what the arm can do must be known first"
    return _SCHEDULES[law.name](law, seed)


def digest(law: Law, seed: int, until_s: float) -> str:
    """Hash of the due times up to `until_s`: the same schedule has the same hash, on any machine."""
    times = itertools.takewhile(lambda due: due < until_s, due_times_s(law, seed))
    return _hash(round(due * 1e6) for due in times)


def digest_of_first(law: Law, seed: int, count: int) -> str:
    """Hash of the first `count` due times."""
    return _hash(round(due * 1e6) for due in itertools.islice(due_times_s(law, seed), count))


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


def _hash(microseconds: Iterable[int]) -> str:
    found = hashlib.sha256()
    for moment in microseconds:
        found.update(pack("<q", moment))
    return found.hexdigest()[:DIGITS_OF_HASH]


def _mean_rate(times: list[float]) -> float:
    return (len(times) - 1) / (times[-1] - times[0]) if times[-1] > times[0] else float(len(times))


def _constant(law: Law, seed: int) -> Iterator[float]:  # noqa: ARG001 - the schedules' signature
    return (number / law.first for number in itertools.count())


def _poisson(law: Law, seed: int) -> Iterator[float]:
    draw = random.Random(seed)  # noqa: S311 - arrivals, not secrets
    return itertools.accumulate(draw.expovariate(law.first) for _ in itertools.count())


def _burst(law: Law, seed: int) -> Iterator[float]:  # noqa: ARG001 - the schedules' signature
    return (number * law.every_s for number in itertools.count() for _ in range(int(law.first)))


def _replay(law: Law, seed: int) -> Iterator[float]:  # noqa: ARG001 - the schedules' signature
    return iter(recorded(law.file))


_SCHEDULES: dict[str, Callable[[Law, int], Iterator[float]]] = {
    "constant": _constant,
    "poisson": _poisson,
    "burst": _burst,
    "replay": _replay,
}


def _read_users(text: str) -> Law:
    return Law(CLOSED, _whole(text, "the number of users"))


def _read_rate(name: str) -> Callable[[str], Law]:
    return lambda text: Law(name, _number(text, "the rate", least=1e-3, most=bounds.PER_S))


def _read_share(text: str) -> Law:
    return Law(OWN, _number(text, "the share of the arm's own throughput", least=0.01, most=10.0))


def _read_burst(text: str) -> Law:
    size, _, every = text.partition(",")
    law = Law(
        "burst", _whole(size, "the size of a burst"), _number(every, "the seconds between bursts", least=1e-3)
    )
    _refuse_outside(law.first / law.every_s, "the rate", least=0.0, most=bounds.PER_S)
    return law


def _read_replay(text: str) -> Law:
    if any("\ud800" <= char <= "\udfff" or char in "\n\r" for char in text):  # it names the load in a CSV
        raise ValueError("the name of its file holds a line end, or bytes that are not UTF-8")
    recorded(text)
    return Law("replay", file=text)


_READERS: dict[str, Callable[[str], Law]] = {
    CLOSED: _read_users,
    "constant": _read_rate("constant"),
    "poisson": _read_rate("poisson"),
    "burst": _read_burst,
    "replay": _read_replay,
    OWN: _read_share,
}


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
