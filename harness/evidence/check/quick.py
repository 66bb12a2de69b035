"""The checks of `execbench check`: some two minutes. What takes longer is in `full`."""

from __future__ import annotations

import asyncio
import itertools
import math
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, ExitStack
from typing import NamedTuple

import numpy as np

from harness.analysis.arrays import Floats
from harness.evidence.check import recount
from harness.evidence.check.bench import (
    Bench,
    Check,
    Fire,
    Result,
    Serve,
    answered_per_s,
    good,
    measured,
    synthetic,
)
from harness.evidence.check.numbers import (
    poisson,
    quantiles,
    report_of,
    reported_numbers,
    schedules,
    small_run,
)
from harness.evidence.check.silent import Silent, silent_server
from harness.evidence.studies.queueing import step_errors_ms
from harness.run import client_limit
from harness.wire import reasons
from harness.wire.arrivals import Law, closed
from harness.wire.loop_lag import Lag
from harness.wire.options import Inject
from harness.wire.records import Shot

BUSY = "The machine may be busy with something else: `uptime` tells; then repeat it."


# -- the load generator --------------------------------------------------------------------------------


def dispatch_lag(found: client_limit.Quick) -> Result:
    """How late constant arrivals are sent at half of what the load generator can send."""
    p50, p99 = found.dispatch_lag_p50_ms, found.dispatch_lag_p99_ms
    passed = p50 <= 1.0 and p99 <= 8.0
    return Result(
        "dispatch lag",
        "at half the limit p50 ≤ 1 ms, p99 ≤ 8 ms",
        f"{p50:.2f} and {p99:.1f} ms at {found.requests_per_s / 2:.0f}/s",
        passed,
        why(passed, BUSY),
    )


def delivered_rate(fire: Fire, url: str, *, seconds: float = 15.0, within: float = 0.01) -> Result:
    """Good answers a second within the window against the constant rate asked for."""
    rate = 200.0
    outcome = fire(url, arrivals=Law("constant", rate), settle_s=1.0, duration_s=seconds)
    return judge_rate(answered_per_s(outcome), rate, seconds, within)


def judge_rate(found_per_s: float, asked_per_s: float, seconds: float, within: float) -> Result:
    """Is that the rate asked for?"""
    off = found_per_s / asked_per_s - 1
    return Result(
        "delivered rate",
        f"{asked_per_s:.0f}/s ±{within:.1%} over {seconds:.0f} s",
        f"{found_per_s:.1f}/s ({off:+.2%})",
        abs(off) <= within,
        why(abs(off) <= within, BUSY),
    )


def generator(found: client_limit.Roofline) -> Result:
    """CPU of the load generator for each request against a server that does nothing."""
    return Result(
        "load generator",
        f"≤ 0.8 ms CPU a request at {found.concurrency} connections",
        f"{found.cpu_ms_per_request:.2f} ms, limit {found.requests_per_s:.0f}/s",
        found.cpu_ms_per_request <= 0.8,
        "At least twice the fastest arm is wanted too: each run checks that for itself.",
    )


def timeouts(fire: Fire, serve: Callable[[float], AbstractContextManager[Silent]] = silent_server) -> Result:
    """A server that leaves one request in ten waiting: is each of them a row that says so?"""
    timeout_s = 0.4
    with serve(5 * timeout_s) as server:
        outcome = fire(
            server.url, arrivals=Law("constant", 50.0), duration_s=2.0, timeout_s=timeout_s, cap=100
        )
        asked, waited = server.asked, server.kept_waiting
    return judge_timeouts(outcome.shots, asked, waited, timeout_s)


def judge_timeouts(shots: list[Shot], asked: int, kept_waiting: int, timeout_s: float) -> Result:
    """A row for each request that the server has seen, an error on each that it left waiting, none else."""
    late = [shot for shot in shots if reasons.is_timeout(shot.error)]
    wrong = [shot for shot in shots if shot.error and shot not in late]
    waits = [shot.done_ms - shot.due_ms for shot in late]
    return Result(
        "timeouts are rows",
        f"all {asked} sent, {kept_waiting} of them timed out at {timeout_s:g} s or later",
        f"{len(shots)} rows, {len(late)} timed out at {min(waits, default=math.nan) / 1e3:.3f} s or later",
        len(shots) == asked
        and len(late) == kept_waiting > 0
        and min(waits, default=0.0) >= timeout_s * 1e3
        and not wrong,
        f"Other errors: {wrong[0].error}" if wrong else "",
    )


# -- known delays --------------------------------------------------------------------------------------

# 662 requests in all, the fewest of which a p99 is shown, in 14 s
KNOWN_DELAYS_MS = {5.0: 400, 20.0: 200, 100.0: 62}


class Seen(NamedTuple):
    """One request to a server of known delay."""

    client_ms: float  # latency
    truth_ms: float  # the delay, as it really was


