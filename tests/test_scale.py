"""A report of a million requests takes seconds and little memory, so any machine can read a long run."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import made_up
import numpy as np
import pandas as pd
import pytest

from harness.plans import plan_files
from harness.results import store
from harness.wire.records import COOLDOWN, MEASURE, WARMUP, Sample, header, to_cells

pytestmark = pytest.mark.timed

CHECKOUT = Path(__file__).parent.parent
ROWS = 1_000_000
BLOCKS = 25
TIMINGS = ["entered_ms", "queue_ms", "model_ms", "model_cpu_ms", "resume_ms", "io_ms", "handler_ms"]
LIKENESSES = 2  # number of different blocks; the others repeat their figures, which keeps this test fast

WITHIN_S = 20.0
WITHIN_BYTES = 0.7e9
PAGE_BYTES = 2_000_000

# Starts the command from a small process, because a child's peak memory starts at its parent's size.
WATCH = """
import json, resource, subprocess, sys, time
began = time.perf_counter()
child = subprocess.run(sys.argv[1:], capture_output=True, text=True)
wall_s = time.perf_counter() - began
used = resource.getrusage(resource.RUSAGE_CHILDREN)
peak_bytes = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
output = child.stdout + child.stderr
print(json.dumps({"code": child.returncode, "output": output, "wall_s": wall_s, "peak_bytes": peak_bytes}))
"""


class Place(NamedTuple):
    """One arm under one load."""

    arm: str
    strategy: str
    users: int

    def names(self) -> dict[str, str]:
        return {"arm": self.arm, "strategy": self.strategy, "load": f"closed({self.users})"}


class Likeness(NamedTuple):
    """One trial's lines in requests.csv, with the placeholder `~block,~trial`, and the counts of its row."""

    text: str
    counts: dict[str, int]


def folder_of_a_million(parent: Path) -> Path:
    """Write a finished run of the article plan with 25 blocks, as `execbench run` does."""
    plan = plan_files.load("article")
    places = [Place(arm.name, arm.strategy, users) for arm in plan.every_arm for users in plan.concurrency]
    rows = -(-ROWS // (len(places) * BLOCKS))
    random = np.random.default_rng(1)
    likenesses = [[_likeness(place, rows, random) for place in places] for _ in range(LIKENESSES)]
    writer = store.Writer(parent / "run")
    writer.write_record({"plan": plan.model_dump(mode="json"), "state": "finished"})
    with (
        (writer.folder / "requests.csv").open("a") as requests,
        (writer.folder / "trials.csv").open("a") as trials,
    ):
        lines = csv.writer(trials, lineterminator="\n")
        for number in range(len(places) * BLOCKS):
            block, position = divmod(number, len(places))
            trial = {"trial": number + 1, "block": block + 1, "position": position}
            likeness = likenesses[block % LIKENESSES][position]
            requests.write(likeness.text.replace("~block,~trial", f"{block + 1},{number + 1}"))
            lines.writerow(_trial_cells(places[position], {**trial, **likeness.counts}))
    return writer.folder


def _trial_cells(place: Place, numbers: dict[str, int]) -> list[str]:
    return to_cells(made_up.trial(concurrency=place.users, **place.names(), **numbers))


def _likeness(place: Place, rows: int, random: np.random.Generator) -> Likeness:
    usual = dict(zip(header(Sample), to_cells(made_up.sample(**place.names())), strict=True))
    frame = pd.DataFrame({**usual, "block": "~block", "trial": "~trial"}, index=range(rows))
    for name, values in _figures(place, rows, random).items():
        frame[name] = values
    _fail(frame)
    text = io.StringIO()
    frame.to_csv(text, index=False, header=False, float_format="%.3f", lineterminator="\n")
    measured = frame["phase"] == MEASURE
    failed = measured & (frame["error"] != "")
    return Likeness(text.getvalue(), {"requests": rows, "measured": measured.sum(), "failed": failed.sum()})


def _figures(place: Place, rows: int, random: np.random.Generator) -> dict[str, Any]:
    """Return times of users in step. A turn lasts as long as all their model calls; inline delays the I/O."""
    seq, inline = np.arange(rows), place.strategy == "inline"
    turn, rank = np.divmod(seq, place.users)
    before, after = rank * 8.0, (place.users - 1 - rank) * 8.0
    model = random.gamma(80.0, 0.1, rows)
    queue = random.gamma(2.0, 0.02, rows) + (0.0 if inline else before)
    resume = random.gamma(2.0, 0.02, rows)
    io_ms = random.gamma(2.0, 0.1, rows) + np.maximum(5.0, after if inline else 0.0)
    handler = queue + model + resume + io_ms
    due = turn * (8.0 * place.users + 7.0)
    sent = due + random.gamma(2.0, 0.01, rows)
    entered = sent + 0.6 + (before if inline else 0.0)
    warming, cooling = seq < 2 * place.users, seq >= rows - place.users
    return {
        "seq": seq,
        "phase": np.where(warming, WARMUP, np.where(cooling, COOLDOWN, MEASURE)),
        "due_ms": due,
        "sent_ms": sent,
        "done_ms": entered + handler + 0.5,
        "entered_ms": entered,
        "queue_ms": queue,
        "model_ms": model,
        "model_cpu_ms": model * 0.98,
        "resume_ms": resume,
        "io_ms": io_ms,
        "handler_ms": handler,
    }


def _fail(frame: pd.DataFrame) -> None:
    """Make every 500th request fail with a 503 and every 900th with a timeout, both without timings."""
    refused, lost = frame["seq"] % 500 == 499, frame["seq"] % 900 == 899
    frame.loc[refused | lost, TIMINGS] = np.nan
    frame.loc[refused | lost, ["batch_size", "worker_pid"]] = ""
    frame.loc[refused, ["status", "error"]] = ["503", "status 503"]
    frame.loc[lost, ["status", "error"]] = ["", 'no answer within 30 s, "timeout"']


def report(folder: Path) -> dict[str, Any]:
    """Run `execbench report` and return its exit code, output, time and peak memory."""
    watched = subprocess.run(
        [sys.executable, "-c", WATCH, sys.executable, "-m", "harness.cli", "report", str(folder)],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(watched.stdout)
    return found


@pytest.fixture
def million(tmp_path: Path) -> Iterator[Path]:
    """The run's folder. It is deleted, because pytest would keep its 130 MB for several sessions."""
    yield folder_of_a_million(tmp_path)
    shutil.rmtree(tmp_path)


def test_a_report_of_a_million_requests_takes_seconds_and_little_memory(million: Path) -> None:
    found = report(million)
    assert found["code"] == 0, found["output"]
    assert "claims" in found["output"]
    assert (million / "charts" / "timeline.png").exists()
    assert 0 < (million / "report.html").stat().st_size < PAGE_BYTES
    assert found["wall_s"] < WITHIN_S
    assert found["peak_bytes"] < WITHIN_BYTES
