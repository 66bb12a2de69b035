"""The checks of `execbench check`, about two minutes in all. Slower checks are in `full`."""

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

BUSY = "The machine may be busy: look at `uptime`, then repeat the check."


# -- the load generator --------------------------------------------------------------------------------


def dispatch_lag(found: client_limit.Quick) -> Result:
    """Judge the dispatch lag of constant arrivals at half of the roofline."""
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
    """Compare good answers per second within the window with the nominal constant rate."""
    rate = 200.0
    outcome = fire(url, arrivals=Law("constant", rate), settle_s=1.0, duration_s=seconds)
    return judge_rate(answered_per_s(outcome), rate, seconds, within)


def judge_rate(found_per_s: float, nominal_per_s: float, seconds: float, within: float) -> Result:
    """Judge whether the delivered rate is the nominal one."""
    off = found_per_s / nominal_per_s - 1
    return Result(
        "delivered rate",
        f"{nominal_per_s:.0f}/s ±{within:.1%} over {seconds:.0f} s",
        f"{found_per_s:.1f}/s ({off:+.2%})",
        abs(off) <= within,
        why(abs(off) <= within, BUSY),
    )


def generator(found: client_limit.Roofline) -> Result:
    """Judge the CPU of the load generator per request, against a server that does nothing."""
    return Result(
        "load generator",
        f"≤ 0.8 ms CPU a request at {found.concurrency} connections",
        f"{found.cpu_ms_per_request:.2f} ms, limit {found.requests_per_s:.0f}/s",
        found.cpu_ms_per_request <= 0.8,
        "The limit should also be at least twice the fastest arm: each run checks that itself.",
    )


def timeouts(fire: Fire, serve: Callable[[float], AbstractContextManager[Silent]] = silent_server) -> Result:
    """Check that each request to a server that answers one in ten too late becomes a row with its error."""
    timeout_s = 0.4
    with serve(5 * timeout_s) as server:
        outcome = fire(
            server.url, arrivals=Law("constant", 50.0), duration_s=2.0, timeout_s=timeout_s, cap=100
        )
        received, waited = server.received, server.kept_waiting
    return judge_timeouts(outcome.shots, received, waited, timeout_s)


def judge_timeouts(shots: list[Shot], received: int, kept_waiting: int, timeout_s: float) -> Result:
    """Pass if there is a row for each request that the server received, with errors only on the late ones."""
    late = [shot for shot in shots if reasons.is_timeout(shot.error)]
    wrong = [shot for shot in shots if shot.error and shot not in late]
    waits = [shot.done_ms - shot.due_ms for shot in late]
    return Result(
        "timeouts are rows",
        f"all {received} sent, {kept_waiting} of them timed out at {timeout_s:g} s or later",
        f"{len(shots)} rows, {len(late)} timed out at {min(waits, default=math.nan) / 1e3:.3f} s or later",
        len(shots) == received
        and len(late) == kept_waiting > 0
        and min(waits, default=0.0) >= timeout_s * 1e3
        and not wrong,
        f"Other errors: {wrong[0].error}" if wrong else "",
    )


# -- known delays --------------------------------------------------------------------------------------

# 662 requests in all, the fewest for which a p99 is shown, in 14 s
KNOWN_DELAYS_MS = {5.0: 400, 20.0: 200, 100.0: 62}


class DelaySample(NamedTuple):
    """One request to a server of known delay."""

    client_ms: float  # latency
    truth_ms: float  # the actual delay


def known_delay(fire: Fire, serve: Serve) -> Result:
    """Compare the latency of a single client with the known delay of the server.

    The truth is not the nominal delay but the time that the server's worker measured around its sleep: what a
    kernel adds to a sleep (up to 2 ms on some) is the server's delay, not an error of the client. So that
    these stamps cannot hide an error, they must not be shorter than the nominal delay, or longer than the
    client's latency.
    """
    samples = {}
    for delay_ms, requests in KNOWN_DELAYS_MS.items():
        with serve("thread", workers=1, workload=synthetic(delay_ms)) as server:
            outcome = fire(server.url, arrivals=closed(1), warmup_requests=5, requests=requests)
        samples[delay_ms] = [
            DelaySample(shot.done_ms - shot.due_ms, timing(shot, "model")) for shot in measured(outcome)
        ]
    return judge_known_delay(samples)


