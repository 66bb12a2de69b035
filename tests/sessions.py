"""Small plans, and a silent listener for their runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.plans import plan_files
from harness.plans.plan import Plan
from harness.run.listener import SilentListener
from harness.wire.records import Trial


class Quiet(SilentListener):
    """Records the trials of a run, and interrupts it after `stop_after` trials."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after = stop_after
        self.trials: list[Trial] = []

    def trial_ends(self, trial: Trial) -> None:
        self.trials.append(trial)
        if len(self.trials) == self.stop_after:
            raise KeyboardInterrupt


def plan(**changes: Any) -> Plan:
    data = {
        "name": "p",
        "workload": {"name": "synthetic", "service_ms": 1.0, "io_ms": 0.0},
        "arms": [{"name": "a", "strategy": "thread"}, {"name": "b", "strategy": "inline"}],
        "concurrency": [2],
        "requests": 6,
        "blocks": 2,
        "self_check": False,
    }
    return plan_files.make(data | changes, source="plan")


def record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return found
