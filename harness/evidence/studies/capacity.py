"""Compare the capacity that `execbench capacity` finds for one worker of 20 ms with the prediction of M/D/1.

The prediction needs two measured numbers: S, which is 1 / throughput of a closed loop that never lets the
worker idle, and the lone latency, of which all but S is overhead without a queue. The objective minus that
overhead is left for M/D/1: S + rho S / (2 (1 - rho)).
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from harness.analysis import slo
from harness.capacity import report, session
from harness.capacity.walk import WalkSettings
from harness.evidence.check.bench import Result
from harness.evidence.frames import table_of
from harness.numbers import percent
from harness.plans import from_flags
from harness.plans.plan import Cell
from harness.results import store
from harness.run.listener import Listener, SilentListener

SERVICE_MS = 20.0
OBJECTIVE_MS = 60.0
WITHIN = 0.05
WINDOW_S = 20.0


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One session."""

    seconds: float  # of confirming windows
    blocks: int
    service_ms: float  # S: 1 / closed-loop throughput
    lone_ms: float
    predicted_per_s: float
    capacity_per_s: float
    low_per_s: float
    high_per_s: float
    promise_per_s: float
    ratio: float  # capacity / predicted
    machine: str


def each(seconds: float, listener: Listener) -> Iterator[Row]:
    """Run one session with `seconds` of confirming windows."""
    objective = f"mean latency < {OBJECTIVE_MS:g} ms"
    flags = from_flags.Flags(
        strategies=("thread",),
        plan={"concurrency": (1,)},
        workload={"name": "synthetic", "mode": "sleep", "service_ms": SERVICE_MS, "io_ms": 0.0},
    )
    settings = WalkSettings(blocks=max(1, round(seconds / WINDOW_S)), window_s=WINDOW_S)
    plan = from_flags.from_flags(flags).model_copy(update={"name": "capacity", "blocks": settings.blocks})
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        session.run(plan, slo.parse([objective]), settings, store.Writer(run), _Forwarding(listener))
        yield row(report.build(store.read(run)), seconds)


def row(found: report.Report, seconds: float) -> Row:
    """Prediction and measurement of a session with one arm."""
    (arm,) = found.capacity.to_dict("records")
    service_ms, lone_ms = 1e3 / arm["closed_per_s"], arm["lone_ms"]
    predicted = predicted_per_s(service_ms, lone_ms, OBJECTIVE_MS)
    return Row(
        seconds=seconds,
        blocks=int(arm["blocks"]),
        service_ms=service_ms,
        lone_ms=lone_ms,
        predicted_per_s=predicted,
        capacity_per_s=arm["capacity_per_s"],
        low_per_s=arm["low_per_s"],
        high_per_s=arm["high_per_s"],
        promise_per_s=arm["promise_per_s"],
        ratio=arm["capacity_per_s"] / predicted,
        machine=found.machine,
    )


def predicted_per_s(service_ms: float, lone_ms: float, objective_ms: float) -> float:
    """The rate at which the mean sojourn time of M/D/1 is the objective minus the overhead."""
    wait_ms = objective_ms - lone_ms
    load = 2 * wait_ms / (service_ms + 2 * wait_ms)
    return load / service_ms * 1e3


@dataclasses.dataclass(frozen=True)
class _Forwarding(SilentListener):
    """Forwards the progress of a run to the listener of a study."""

    listener: Listener

    def stage(self, text: str) -> None:
        self.listener.stage(text)

    def trial_begins(self, cell: Cell, number: int, total: int) -> None:
        self.listener.stage(f"window {number}/{total}: {cell.law}")


# -- judging and showing -------------------------------------------------------------------------------


def judge(found: pd.DataFrame) -> list[Result]:
    """Judge the capacity against M/D/1; a missing capacity fails."""
    return [
        Result(
            name=f"capacity of one worker of {SERVICE_MS:g} ms, mean latency < {OBJECTIVE_MS:g} ms",
            goal=f"within ±{percent(WITHIN, 0)} of M/D/1",
            measured=f"{one['capacity_per_s']:.2f}/s, {one['ratio']:.3f} x M/D/1",
            passed=bool(abs(one["ratio"] - 1) <= WITHIN),
        )
        for one in found.to_dict("records")
    ]


def table(found: pd.DataFrame) -> str:
    """One line per session."""
    return table_of(
        [
            {
                "S": f"{one['service_ms']:.2f} ms",
                "lone latency": f"{one['lone_ms']:.2f} ms",
                "M/D/1": f"{one['predicted_per_s']:.2f}/s",
                "capacity": f"{one['capacity_per_s']:.2f}/s",
                "95 % interval": f"{one['low_per_s']:.2f} to {one['high_per_s']:.2f}",
                "promise": f"{one['promise_per_s']:g}/s",
                "ratio": f"{one['ratio']:.3f}",
            }
            for one in found.to_dict("records")
        ]
    )


def describe(found: pd.DataFrame) -> str:
    """Describe the table in words."""
    (one,) = found.to_dict("records")
    left_ms = OBJECTIVE_MS - one["lone_ms"] + one["service_ms"]
    return (
        f"A single request takes {one['lone_ms']:.2f} ms, of which S is {one['service_ms']:.2f} ms. This "
        f"leaves {left_ms:.2f} of the {OBJECTIVE_MS:g} ms for M/D/1, which it reaches at "
        f"{one['predicted_per_s']:.2f} requests/s. The capacity from {one['blocks']} confirming windows of "
        f"{WINDOW_S:g} s is {one['capacity_per_s']:.2f} requests/s, a difference of "
        f"{100 * (one['ratio'] - 1):+.1f} %. {one['machine']}"
    )
