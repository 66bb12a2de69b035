"""Compare the load generator with wrk and hey: the same route, connections and duration, in turn.

Answers take 75 ms, about as long as with 8 users of a 10 ms model, and there is a worker for every
connection, so that no client is near its limit. The comparison shows what each client adds to an answer. Ours
adds about 0.6 ms of Python, 1 ms more than wrk: on a route of 20 ms, that would be 4 % of the throughput of a
closed loop. The results also give the difference in ms, which holds for any route.
"""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from harness.analysis.percentiles import percentile
from harness.errors import HarnessError
from harness.evidence.check.bench import (
    Bench,
    Fire,
    Result,
    Serve,
    answered_per_s,
    in_blocks,
    measured,
    synthetic,
)
from harness.wire.arrivals import closed

SERVICE_MS = 75.0  # not a multiple of 10, so that a client that counts in 10 ms is not right by luck
CONNECTIONS = 8
SECONDS = 8  # of each window; wrk and hey take whole seconds
ROUNDS = 6
PATIENCE_S = 30.0
PERCENTS = (50, 90, 99)


class Figures(NamedTuple):
    """One client's view of one window."""

    requests_per_s: float
    p50_ms: float
    p90_ms: float
    p99_ms: float


class Goal(NamedTuple):
    """The largest allowed difference: a share of the other client's figure, or `ms` if that is more."""

    share: float
    ms: float = 0.0

    def __str__(self) -> str:
        return f"{self.share:.0%}" + (f" or {self.ms:g} ms" if self.ms else "")


# as in Figures
GOALS = {"req/s": Goal(0.02), "p50": Goal(0.03, 0.5), "p90": Goal(0.05), "p99": Goal(0.10, 1.0)}


# -- output of the programs ----------------------------------------------------------------------------


def read_wrk(text: str) -> Figures:
    """Parse the output of `wrk --latency`. Raises HarnessError if it cannot be parsed, or requests failed.

    wrk adds synthetic samples after a latency above twice the mean (its correction of coordinated omission);
    on a route of constant time it adds none.
    """
    failed = re.search(r"(Socket errors:.*|Non-2xx or 3xx responses:.*)", text)
    if failed:
        raise _unusable("wrk", failed[1])
    rate = re.search(r"^Requests/sec:\s+([\d.]+)\s*$", text, re.MULTILINE)
    found = {
        int(percent): float(number) * _MS_OF[unit]
        for percent, number, unit in re.findall(r"^\s+(\d+)%\s+([\d.]+)(us|ms|s|m)\s*$", text, re.MULTILINE)
    }
    if rate is None or not found.keys() >= set(PERCENTS):
        raise _unusable("wrk", f"it printed {text[:200]!r}")
    if float(rate[1]) == 0:
        raise _unusable("wrk", "no request was answered")
    return Figures(float(rate[1]), *(found[percent] for percent in PERCENTS))


_MS_OF = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 60e3}


def read_hey(text: str, seconds: float) -> Figures:
    """Parse the output of `hey -o csv`. Raises HarnessError if it has no requests, or requests failed.

    The rate counts requests answered within `seconds`: hey waits for the last ones, and counts them too.
    """
    rows = list(csv.DictReader(text.splitlines()))
    try:
        took_s = [float(row["response-time"]) for row in rows]
        done_s = [float(row["offset"]) + took for row, took in zip(rows, took_s, strict=True)]
        bad = [row["status-code"] for row in rows if row["status-code"] != "200"]
    except (KeyError, TypeError, ValueError):
        raise _unusable("hey", f"it printed {text[:200]!r}") from None
    if not rows:
        raise _unusable("hey", "no request was answered")
    if bad:
        raise _unusable("hey", f"{len(bad)} of {len(rows)} answers have a status other than 200")
    return figures(sum(done <= seconds for done in done_s) / seconds, [took * 1e3 for took in took_s])


def figures(requests_per_s: float, latencies_ms: Sequence[float]) -> Figures:
    """Figures from a rate and latencies."""
    values = np.asarray(latencies_ms, dtype=np.float64)
    return Figures(requests_per_s, *(percentile(values, percent) for percent in PERCENTS))


def _unusable(program: str, why: str) -> HarnessError:
    return HarnessError(f"{program} gave no usable result: {why}", stage="check")


# -- the clients ---------------------------------------------------------------------------------------