def known_delay(fire: Fire, serve: Serve) -> Result:
    """A lone client of a server of known delay.

    The truth is not the delay asked for but the stretch that the server's worker measured around its sleep:
    what a kernel adds to a sleep (up to 2 ms on some) is the server's delay, not the client's error. So that
    these stamps cannot hide an error, they must not be shorter than the delay asked for, nor longer than
    what the client has seen.
    """
    seen = {}
    for delay_ms, requests in KNOWN_DELAYS_MS.items():
        with serve("thread", workers=1, workload=synthetic(delay_ms)) as server:
            outcome = fire(server.url, arrivals=closed(1), warmup_requests=5, requests=requests)
        seen[delay_ms] = [
            Seen(shot.done_ms - shot.due_ms, timing(shot, "model")) for shot in measured(outcome)
        ]
    return judge_known_delay(seen)


def judge_known_delay(seen: dict[float, list[Seen]]) -> Result:
    """Client minus truth: the median of each delay, the p99 of all together."""
    offsets = {delay: [one.client_ms - one.truth_ms for one in shots] for delay, shots in seen.items()}
    medians = [statistics.median(those) for those in offsets.values()]
    everything = [offset for those in offsets.values() for offset in those]
    p99 = recount.linear_percentile(everything, 99)
    is_true = all(one.truth_ms >= delay for delay, shots in seen.items() for one in shots)
    passed = max(medians) <= 2.5 and p99 <= 8.0 and min(everything) >= 0 and is_true
    truths = ", ".join(f"{statistics.median(one.truth_ms for one in shots):.2f}" for shots in seen.values())
    return Result(
        f"known delay {', '.join(f'{delay:g}' for delay in seen)} ms",
        "client minus truth: p50 ≤ 2.5 ms, p99 ≤ 8 ms, never < 0",
        f"{', '.join(f'{offset:+.2f}' for offset in medians)} ms, p99 {p99:.1f}, least {min(everything):.2f}",
        passed,
        f"Truth is the server's own stretch, by its median {truths} ms (a sleep ends late)."
        + why(passed, f" {BUSY}"),
    )


STRETCHES = ("queue", "model", "resume", "io")
COLUMNS = (*STRETCHES, "outside")
INJECTED_MS = 20.0
ROUNDS, REQUESTS_A_ROUND = 4, 8
Medians = dict[str, dict[str, float]]  # injected into (or "nothing") → column → ms


def injected(fire: Fire, serve: Serve, sleep_takes_ms: Callable[[float], float] | None = None) -> Result:
    """Short windows in turn, with and without each delay, so that all of them meet the same machine."""
    shots: dict[str, list[Shot]] = {name: [] for name in ("nothing", *STRETCHES)}
    with ExitStack() as stack:
        servers = {name: stack.enter_context(serve("thread", **_injecting(name))) for name in shots}
        for _, (name, server) in itertools.product(range(ROUNDS), servers.items()):
            outcome = fire(server.url, arrivals=closed(1), warmup_requests=2, requests=REQUESTS_A_ROUND)
            shots[name] += measured(outcome)
    medians = {
        name: {column: statistics.median(timing(shot, column) for shot in those) for column in COLUMNS}
        for name, those in shots.items()
    }
    return judge_injected(medians, (sleep_takes_ms or loop_sleep_ms)(INJECTED_MS))


def _injecting(stretch: str) -> dict[str, object]:
    delay = {} if stretch == "nothing" else {f"{stretch}_ms": INJECTED_MS}
    return {"workers": 1, "workload": synthetic(5.0, io_ms=5.0), "inject": Inject.model_validate(delay)}


def judge_injected(medians: Medians, takes_ms: float) -> Result:
    """Each delay in its own column; `takes_ms` is what a sleep of it takes here."""
    moved = {
        name: {column: medians[name][column] - medians["nothing"][column] for column in COLUMNS}
        for name in STRETCHES
    }
    own = {name: moved[name].pop(name) for name in STRETCHES}
    stray = [abs(shift) for shifts in moved.values() for shift in shifts.values()]
    upper = max(INJECTED_MS, takes_ms) + 1.0
    passed = all(INJECTED_MS - 1.0 < shift < upper for shift in own.values())
    passed = passed and all(shift < 1.0 for shift in stray)  # NaN is not
    return Result(
        "injected delay 20 ms",
        f"its own column +{INJECTED_MS - 1:.0f} to +{upper:.1f} ms, every other < 1 ms",
        ", ".join(f"{name} {shift:+.1f}" for name, shift in own.items()) + f"; others ≤ {max(stray):.2f} ms",
        passed,
        why(passed, BUSY),
    )


def lindley(fire: Fire, serve: Serve, *, seconds: float = 20.0) -> Result:
    """One worker of 20 ms at load 0.7. Every request counts that it served, whatever its phase."""
    with serve("thread", workers=1, workload=synthetic(20.0)) as server:
        outcome = fire(server.url, arrivals=Law("poisson", 35.0), settle_s=0.5, duration_s=seconds)
    shots = good(outcome.shots)
    entered, queue, model = ([timing(shot, name) for shot in shots] for name in ("entered", "queue", "model"))
    return judge_lindley(np.asarray(queue), step_errors_ms(entered, queue, model))