def judge_known_delay(samples: dict[float, list[DelaySample]]) -> Result:
    """Judge client minus truth: the median of each delay, and the p99 of all together."""
    offsets = {delay: [one.client_ms - one.truth_ms for one in shots] for delay, shots in samples.items()}
    medians = [statistics.median(those) for those in offsets.values()]
    everything = [offset for those in offsets.values() for offset in those]
    p99 = recount.linear_percentile(everything, 99)
    is_true = all(one.truth_ms >= delay for delay, shots in samples.items() for one in shots)
    passed = max(medians) <= 2.5 and p99 <= 8.0 and min(everything) >= 0 and is_true
    truths = ", ".join(
        f"{statistics.median(one.truth_ms for one in shots):.2f}" for shots in samples.values()
    )
    return Result(
        f"known delay {', '.join(f'{delay:g}' for delay in samples)} ms",
        "client minus truth: p50 ≤ 2.5 ms, p99 ≤ 8 ms, never < 0",
        f"{', '.join(f'{offset:+.2f}' for offset in medians)} ms, p99 {p99:.1f}, min {min(everything):.2f}",
        passed,
        f"The truth is the delay that the server measured, medians {truths} ms (a sleep ends late)."
        + why(passed, f" {BUSY}"),
    )


STRETCHES = ("queue", "model", "resume", "io")
COLUMNS = (*STRETCHES, "outside")
INJECTED_MS = 20.0
ROUNDS, REQUESTS_A_ROUND = 4, 8
Medians = dict[str, dict[str, float]]  # injected into (or "nothing") → column → ms


def injected(fire: Fire, serve: Serve, sleep_takes_ms: Callable[[float], float] | None = None) -> Result:
    """Inject a delay into each part in turn, in short alternating windows, under the same conditions."""
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
    """Pass if each delay shows in its own column only; `takes_ms` is how long a sleep of it takes here."""
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
        f"its own column +{INJECTED_MS - 1:.0f} to +{upper:.1f} ms, every other column < 1 ms",
        ", ".join(f"{name} {shift:+.1f}" for name, shift in own.items()) + f"; others ≤ {max(stray):.2f} ms",
        passed,
        why(passed, BUSY),
    )


def lindley(fire: Fire, serve: Serve, *, seconds: float = 20.0) -> Result:
    """Check the queue of one worker of 20 ms at load 0.7. Every request that it served counts."""
    with serve("thread", workers=1, workload=synthetic(20.0)) as server:
        outcome = fire(server.url, arrivals=Law("poisson", 35.0), settle_s=0.5, duration_s=seconds)
    shots = good(outcome.shots)
    entered, queue, model = ([timing(shot, name) for shot in shots] for name in ("entered", "queue", "model"))
    return judge_lindley(np.asarray(queue), step_errors_ms(entered, queue, model))


def judge_lindley(queue_ms: Floats, errors_ms: Floats) -> Result:
    """Pass if 95 % of the waits follow the recursion, and enough requests waited to test it."""
    share = float((np.abs(errors_ms) <= 1.0).mean())
    waited = float((queue_ms > 1.0).mean())
    passed = share >= 0.95 and waited >= 0.3
    return Result(
        "Lindley, one worker",
        "queue within 1 ms of one step of the recursion for ≥ 95 %",
        f"{share:.1%} of {len(errors_ms)}; {waited:.0%} waited; median error {np.median(errors_ms):+.2f} ms",
        passed,
        why(passed, BUSY if waited >= 0.3 else "Too few requests had to wait to test the recursion."),
    )


def timing(shot: Shot, name: str) -> float:
    """A part of this request in ms, including `outside`; NaN if the server did not report it."""
    if name == "outside":
        return shot.done_ms - shot.sent_ms - timing(shot, "handler")
    value = getattr(shot.timings, f"{name}_ms")
    return math.nan if value is None else float(value)


