"""Made-up runs: the frames of `requests.csv` and `trials.csv`, built from a few parameters per arm and load.

All rows are `records.Sample` and `records.Trial`, so a made-up run has the columns of a real one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

import pandas as pd

from harness.wire.records import COOLDOWN, MEASURE, WARMUP, Noise, Sample, Trial, header


@dataclasses.dataclass(frozen=True)
class Point:
    """The times of every request of one arm under one load."""

    queue_ms: float = 0.0
    model_ms: float = 6.0
    resume_ms: float = 0.0
    io_ms: float = 5.0
    outside_ms: float = 1.0
    io_nominal_ms: float = 5.0
    requests: int = 4  # measured, per client
    failed: int = 0  # how many of the measured requests fail; the last ones do
    state: str = "ok"


Place = tuple[str, int]  # arm, concurrency
World = Mapping[Place, Point | Callable[[int], Point]]  # a callable returns the Point of each block


def run(world: World, *, blocks: int = 5) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return (requests, trials) of a closed-loop run of all of `world`, as they would be read from disk."""
    samples: list[Sample] = []
    trials: list[Trial] = []
    for block in range(1, blocks + 1):
        for position, ((arm, concurrency), given) in enumerate(world.items()):
            point = given(block) if callable(given) else given
            rows = _samples(len(trials) + 1, block, arm, concurrency, point)
            samples += rows
            trials.append(_trial(rows, block, position, concurrency, point))
    return requests_frame(samples), trials_frame(trials)


def requests_frame(samples: list[Sample]) -> pd.DataFrame:
    return pd.DataFrame(map(attrgetter(*header(Sample)), samples), columns=header(Sample))


def trials_frame(trials: list[Trial]) -> pd.DataFrame:
    return pd.DataFrame(map(attrgetter(*header(Trial)), trials), columns=header(Trial))


def sample(**fields: object) -> Sample:
    """Return a successful measured request; `fields` override its values."""
    usual: dict[str, Any] = {
        "arm": "inline",
        "strategy": "inline",
        "load": "closed(1)",
        "block": 1,
        "trial": 1,
        "seq": 0,
        "phase": MEASURE,
        "due_ms": 0.0,
        "sent_ms": 0.0,
        "done_ms": 12.0,
        "entered_ms": 0.5,
        "queue_ms": 0.0,
        "model_ms": 6.0,
        "model_cpu_ms": 6.0,
        "resume_ms": 0.0,
        "io_ms": 5.0,
        "handler_ms": 11.0,
        "status": 200,
        "error": "",
        "batch_size": 1,
        "worker_pid": 1,
    }
    return Sample(**{**usual, **fields})


def trial(**fields: object) -> Trial:
    """Return a finished trial of a single client; `fields` override its values."""
    usual: dict[str, Any] = {
        "trial": 1,
        "block": 1,
        "position": 0,
        "arm": "inline",
        "strategy": "inline",
        "load": "closed(1)",
        "concurrency": 1,
        "rate_per_s": None,
        "schedule": "",
        "io_nominal_ms": 5.0,
        "requests": 1,
        "measured": 1,
        "failed": 0,
        "in_flight_max": 1,
        "capped": 0,
        "window_start_ms": 0.0,
        "window_end_ms": 1000.0,
        "client_cpu_ms": 1.0,
        "client_lag_p99_ms": 1.0,
        "client_lag_max_ms": 2.0,
        **Noise()._asdict(),
        "started_at": "2026-01-01T00:00:00Z",
        "state": "ok",
        "error": "",
    }
    return Trial(**{**usual, **fields})


def _samples(number: int, block: int, arm: str, concurrency: int, point: Point) -> list[Sample]:
    """Return the requests of clients in step: each one warm-up, the measured and one cool-down request."""
    phases = [WARMUP, *[MEASURE] * point.requests, COOLDOWN]
    last_good = point.requests * concurrency - point.failed
    rows: list[Sample] = []
    for turn, phase in enumerate(phases):
        for client in range(concurrency):
            bad = phase == MEASURE and (turn - 1) * concurrency + client >= last_good
            rows.append(_one(number, block, arm, concurrency, point, len(rows), turn, phase, bad=bad))
    return rows


def _one(
    number: int,
    block: int,
    arm: str,
    concurrency: int,
    point: Point,
    seq: int,
    turn: int,
    phase: str,
    *,
    bad: bool,
) -> Sample:
    handler = point.queue_ms + point.model_ms + point.resume_ms + point.io_ms
    sent = turn * (handler + point.outside_ms)
    return sample(
        arm=arm,
        strategy=arm,
        load=f"closed({concurrency})",
        block=block,
        trial=number,
        seq=seq,
        phase=phase,
        due_ms=sent,
        sent_ms=sent,
        done_ms=sent + handler + point.outside_ms,
        entered_ms=None if bad else sent + point.outside_ms / 2,
        queue_ms=None if bad else point.queue_ms,
        model_ms=None if bad else point.model_ms,
        model_cpu_ms=None if bad else point.model_ms,
        resume_ms=None if bad else point.resume_ms,
        io_ms=None if bad else point.io_ms,
        handler_ms=None if bad else handler,
        status=503 if bad else 200,
        error="status 503" if bad else "",
    )


def _trial(rows: list[Sample], block: int, position: int, concurrency: int, point: Point) -> Trial:
    window = [row for row in rows if row.phase == MEASURE]
    return trial(
        trial=rows[0].trial,
        block=block,
        position=position,
        arm=rows[0].arm,
        strategy=rows[0].strategy,
        load=rows[0].load,
        concurrency=concurrency,
        in_flight_max=concurrency,
        io_nominal_ms=point.io_nominal_ms,
        requests=len(rows),
        measured=len(window),
        failed=sum(row.error != "" for row in window),
        window_start_ms=window[0].sent_ms,
        window_end_ms=window[-1].done_ms,
        state=point.state,
        error="" if point.state == "ok" else "the server died",
    )
