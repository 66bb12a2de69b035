"""A server that stands still for a second, in the middle of 30 s of load: is it seen as what it was?

The known failure of load generators is coordinated omission: the closed loop stops asking while nothing is
answered, so that the second is as many slow requests as there are users, and no percentile shows it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Event
from typing import NamedTuple

import numpy as np
import psutil

from harness.analysis.percentiles import percentile
from harness.evidence.check.bench import Fire, Result, Serve, measured, synthetic
from harness.wire.arrivals import Law, closed
from harness.wire.records import MEASURE, Outcome

Freeze = Callable[[int, float], float]  # pid, seconds → seconds that it really stood still

RATE_PER_S = 50.0
SERVICE_MS = 10.0
USERS = 4
FROZEN_S = 1.0
WINDOW_S = 30.0
SETTLE_S = 1.0
ALONE = 1 / 8  # of the window: the closed loop that tells how long one request holds the worker
TOP = 0.01  # what lies above a p99
WITHIN = 0.05


class Seen(NamedTuple):
    """What the load generator has seen of a frozen server."""

    open_ms: Sequence[float]  # latencies at a constant rate, counted from due; infinite without a good answer
    closed_ms: Sequence[float]  # those of a few users who wait for their answers
    utilisation: float  # at that rate
    frozen_s: tuple[float, float]  # how long it stood still, open and closed loop
    window_s: float


def theory_p99_ms(base_ms: float, utilisation: float, frozen_s: float, window_s: float) -> float:
    """The p99 of `window_s` of constant arrivals at a worker that stands still once for `frozen_s`.

    Let requests arrive at rate λ and take S each, ρ = λ S < 1, so that nobody waits but for the freeze: the
    latency is `base_ms`. Who arrives a time u after the freeze began finds λ u requests before him, which
    take S each once it is over. While it lasts he waits for its end, frozen − u, and then for those: ρ u.
    After it the same holds, since in u − frozen the worker has done (u − frozen) / S of the λ u. So the
    latency falls in one straight line, base + frozen − (1 − ρ) u, from the whole freeze down to nothing at
    u = frozen / (1 − ρ), when the backlog has been worked off (it drains at μ − λ).

    The slowest requests are thus the first to arrive, and since arrivals are constant the slowest 1 % of a
    window are those of its first u = 1 % of window: 0.3 s of 30 s. The p99 is the latency there:
    base + 1 − 0.3 (1 − ρ) s. It holds while that lies on the line: 1 % of the window ≤ frozen / (1 − ρ).
    """
    return base_ms + (frozen_s - TOP * window_s * (1 - utilisation)) * 1e3


def judge(seen: Seen) -> Result:
    """The corrected p99 is what theory says; that of the closed loop is not: it hides the freeze."""
    latencies = np.asarray(seen.open_ms, dtype=np.float64)
    base = percentile(latencies, 50)
    theory = theory_p99_ms(base, seen.utilisation, seen.frozen_s[0], seen.window_s)
    found = percentile(latencies, 99)
    missed = percentile(np.asarray(seen.closed_ms, dtype=np.float64), 99)
    slow = sum(latency > seen.frozen_s[1] * 500 for latency in seen.closed_ms)
    stood_still = min(seen.frozen_s) > 0
    return Result(
        f"a {FROZEN_S:g} s freeze",
        f"corrected p99 = base + 1 - 0.3 (1 - ρ) s, within {WITHIN:.0%}; the closed loop misses it",
        f"{found:.0f} ms, theory {theory:.0f} ms ({found / theory - 1:+.1%}) at ρ = {seen.utilisation:.2f}; "
        f"closed loop {missed:.0f} ms",
        stood_still and abs(found / theory - 1) <= WITHIN and missed < (1 - WITHIN) * theory,
        f"In closed loop {slow} of {len(seen.closed_ms)} requests met the freeze, one a user, and the p99 "
        f"says {missed:.0f} ms: it cannot see a server that stands still. Use an open law for tails.",
    )


def freeze(
    fire: Fire,
    serve: Serve,
    stop: Freeze | None = None,
    *,
    window_s: float = WINDOW_S,
    frozen_s: float = FROZEN_S,
) -> Result:
    """One worker in a process of its own, frozen with its server in open loop, then in closed loop."""
    stop = stop or stand_still
    with serve("process", workers=1, workload=synthetic(SERVICE_MS)) as server:

        def load(law: Law, seconds: float) -> Outcome:
            return fire(f"{server.url}/", arrivals=law, settle_s=SETTLE_S, duration_s=seconds)

        def frozen_under(law: Law) -> tuple[Outcome, float]:
            return meanwhile(
                lambda: load(law, window_s),
                lambda: stop(server.pid, frozen_s),
                after_s=SETTLE_S + (window_s - frozen_s) / 2,
            )

        # a worker that is never out of work holds a request for the time between two answers
        done = sorted(shot.done_ms for shot in measured(load(closed(USERS), ALONE * window_s)))
        held_ms = (done[-1] - done[0]) / (len(done) - 1)
        at_a_rate, open_s = frozen_under(Law("constant", RATE_PER_S))
        by_users, closed_s = frozen_under(closed(USERS))
    return judge(
        Seen(
            open_ms=latencies_ms(at_a_rate),
            closed_ms=latencies_ms(by_users),
            utilisation=RATE_PER_S * held_ms / 1e3,
            frozen_s=(open_s, closed_s),
            window_s=window_s,
        )
    )


def latencies_ms(outcome: Outcome) -> list[float]:
    """Of the measured requests, from due; a failure is slower than anything."""
    shots = [shot for shot in outcome.shots if shot.phase == MEASURE]
    return [math.inf if shot.error else shot.done_ms - shot.due_ms for shot in shots]


def meanwhile(
    act: Callable[[], Outcome], disturb: Callable[[], float], *, after_s: float
) -> tuple[Outcome, float]:
    """What both say; `disturb` begins `after_s` after `act`, or never (0.0) when `act` has ended by then."""
    ended = Event()
    with ThreadPoolExecutor(1) as beside:
        disturbed = beside.submit(lambda: 0.0 if ended.wait(after_s) else disturb())
        try:
            outcome = act()
        finally:
            ended.set()
    return outcome, disturbed.result()


def stand_still(pid: int, seconds: float, sleep: Callable[[float], None] = time.sleep) -> float:
    """Stop a process and all its descendants for so long; how long all of them stood still.

    A freeze of the server alone would let its workers go on with what they have been given.
    """
    root = psutil.Process(pid)
    family = [root, *root.children(recursive=True)]
    try:
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        began = time.monotonic()
        sleep(seconds)
        return time.monotonic() - began
    finally:  # whatever happens: a stopped process cannot even be asked to end
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.resume()
