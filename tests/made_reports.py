"""Made-up runs for reports: closed loops, open loads, a ranking, and what the bare model can do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import made_up
import pandas as pd
from made_up import Point

from harness.results import store
from harness.wire.records import MEASURE, Sample, Trial

WORLD: made_up.World = {
    ("inline", 1): Point(io_ms=5.0),
    ("inline", 8): Point(io_ms=40.0),
    ("thread", 8): Point(queue_ms=60.0, io_ms=5.0),
}
ARM: dict[str, Any] = {"io_per_model": None}


def plan(*arms: str, **plan_keys: Any) -> dict[str, Any]:
    return {"arms": [{"name": arm, **ARM} for arm in arms], **plan_keys}


def run_of(
    requests: pd.DataFrame, trials: pd.DataFrame, *, folder: Path = Path("run"), **plan_keys: Any
) -> store.Run:
    """Return the run as the store reads it: empty columns of numbers are numeric too."""
    numbers = ["concurrency", "rate_per_s", "steal_share", "foreign_cpu", "server_cpu_ms"]
    trials = trials.assign(**{name: pd.to_numeric(trials[name]) for name in numbers})
    arms = plan_keys.pop("arms", list(trials["arm"].unique()))
    return store.Run(folder, {"plan": plan(*arms, **plan_keys), "state": "finished"}, requests, trials, [])


def closed(world: made_up.World, *, blocks: int = 8, **plan_keys: Any) -> store.Run:
    return run_of(*made_up.run(world, blocks=blocks), **plan_keys)


def open_trial(
    number: int, *, arm: str = "thread", load: str = "poisson(50)", service_ms: float = 10.0, **fields: Any
) -> tuple[Trial, list[Sample]]:
    """Return a trial of 50 requests/s for 2 s, 0.5 s of it warm-up. The server runs one request at a time."""
    samples, free_ms = [], 0.0
    for seq in range(100):
        due_ms = 20.0 * seq
        done_ms = free_ms = max(due_ms, free_ms) + service_ms
        phase = "warmup" if due_ms < 500 else MEASURE
        row = {"arm": arm, "load": load, "block": number, "trial": number, "seq": seq, "phase": phase}
        samples.append(made_up.sample(**row, due_ms=due_ms, sent_ms=due_ms + 0.5, done_ms=done_ms))
    rate = {"concurrency": None, "rate_per_s": 50.0, "window_start_ms": 500.0, "window_end_ms": 2000.0}
    about = {"arm": arm, "load": load, "trial": number, "block": number, **rate, **fields}
    return made_up.trial(**about, requests=100, measured=75), samples


def opened(*trials: tuple[Trial, list[Sample]], **plan_keys: Any) -> store.Run:
    samples = [sample for _, its in trials for sample in its]
    frames = made_up.requests_frame(samples), made_up.trials_frame([trial for trial, _ in trials])
    return run_of(*frames, **plan_keys)


# a call takes 10 ms plus 1 ms per item, so batches are faster
BATCHES = {str(size): 10.0 + size for size in (1, 2, 4, 8, 16, 32, 64)}


def with_limits(run: store.Run, *arms: str, null_ms: float | None = 0.5) -> store.Run:
    run.record["limits"] = [{"arms": list(arms), "workload": {}, "batches": BATCHES, "about": {}}]
    run.record["null_ms"] = null_ms
    return run


DIES = "its item fails and another is started"


def ranked(world: made_up.World, **plan_keys: Any) -> store.Run:
    """Return a run whose plan has a ranking."""
    plan_keys = {"reference": "thread", "blocks": 12, **plan_keys}
    run = closed(world, ranking=True, **plan_keys)
    arms = {arm for arm, _ in world}
    run.record["arms"] = {arm: {"when_worker_dies": DIES, "uss_bytes": 300e6} for arm in arms}
    return run


def with_own_load(run: store.Run, arm: str, share: float = 0.8) -> store.Run:
    """Return the run with an open load added for this arm: 75 requests in each of 8 blocks."""
    more = opened(*(open_trial(number, arm=arm, load=f"own({share:g})") for number in range(1, 9)))
    after = int(run.trials["trial"].max())
    rows, trials = (
        pd.concat([one, other.assign(trial=lambda f: f["trial"] + after)], ignore_index=True)
        for one, other in ((run.requests, more.requests), (run.trials, more.trials))
    )
    return run._replace(rows=rows, trials=trials)
