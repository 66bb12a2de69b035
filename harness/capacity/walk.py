"""Choose the rate of the next window of each arm: first a search, then blocks that confirm.

Pure: a generator that yields windows and receives their results, so that a simulated queue can drive it as
well as real servers. All arms walk together. Each round of the search is a block, in which every arm still
searched gets a short window at a rate from its own bracket. Then come passes of confirming blocks: in each
block every arm is tried at the same share of its believed capacity, under the same arrivals, and each pass
corrects the belief. Most shares are below 1, because the search overestimates: it trusts lucky windows.
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

LADDER = (0.3, 0.6, 0.8, 1.0)  # of the closed-loop throughput; the low rates show the foot of the curve
UP, DOWN = 1.5, 2.0
FEWEST_SHARE, MOST_SHARE = 0.01, 8.0  # of the closed-loop throughput: beyond, something else is wrong
NARROW = 1.2  # high / low at which the search ends; the passes do the rest
MOST_RETRIES = 2  # of a window without a result: one is chance, several are not
WINDOWS_OF_SEARCH = 5  # per arm, about: for the progress display
FEWEST_REQUESTS = 8  # in a window of the search, about: an empty window has no result
SHARES = (0.88, 0.94, 1.0, 1.06)
MOST_MOVE = 0.15  # in ln rate, after a pass
DIGITS = 4
# load before each window: a queue that starts empty takes a while to reach its usual length
SETTLE_S = 3.0
MOST_SETTLING = 0.3  # as a share of the window, since very short windows are only a quick look

START_AND_PILOT_S = 10.0  # per arm, about: to say how long a run takes

WindowSeconds = Annotated[float, Field(ge=0.5, le=bounds.A_DAY_S)]


class WalkSettings(Frozen):
    """How many windows are run, and how long they are."""

    blocks: Annotated[Blocks, Setting("Confirm each arm in this many windows.", Panel.PRECISION)] = 12
    window_s: Annotated[WindowSeconds, Setting("Confirm with windows this long.", Panel.PRECISION)] = 20.0
    search_s: Annotated[
        WindowSeconds,
        Setting(
            "Search with windows this long; longer for slow arms.", Panel.PRECISION, flag="--search-window"
        ),
    ] = 8.0
    seed: Seed = 1

    def long_enough(self, arms: Iterable[Start]) -> WalkSettings:
        """Lengthen the windows of the search until the slowest arm gets about `FEWEST_REQUESTS` requests."""
        slowest = min(map(_first, arms), default=math.inf)
        return self.model_copy(update={"search_s": max(self.search_s, FEWEST_REQUESTS / slowest)})

    def expected_s(self, arms: int) -> float:
        """Estimate how long the walk takes with this many arms, with their starts and pilots."""
        search_s = WINDOWS_OF_SEARCH * with_settling(self.search_s)
        return arms * (START_AND_PILOT_S + search_s + self.blocks * with_settling(self.window_s))


def with_settling(window_s: float) -> float:
    """The length of a window and of the load before it."""
    return window_s + min(SETTLE_S, MOST_SETTLING * window_s)


class NextWindow(NamedTuple):
    """A window to run next."""

    block: int
    position: int
    arm: str
    rate_per_s: float
    window_s: float
    confirms: bool

    @property
    def settle_s(self) -> float:
        """Seconds of load before the window."""
        return with_settling(self.window_s) - self.window_s


class Start(NamedTuple):
    """What is known of an arm before the walk."""

    own_per_s: float  # its throughput in a closed loop
    most_per_s: float = math.inf  # beyond it the load generator is the bottleneck


class Bracket(NamedTuple):
    """The range in which the search located the capacity; 0 or infinite for a side that it did not find."""

    low: float
    high: float

    @property
    def middle(self) -> float:
        """The rate to begin the confirmation with; 0 if no rate held."""
        if not self.low:
            return 0.0
        return self.low if math.isinf(self.high) else math.sqrt(self.low * self.high)


def walk(
    arms: Mapping[str, Start], objectives: Sequence[Objective], settings: WalkSettings
) -> Generator[NextWindow, Window | None, dict[str, Bracket]]:
    """Yield every window of a session in turn; return the brackets of the search.

    Send it the result of each window, or None if there is none (the arm died, or the client was too slow).
    """
    draw = random.Random(settings.seed)  # noqa: S311 - order, not secrets
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
            window = yield NextWindow(block, position, arm, rate, settings.search_s, confirms=False)
            kept = None if window is None else window.keeps(objectives)
            seen[arm] += [] if window is None else [window]
            try:
                rates[arm] = searches[arm].send(kept)
            except StopIteration as ended:
                found[arm] = ended.value
    belief = {arm: found[arm].middle for arm in arms if found[arm].middle}
    shares: list[float] = []
    for number in range(1, settings.blocks + 1):
        shares = shares or draw.sample(SHARES, len(SHARES))
        share = shares.pop()
        for position, arm in enumerate(draw.sample(list(belief), len(belief))):
            rate = rounded(min(belief[arm] * share, arms[arm].most_per_s))
            window = yield NextWindow(block + number, position, arm, rate, settings.window_s, confirms=True)
            seen[arm] += [] if window is None else [window]
        if not shares:
            belief = {
                arm: moved(rate, seen[arm], objectives, arms[arm].own_per_s) for arm, rate in belief.items()
            }
    return found


def search(start: Start) -> Generator[float, bool | None, Bracket]:
    """Search for the capacity of one arm: yield rates, receive whether each held, return a bracket.

    Goes up the ladder until a rate fails, or down until one holds, then between the two. A rate without a
    result is tried again; the search ends if it has no result each time.
    """
    low, high, rate = 0.0, math.inf, _first(start)
    while rate and (kept := (yield from _result(rate))) is not None:
        low, high = (rate, high) if kept else (low, rate)
        rate = _next(low, high, start)
    return Bracket(low, high)


def _result(rate: float) -> Generator[float, bool | None, bool | None]:
    """Whether the rate held; None if that is still unknown after `MOST_RETRIES`."""
    for _ in range(1 + MOST_RETRIES):
        kept = yield rate
        if kept is not None:
            return kept
    return None


def moved(rate: float, windows: Sequence[Window], objectives: Sequence[Objective], own_per_s: float) -> float:
    """The belief after a pass: moved towards the confirming windows' estimate, by at most `MOST_MOVE`."""
    found = min(log_rates(windows, objectives, own_per_s), default=math.log(rate)) - math.log(rate)
    return rate * math.exp(min(max(found, -MOST_MOVE), MOST_MOVE))


def rounded(rate_per_s: float) -> float:
    """Round to a few digits, because the rate is part of a load's name."""
    return float(f"{rate_per_s:.{DIGITS}g}")


def _first(start: Start) -> float:
    return rounded(min(LADDER[0] * start.own_per_s, start.most_per_s))


def _next(low: float, high: float, start: Start) -> float:
    """The next rate of a search; 0 at its end."""
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