def judge_lindley(queue_ms: Floats, errors_ms: Floats) -> Result:
    """95 % of the waits follow; and some must have waited, or the law says only that 0 is 0."""
    share = float((np.abs(errors_ms) <= 1.0).mean())
    waited = float((queue_ms > 1.0).mean())
    passed = share >= 0.95 and waited >= 0.3
    return Result(
        "Lindley, one worker",
        "queue ±1 ms of one step of the recursion for ≥ 95 %",
        f"{share:.1%} of {len(errors_ms)}; {waited:.0%} waited; median error {np.median(errors_ms):+.2f} ms",
        passed,
        why(passed, BUSY if waited >= 0.3 else "Too few requests had to wait: nothing was seen."),
    )


def timing(shot: Shot, name: str) -> float:
    """A stretch of this request in ms, `outside` included; NaN when the server did not tell."""
    if name == "outside":
        return shot.done_ms - shot.sent_ms - timing(shot, "handler")
    value = getattr(shot.timings, f"{name}_ms")
    return math.nan if value is None else float(value)


# -- what sleeps take on this machine: facts without a verdict -----------------------------------------

SLEEPS = 20
Sleep = Callable[[float], Awaitable[None]]


async def _took_ms(sleep: Sleep, asked_ms: float) -> float:
    """By the median."""
    took = []
    for _ in range(SLEEPS):
        began = time.perf_counter()
        await sleep(asked_ms / 1e3)
        took.append((time.perf_counter() - began) * 1e3)
    return statistics.median(took)


async def _blocking(seconds: float) -> None:
    time.sleep(seconds)  # noqa: ASYNC251 - it is what is measured


def loop_sleep_ms(asked_ms: float) -> float:
    """What `asyncio.sleep` takes, whose timers are rounded up: to whole ms, by some kernels to even ones."""
    return asyncio.run(_took_ms(asyncio.sleep, asked_ms))


def facts() -> dict[str, float]:
    """What sleeps take on this machine, in ms by the median: asked → taken."""
    kinds: dict[str, Sleep] = {"time.sleep": _blocking, "asyncio.sleep": asyncio.sleep}
    return {
        f"{name}({asked:g} ms)": asyncio.run(_took_ms(sleep, asked))
        for name, sleep in kinds.items()
        for asked in (5.0, 20.0)
    }


# -- the probe of the event loop -----------------------------------------------------------------------


def loop_probe(fire: Fire, serve: Serve) -> Result:
    """A model that holds the loop for 50 ms must be seen in its lateness, one that sleeps in a thread not."""
    held = _lag(fire, serve, "inline", "hold")
    free = _lag(fire, serve, "thread", "sleep")
    return judge_loop_probe(held, free)


def _lag(fire: Fire, serve: Serve, strategy: str, mode: str) -> Lag | None:
    with serve(strategy, workload=synthetic(50.0, mode=mode)) as server:
        server.watch()
        fire(server.url, arrivals=closed(1), requests=25)
        return server.unwatch()


def judge_loop_probe(held: Lag | None, free: Lag | None) -> Result:
    """Both must have been measured."""
    most = math.nan if held is None or held.max_ms is None else held.max_ms
    usual = math.nan if free is None or free.p99_ms is None else free.p99_ms
    passed = most >= 45.0 and usual < 20.0
    return Result(
        "event-loop probe",
        "holding the loop 50 ms: ≥ 45 ms late; in a thread: p99 < 20 ms",
        f"{most:.0f} ms; {usual:.1f} ms",
        passed,
        why(passed, BUSY),
    )


def why(passed: bool, reason: str) -> str:
    """The reason of a failure."""
    return "" if passed else reason


# -- all of them ---------------------------------------------------------------------------------------


def _delivered_rate(bench: Bench) -> Result:
    with bench.null_server() as url:
        return delivered_rate(bench.fire, url)


CHECKS = (
    Check("quantiles", "percentiles against numpy and scipy", 1, lambda _: quantiles()),
    Check(
        "numbers",
        "every reported number again from the CSV",
        12,
        lambda bench: reported_numbers(small_run(bench.folder / "run"), report_of),
    ),
    Check("arrivals", "arrival laws", 1, lambda _: [poisson(), schedules()]),
    Check(
        "dispatch",
        "dispatch lag at half the limit",
        5,
        lambda bench: dispatch_lag(client_limit.quick(bench.supervisor, bench.loader, "aiohttp")),
    ),
    Check("rate", "the rate delivered over 15 s", 16, _delivered_rate),
    Check("delay", "a server of known delay", 17, lambda bench: known_delay(bench.fire, bench.server)),
    Check("inject", "delays put into one stretch", 15, lambda bench: injected(bench.fire, bench.server)),
    Check(
        "lindley",
        "the queue of one worker, step by step",
        22,
        lambda bench: lindley(bench.fire, bench.server),
    ),
    Check("timeouts", "requests without an answer", 4, lambda bench: timeouts(bench.fire)),
    Check(
        "generator",
        "what a request costs the load generator",
        5,
        lambda bench: generator(client_limit.measure(bench.supervisor, bench.loader, "aiohttp", 6000)),
    ),
    Check("probe", "the probe of the event loop", 6, lambda bench: loop_probe(bench.fire, bench.server)),
)
