"""What a run says of its servers' lives: how long they took to be ready, and how their memory grew."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from sessions import Quiet, plan, record

from harness.analysis import servers
from harness.results import store
from harness.run import session

pytestmark = pytest.mark.timed

LOADS_FOR_S = 1.0  # in the worker of the arm `process` only
KEEPS_1_MB_PER_REQUEST = f"""
import multiprocessing, time
kept = []

def load():
    if multiprocessing.parent_process():
        time.sleep({LOADS_FOR_S})

def predict(model, items):
    kept.extend(b"x" * 1_000_000 for item in items)
    return list(items)
"""


def test_a_run_shows_how_each_server_grew_and_how_long_its_own_model_took_to_load(tmp_path: Path) -> None:
    """The memory of the arm `process` is in its worker. The run waits for it first, and for `thread` then."""
    (tmp_path / "own_grows.py").write_text(KEEPS_1_MB_PER_REQUEST)
    chosen = plan(
        arms=[{"name": name, "strategy": name} for name in ("process", "thread")],
        workload={"name": str(tmp_path / "own_grows.py")},
        requests=30,
        blocks=3,
        ping_per_s=0,
    )
    began = time.monotonic()
    session.run(chosen, store.Writer(tmp_path / "run"), Quiet())
    took_s = time.monotonic() - began
    trials = store.read(tmp_path / "run").trials
    memory = servers.memory_over_time(trials)
    assert len(memory) == len(trials) == 6
    for arm in ("process", "thread"):
        grew_mb = memory.loc[memory["arm"] == arm, "server_rss_mb"].diff().iloc[1:]
        kept_mb = trials.loc[trials["arm"] == arm, "requests"].iloc[1:]
        assert all(kept_mb >= 30)
        assert list(grew_mb) == pytest.approx(list(kept_mb), abs=8)
    ready_s = servers.ready_s(record(tmp_path / "run"))
    assert LOADS_FOR_S < ready_s["process"] < took_s
    assert 0 < ready_s["thread"] < ready_s["process"] - 0.6 * LOADS_FOR_S
