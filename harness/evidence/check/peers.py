"""The load generator beside wrk and hey: the same route, connections and duration, in turn.

Answers take 75 ms, about what they take at 8 users of a 10 ms model, and there is a worker for every
connection: each client sets its own pace, and none is near its limit. What a client adds to each answer is
what is compared. Ours adds some 0.6 ms of Python, 1 ms of time more than wrk: on a route of 20 ms that would
be 4 % of the throughput of a closed loop. The results name the ms, which hold for any route.
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

SERVICE_MS = 75.0  # no multiple of 10: a client that counts in 10 ms must not be right by luck
CONNECTIONS = 8
SECONDS = 8  # of each window; wrk and hey take whole ones
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
    """How far apart two clients may be: a share of the other's figure, or so many ms if that is more."""

    share: float
    ms: float = 0.0

    def __str__(self) -> str:
        return f"{self.share:.0%}" + (f" or {self.ms:g} ms" if self.ms else "")


# as in Figures
GOALS = {"req/s": Goal(0.02), "p50": Goal(0.03, 0.5), "p90": Goal(0.05), "p99": Goal(0.10, 1.0)}


# -- what the programs print ---------------------------------------------------------------------------


def read_wrk(text: str) -> Figures:
    """From `wrk --latency`; HarnessError when it could not be understood, or requests failed.

    wrk adds made-up samples after a latency beyond twice the mean (its own cure for coordinated omission);
    on a route of constant time there is nothing to add.
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
        raise _unusable("wrk", f"it prints {text[:200]!r}")
    if float(rate[1]) == 0:
        raise _unusable("wrk", "no request was answered")
    return Figures(float(rate[1]), *(found[percent] for percent in PERCENTS))


_MS_OF = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 60e3}


def read_hey(text: str, seconds: float) -> Figures:
    """From `hey -o csv`, a row for each request; HarnessError when there are none, or requests failed.

    Requests a second are those answered within `seconds`: hey waits for the last ones, and counts them too.
    """
    rows = list(csv.DictReader(text.splitlines()))
    try:
        took_s = [float(row["response-time"]) for row in rows]
        done_s = [float(row["offset"]) + took for row, took in zip(rows, took_s, strict=True)]
        bad = [row["status-code"] for row in rows if row["status-code"] != "200"]
    except (KeyError, TypeError, ValueError):
        raise _unusable("hey", f"it prints {text[:200]!r}") from None
    if not rows:
        raise _unusable("hey", "no request was answered")
    if bad:
        raise _unusable("hey", f"{len(bad)} of {len(rows)} answers have another status than 200")
    return figures(sum(done <= seconds for done in done_s) / seconds, [took * 1e3 for took in took_s])


def figures(requests_per_s: float, latencies_ms: Sequence[float]) -> Figures:
    """The rate as given, the percentiles of these latencies."""
    values = np.asarray(latencies_ms, dtype=np.float64)
    return Figures(requests_per_s, *(percentile(values, percent) for percent in PERCENTS))


def _unusable(program: str, why: str) -> HarnessError:
    return HarnessError(f"{program} gave nothing to compare with: {why}", stage="check")


# -- the clients ---------------------------------------------------------------------------------------


class Program(NamedTuple):
    """Another load generator."""

    arguments: Callable[[str, int, int], list[str]]  # url, connections, seconds
    read: Callable[[str, int], Figures]  # what it printed, seconds


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


Installed = Callable[[str], str | None]  # the path of a program, if it is there


def ask(program: str, url: str, seconds: int = SECONDS, installed: Installed = shutil.which) -> Figures:
    """Run it on `url`. HarnessError when it is not installed, does not end, or gives nothing to read."""
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
    """The same by our own load generator; warmed up, as always. HarnessError when a request failed."""
    outcome = fire(
        url, arrivals=closed(CONNECTIONS), warmup_requests=2 * CONNECTIONS, duration_s=float(seconds)
    )
    latencies = [shot.done_ms - shot.due_ms for shot in measured(outcome)]
    return figures(answered_per_s(outcome), latencies)


# -- comparing -----------------------------------------------------------------------------------------


def judge(program: str, rounds: Sequence[tuple[Figures, Figures]]) -> Result:
    """Ours against the other's, round by round; of the differences the median, so that one bad round passes.

    Each figure is judged by the median difference against its goal of the median of the other's figures.
    """
    ours, theirs = np.moveaxis(np.asarray(rounds, dtype=np.float64), 1, 0)  # each (rounds, figures)
    differences, others = (np.median(values, axis=0).tolist() for values in (ours - theirs, theirs))
    near = [
        abs(difference) <= max(goal.share * other, goal.ms)
        for difference, other, goal in zip(differences, others, GOALS.values(), strict=True)
    ]
    # what a time differs by also in ms, which holds on other routes too
    times = ["", *(f" ({difference:+.2f} ms)" for difference in differences[1:])]
    return Result(
        f"against {program}",
        ", ".join(f"{name} {goal}" for name, goal in GOALS.items()),
        ", ".join(
            f"{name} {difference / other:+.1%}{ms}"
            for name, difference, other, ms in zip(GOALS, differences, others, times, strict=True)
        ),
        all(near),
        f"{len(rounds)} rounds of {SECONDS} s at {CONNECTIONS} connections, {SERVICE_MS:g} ms an answer; "
        f"ours less {program}'s, by the median.",
    )


OURS = "execbench"


def compare(
    fire: Fire, serve: Serve, programs: Sequence[str], ask: Callable[[str, str], Figures] = ask
) -> list[Result]:
    """A Result for each of `programs`, all compared in the same rounds."""
    with serve("thread", workers=CONNECTIONS, workload=synthetic(SERVICE_MS)) as server:
        url = f"{server.url}/"
        others = {name: lambda name=name: ask(name, url) for name in programs}
        # in this order the first turn is one of theirs: a program that does not work is told at once
        found = in_blocks({**others, OURS: lambda: ours(fire, url)}, ROUNDS)
    return [judge(name, [(block[OURS], block[name]) for block in found]) for name in programs]


def peers(bench: Bench, installed: Installed = shutil.which) -> list[Result]:
    """Against the programs asked for (one that is missing fails), or all that are installed, if any."""
    programs = bench.programs or [name for name in PROGRAMS if installed(name)]
    if not programs:
        none = f"skipped: neither {' nor '.join(PROGRAMS)} is installed"
        hint = f"To compare: apt-get install {' '.join(PROGRAMS)}"
        return [Result(f"against {' or '.join(PROGRAMS)}", "compared where installed", none, True, hint)]
    return compare(bench.fire, bench.server, programs)
