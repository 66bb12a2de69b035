"""A report of a million requests takes seconds and stays small: a long run must be readable where it was made."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from harness import plans, store
from harness.records import COOLDOWN, MEASURE, WARMUP, header, to_cells
from harness.records import Sample as Request
from tests import made_up

CHECKOUT = Path(__file__).parent.parent
ROWS = 1_000_000
BLOCKS = 25
LIKENESSES = 5  # blocks that differ; the others repeat their figures, which keeps this test cheap

WITHIN_S = 20.0
WITHIN_BYTES = 1.5e9

# A small process in between: a child's peak counts from the size of whoever started it, and pytest is large.
MEASURE_CHILD = """
import json, resource, subprocess, sys, time
began = time.perf_counter()
child = subprocess.run(sys.argv[1:], capture_output=True, text=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({
    "code": child.returncode, "said": child.stdout + child.stderr, "wall_s": time.perf_counter() - began,
    "cpu_s": used.ru_utime + used.ru_stime,
    "peak_bytes": used.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
}))
"""


class Cell(NamedTuple):
    """One arm at one load of the plan."""

    arm: str
    strategy: str
    users: int

    def text(self, row: dict[str, str]) -> dict[str, str]:
        """The cells of `row` that name this arm and load."""
        return {**row, "arm": self.arm, "strategy": self.strategy, "load": f"closed({self.users})"}


def folder_of_a_million(parent: Path) -> Path:
    """A finished run of the article plan, 25 blocks long; what a request costs differs by strategy."""
    plan = plans.load("article")
    cells = [Cell(arm.name, arm.strategy, users) for arm in plan.arms for users in plan.concurrency]
    rows_each = -(-ROWS // (len(cells) * BLOCKS))
    writer = store.Writer(parent / "run")
    writer.write_record({"plan": plan.model_dump(mode="json"), "state": "finished"})
    likenesses = [[_trial_text(cell, rows_each, seed) for cell in cells] for seed in range(LIKENESSES)]
    with (writer.folder / "requests.csv").open("a") as stream:
        for number, (block, place) in enumerate(_trials(len(cells)), 1):
            text = likenesses[block % LIKENESSES][place]
            stream.write(text.replace(",~block,~trial,", f",{block},{number},"))
    with (writer.folder / "trials.csv").open("a", newline="") as stream:
        rows = csv.DictWriter(stream, header(made_up.Trial), lineterminator="\n")
        for number, (block, place) in enumerate(_trials(len(cells)), 1):
            rows.writerow(_trial_row(cells[place], number, block, place, rows_each))
    return writer.folder


def _trials(cells: int) -> Iterator[tuple[int, int]]:
    return ((block, place) for block in range(1, BLOCKS + 1) for place in range(cells))


def _trial_row(cell: Cell, number: int, block: int, place: int, rows: int) -> dict[str, str]:
    names = header(made_up.Trial)
    usual = made_up.trial(
        trial=number, block=block, position=place, concurrency=cell.users, requests=rows, measured=rows
    )
    return cell.text(dict(zip(names, to_cells(usual), strict=True)))


def _trial_text(cell: Cell, rows: int, seed: int) -> str:
    """The lines of one trial; block and trial are marks to be replaced."""
    names = header(Request)
    usual = cell.text(dict(zip(names, to_cells(made_up.sample()), strict=True)))
    usual |= {"block": "~block", "trial": "~trial"}
    frame = pd.DataFrame({name: usual[name] for name in names}, index=range(rows))
    for name, values in _figures(cell, rows, np.random.default_rng([seed, cell.users])).items():
        frame[name] = values
    _fail(frame)
    text = io.StringIO()
    frame.to_csv(text, index=False, header=False, float_format="%.3f", lineterminator="\n")
    return text.getvalue()


def _figures(cell: Cell, rows: int, random: np.random.Generator) -> dict[str, object]:
    """Users in step, each turn as long as all their models one after the other; inline stalls the I/O."""
    seq = np.arange(rows)
    turn, place = np.divmod(seq, cell.users)
    model = random.gamma(80.0, 0.1, rows)
    before, after = place * 8.0, (cell.users - 1 - place) * 8.0
    queue = random.gamma(2.0, 0.02, rows) + (0.0 if cell.strategy == "inline" else before)
    io_ms = 5.0 + random.gamma(2.0, 0.1, rows) + (after if cell.strategy == "inline" else 0.0)
    resume = random.gamma(2.0, 0.02, rows)
    handler = queue + model + resume + io_ms
    sent = turn * (8.0 * cell.users + 7.0) + random.gamma(2.0, 0.01, rows)
    entered = sent + 0.6 + (before if cell.strategy == "inline" else 0.0)
    last = rows - cell.users
    return {
        "seq": seq,
        "phase": np.where(seq < 2 * cell.users, WARMUP, np.where(seq >= last, COOLDOWN, MEASURE)),
        "due_ms": sent - random.gamma(2.0, 0.01, rows),
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
    """Every 500th request comes back with a 503, every 900th not at all."""
    unknown = ["entered_ms", "queue_ms", "model_ms", "model_cpu_ms", "resume_ms", "io_ms", "handler_ms"]
    refused, lost = frame["seq"] % 500 == 499, frame["seq"] % 900 == 899
    frame.loc[refused | lost, unknown] = np.nan
    frame.loc[refused | lost, ["batch_size", "worker_pid"]] = ""
    frame.loc[refused, ["status", "error"]] = ["503", "status 503"]
    frame.loc[lost, ["status", "error"]] = ["", 'no answer within 30 s, "timeout"']


def report(folder: Path) -> dict[str, float | str]:
    command = [sys.executable, "-m", "harness.cli", "report", str(folder)]
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE_CHILD, *command],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, float | str] = json.loads(measured.stdout)
    return found


@pytest.mark.timeout(180)
def test_a_report_of_a_million_requests_takes_seconds_and_little_memory(tmp_path: Path) -> None:
    folder = folder_of_a_million(tmp_path)
    found = report(folder)
    print({name: value for name, value in found.items() if name != "said"})
    assert found["code"] == 0, found["said"]
    assert (folder / "claims.csv").exists()
    assert (folder / "charts" / "timeline.png").exists()
    assert float(found["wall_s"]) < WITHIN_S
    assert float(found["peak_bytes"]) < WITHIN_BYTES