class Program(NamedTuple):
    """Another load generator."""

    arguments: Callable[[str, int, int], list[str]]  # url, connections, seconds
    read: Callable[[str, int], Figures]  # output, seconds


PROGRAMS = {
    "wrk": Program(
        lambda url, users, seconds: ["-t1", f"-c{users}", f"-d{seconds}s", "--latency", url],
        lambda text, _: read_wrk(text),
    ),
    "hey": Program(
        lambda url, users, seconds: ["-c", str(users), "-z", f"{seconds}s", "-o", "csv", url],
        read_hey,
    ),
}


Installed = Callable[[str], str | None]  # program → its path, if installed


def ask(program: str, url: str, seconds: int = SECONDS, installed: Installed = shutil.which) -> Figures:
    """Run `program` on `url`. Raises HarnessError if it is not installed, does not end, or fails."""
    path = installed(program)
    if path is None:
        raise HarnessError(
            f"{program} is not installed.", stage="check", hint=f"Install it: apt-get install {program}"
        )
    command = [path, *PROGRAMS[program].arguments(url, CONNECTIONS, seconds)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds + PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise _unusable(program, "it did not end") from None
    if done.returncode:
        raise _unusable(program, (done.stderr or done.stdout).strip()[:200])
    return PROGRAMS[program].read(done.stdout, seconds)


def ours(fire: Fire, url: str, seconds: int = SECONDS) -> Figures:
    """The figures of our own load generator, after a warm-up. Raises HarnessError if a request failed."""
    outcome = fire(
        url, arrivals=closed(CONNECTIONS), warmup_requests=2 * CONNECTIONS, duration_s=float(seconds)
    )
    latencies = [shot.done_ms - shot.due_ms for shot in measured(outcome)]
    return figures(answered_per_s(outcome), latencies)


# -- comparing -----------------------------------------------------------------------------------------


def judge(program: str, rounds: Sequence[tuple[Figures, Figures]]) -> Result:
    """Judge each figure by the median difference over rounds, so that one bad round does not count.

    The goal of a figure applies to the median of the other client's figures.
    """
    ours, theirs = np.moveaxis(np.asarray(rounds, dtype=np.float64), 1, 0)  # each (rounds, figures)
    differences, others = (np.median(values, axis=0).tolist() for values in (ours - theirs, theirs))
    near = [
        abs(difference) <= max(goal.share * other, goal.ms)
        for difference, other, goal in zip(differences, others, GOALS.values(), strict=True)
    ]
    # differences of times also in ms, which hold on other routes too
    times = ["", *(f" ({difference:+.2f} ms)" for difference in differences[1:])]
    return Result(
        f"against {program}",
        ", ".join(f"{name} {goal}" for name, goal in GOALS.items()),
        ", ".join(
            f"{name} {difference / other:+.1%}{ms}"
            for name, difference, other, ms in zip(GOALS, differences, others, times, strict=True)
        ),
        all(near),
        f"{len(rounds)} rounds of {SECONDS} s at {CONNECTIONS} connections, {SERVICE_MS:g} ms per answer; "
        f"median difference, {OURS} minus {program}.",
    )


OURS = "execbench"


def compare(
    fire: Fire, serve: Serve, programs: Sequence[str], ask: Callable[[str, str], Figures] = ask
) -> list[Result]:
    """Compare all `programs` in the same rounds; one Result for each."""
    with serve("thread", workers=CONNECTIONS, workload=synthetic(SERVICE_MS)) as server:
        url = f"{server.url}/"
        others = {name: lambda name=name: ask(name, url) for name in programs}
        # in this order another program is first, so that one that does not work fails at once
        found = in_blocks({**others, OURS: lambda: ours(fire, url)}, ROUNDS)
    return [judge(name, [(block[OURS], block[name]) for block in found]) for name in programs]


def peers(bench: Bench, installed: Installed = shutil.which) -> list[Result]:
    """Compare with the chosen programs (a missing one fails), or with all that are installed."""
    programs = bench.programs or [name for name in PROGRAMS if installed(name)]
    if not programs:
        none = f"skipped: neither {' nor '.join(PROGRAMS)} is installed"
        hint = f"To compare: apt-get install {' '.join(PROGRAMS)}"
        return [Result(f"against {' or '.join(PROGRAMS)}", "compared if installed", none, True, hint)]
    return compare(bench.fire, bench.server, programs)