# -- how long sleeps take on this machine: figures without a verdict -----------------------------------

SLEEPS = 20
Sleep = Callable[[float], Awaitable[None]]


async def _took_ms(sleep: Sleep, asked_ms: float) -> float:
    """The median time that a sleep takes."""
    took = []
    for _ in range(SLEEPS):
        began = time.perf_counter()
        await sleep(asked_ms / 1e3)
        took.append((time.perf_counter() - began) * 1e3)
    return statistics.median(took)


async def _blocking(seconds: float) -> None:
    time.sleep(seconds)  # noqa: ASYNC251 - this is what is measured


def loop_sleep_ms(asked_ms: float) -> float:
    """How long `asyncio.sleep` takes: its timers are rounded up to whole ms, on some kernels to even ms."""
    return asyncio.run(_took_ms(asyncio.sleep, asked_ms))


def facts() -> dict[str, float]:
    """How long sleeps take on this machine: name with the nominal time → median in ms."""
    kinds: dict[str, Sleep] = {"time.sleep": _blocking, "asyncio.sleep": asyncio.sleep}
    return {
        f"{name}({asked:g} ms)": asyncio.run(_took_ms(sleep, asked))
        for name, sleep in kinds.items()
        for asked in (5.0, 20.0)
    }


# -- the probe of the event loop -----------------------------------------------------------------------


def loop_probe(fire: Fire, serve: Serve) -> Result:
    """Check the loop lag under a model that holds the event loop for 50 ms, and under one in a thread."""
    held = _lag(fire, serve, "inline", "hold")
    free = _lag(fire, serve, "thread", "sleep")
    return judge_loop_probe(held, free)


def _lag(fire: Fire, serve: Serve, strategy: str, mode: str) -> Lag | None:
    with serve(strategy, workload=synthetic(50.0, mode=mode)) as server:
        server.watch()
        fire(server.url, arrivals=closed(1), requests=25)
        return server.unwatch()


def judge_loop_probe(held: Lag | None, free: Lag | None) -> Result:
    """Judge both loop lags; a missing one fails."""
    most = math.nan if held is None or held.max_ms is None else held.max_ms
    usual = math.nan if free is None or free.p99_ms is None else free.p99_ms
    passed = most >= 45.0 and usual < 20.0
    return Result(
        "event-loop probe",
        "lag ≥ 45 ms with the loop held for 50 ms; p99 < 20 ms with a thread",
        f"{most:.0f} ms; {usual:.1f} ms",
        passed,
        why(passed, BUSY),
    )


def why(passed: bool, reason: str) -> str:
    """The reason, if the check failed."""
    return "" if passed else reason


# -- all of them ---------------------------------------------------------------------------------------


def _delivered_rate(bench: Bench) -> Result:
    with bench.null_server() as url:
        return delivered_rate(bench.fire, url)


CHECKS = (
    Check("quantiles", "percentiles against numpy and scipy", 1, lambda _: quantiles()),
    Check(
        "numbers",
        "every reported number, recounted from the CSV",
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
    Check("rate", "the delivered rate over 15 s", 16, _delivered_rate),
    Check("delay", "a server of known delay", 17, lambda bench: known_delay(bench.fire, bench.server)),
    Check("inject", "a delay injected into each part", 15, lambda bench: injected(bench.fire, bench.server)),
    Check(
        "lindley",
        "the queue of one worker, step by step",
        22,
        lambda bench: lindley(bench.fire, bench.server),
    ),
    Check("timeouts", "requests without an answer", 4, lambda bench: timeouts(bench.fire)),
    Check(
        "generator",
        "CPU of the load generator per request",
        5,
        lambda bench: generator(client_limit.measure(bench.supervisor, bench.loader, "aiohttp", 6000)),
    ),
    Check("probe", "the probe of the event loop", 6, lambda bench: loop_probe(bench.fire, bench.server)),
)
