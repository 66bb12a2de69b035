"""Which rate to try next on which arm: a search for the neighbourhood, then blocks that confirm.

Pure: a generator that asks for windows and gets the result of each, so that a simulated queue drives it as
well as real servers do. All arms walk together. Each round of the search is a block, in which every arm that
is not found yet gets a short window at the rate of its own bracket. Then passes of blocks: in each block
every arm is tried at the same share of what it is believed to hold, with the same arrivals, and the belief
is moved after each pass. The shares lie on both sides, and more below: the search believes lucky windows.
"""

from __future__ import annotations

import math
import random
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Annotated, NamedTuple

from pydantic import Field

from harness.analysis.slo import Objective
from harness.capacity.crossing import Window, log_rates
from harness.wire import bounds
from harness.wire.panel import Panel
from harness.wire.setting import Blocks, Frozen, Seed, Setting

LADDER = (0.3, 0.6, 0.8, 1.0)  # of the closed loop's throughput; the low ones show the curve's foot
UP, DOWN = 1.5, 2.0
FEWEST_SHARE, MOST_SHARE = 0.01, 8.0  # of the closed loop's throughput: beyond, something else is wrong
NARROW = 1.2  # of high / low: the passes do the rest
ASKED_AGAIN = 2  # times at most: a window that says nothing is chance, several of them are not
WINDOWS_OF_SEARCH = 5  # of an arm, about: to say how long is left
FEWEST_ASKED = 8  # requests in a window of the search, about: an empty one says nothing
SHARES = (0.88, 0.94, 1.0, 1.06)
MOST_MOVE = 0.15  # of ln rate, after a pass
DIGITS = 4
# before each window: from empty, a queue takes a while to be what the rate makes of it
SETTLE_S, MOST_SETTLING = 3.0, 0.3  # the latter of the window: very short ones are for a look only

WindowSeconds = Annotated[float, Field(ge=0.5, le=bounds.A_DAY_S)]


class Ways(Frozen):
    """How many windows are measured, and how long they are."""

    blocks: Annotated[Blocks, Setting("Confirm each arm in this many windows.", Panel.PRECISION)] = 12
    window_s: Annotated[WindowSeconds, Setting("Confirm with windows this long.", Panel.PRECISION)] = 20.0
    search_s: Annotated[
        WindowSeconds,
        Setting(
            "Search with windows this long; longer for slow arms.", Panel.PRECISION, flag="--search-window"
        ),
    ] = 8.0
    seed: Seed = 1

    def long_enough(self, arms: Iterable[Start]) -> Ways:
        """With windows of the search in which even the slowest arm is asked about `FEWEST_ASKED` times."""
        slowest = min(map(_first, arms), default=math.inf)
        return self.model_copy(update={"search_s": max(self.search_s, FEWEST_ASKED / slowest)})


class Asked(NamedTuple):
    """A window that is asked for."""

    block: int
    position: int
    arm: str
    rate_per_s: float
    window_s: float
    confirms: bool

    @property
    def settle_s(self) -> float:
        """Load before the window."""
        return min(SETTLE_S, MOST_SETTLING * self.window_s)


class Start(NamedTuple):
    """What is known of an arm before the walk."""

    own_per_s: float  # its throughput in closed loop
    most_per_s: float = math.inf  # beyond it the load generator is the bottleneck


class Bracket(NamedTuple):
    """Where the search has found the capacity to lie; 0 or infinite where it did not see that side."""

    low: float
    high: float

    @property
    def middle(self) -> float:
        """The rate to begin with; 0 when none held."""
        if not self.low:
            return 0.0
        return self.low if math.isinf(self.high) else math.sqrt(self.low * self.high)


def walk(
    arms: Mapping[str, Start], objectives: Sequence[Objective], ways: Ways
) -> Generator[Asked, Window | None, dict[str, Bracket]]:
    """Ask for every window of a session; returns the search's brackets.

    Is sent the window, or None for one that says nothing of the arm (it died, or the client was too slow).
    """
    draw = random.Random(ways.seed)  # noqa: S311 - order, not secrets
    seen: dict[str, list[Window]] = {arm: [] for arm in arms}
    searches = {arm: search(start) for arm, start in arms.items()}
    rates = {arm: next(one) for arm, one in searches.items()}
    found: dict[str, Bracket] = {}
    block = 0
    while rates:
        block += 1
        order = draw.sample(list(rates), len(rates))
        for position, arm in enumerate(order):
            rate = rates.pop(arm)
            window = yield Asked(block, position, arm, rate, ways.search_s, confirms=False)
            kept = None if window is None else window.keeps(objectives)
            seen[arm] += [] if window is None else [window]
            try:
                rates[arm] = searches[arm].send(kept)
            except StopIteration as ended:
                found[arm] = ended.value
    # now the passes of blocks that confirm
    belief = {arm: found[arm].middle for arm in arms if found[arm].middle}
    shares: list[float] = []
    for number in range(1, ways.blocks + 1):
        shares = shares or draw.sample(SHARES, len(SHARES))
        share = shares.pop()
        for position, arm in enumerate(draw.sample(list(belief), len(belief))):
            rate = rounded(min(belief[arm] * share, arms[arm].most_per_s))
            window = yield Asked(block + number, position, arm, rate, ways.window_s, confirms=True)
            seen[arm] += [] if window is None else [window]
        if not shares:
            belief = {
                arm: moved(rate, seen[arm], objectives, arms[arm].own_per_s) for arm, rate in belief.items()
            }
    return found


def search(start: Start) -> Generator[float, bool | None, Bracket]:
    """Of one arm: asks for a rate, gets whether it held (None: not known), returns the bracket.

    Up the ladder until a rate breaks, down until one holds, then between the two. A rate without a result is
    asked again, and the search ends only when it has none each time.
    """
    low, high, rate = 0.0, math.inf, _first(start)
    while rate and (kept := (yield from _answer(rate))) is not None:
        low, high = (rate, high) if kept else (low, rate)
        rate = _next(low, high, start)
    return Bracket(low, high)


def _answer(rate: float) -> Generator[float, bool | None, bool | None]:
    """Whether the rate held; None when that is still not known after asking again."""
    for _ in range(1 + ASKED_AGAIN):
        kept = yield rate
        if kept is not None:
            return kept
    return None


def moved(rate: float, windows: Sequence[Window], objectives: Sequence[Objective], own_per_s: float) -> float:
    """The belief after a pass: what the confirming windows say, by `MOST_MOVE` at most."""
    found = min(log_rates(windows, objectives, own_per_s), default=math.log(rate)) - math.log(rate)
    return rate * math.exp(min(max(found, -MOST_MOVE), MOST_MOVE))


def rounded(rate_per_s: float) -> float:
    """To a few digits: it is the name of a load."""
    return float(f"{rate_per_s:.{DIGITS}g}")


def _first(start: Start) -> float:
    return rounded(min(LADDER[0] * start.own_per_s, start.most_per_s))


def _next(low: float, high: float, start: Start) -> float:
    """The next rate of a search; 0 when there is none."""
    if not low:
        rate = high / DOWN
        return rounded(rate) if rate >= FEWEST_SHARE * start.own_per_s else 0.0
    if math.isfinite(high):
        return rounded(math.sqrt(low * high)) if high / low > NARROW else 0.0
    most = min(start.most_per_s, MOST_SHARE * start.own_per_s)
    if low >= rounded(most):
        return 0.0
    steps = [share * start.own_per_s for share in LADDER if share * start.own_per_s > 1.01 * low]
    return rounded(min(steps[0] if steps else low * UP, most))
