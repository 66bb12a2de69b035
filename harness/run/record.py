"""run.json of a run in progress: what runs in which environment, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness import environment, workloads
from harness.plans.plan import Cell, Plan
from harness.results.store import Writer
from harness.wire.clock import utc_now


class Checkpoint(NamedTuple):
    """The state of an interrupted run, from which it resumes."""

    record: dict[str, Any]  # its run.json
    done: frozenset[tuple[int, str, str]]  # block, arm, load
    trials: int  # the highest trial number used


class Record:
    """run.json: written at the start, updated during the run, and closed with how the run ended."""

    def __init__(self, writer: Writer, plan: Plan, checkpoint: Checkpoint | None) -> None:
        self._writer = writer
        now = {"state": "running", "ended_at": None}
        if checkpoint is not None:
            resumed = {
                "at": utc_now(),
                "after_trial": checkpoint.trials,
                "in_block": _interrupted_block(plan, checkpoint),
                "self_check": checkpoint.record.get("self_check"),  # a new one replaces it
            }
            again = [*checkpoint.record.get("resumed", []), resumed]
            self._data: dict[str, Any] = {**checkpoint.record, **now, "resumed": again}
            return
        self._data = {
            "plan": plan.model_dump(mode="json"),
            "started_at": utc_now(),
            **now,
            "lone_model_ms": None,
            "own_per_s": {},  # arm → throughput in a closed loop, for loads that are a share of it
            "environment": environment.collect(),
            "arms": {},
            "schedules": {},
            "payloads_sha256": workloads.payloads_sha256(plan.workload),
        }

    def __enter__(self) -> Record:
        self._writer.write_record(self._data)
        return self

    def __getitem__(self, key: str) -> Any:
        return self._data.get(key)

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self._writer.folder

    def note(self, **facts: Any) -> None:
        self._data |= facts
        self._writer.write_record(self._data)

    def note_arm(self, arm: str, **facts: Any) -> None:
        known = self._data["arms"].get(arm, {})
        self.note(arms={**self._data["arms"], arm: {**known, **facts}})

    def note_downstream(self, failed: Mapping[str, int], ended: Sequence[str]) -> None:
        """Record errors of requests caused by their I/O (error → requests), and messages of dead services."""
        if not failed and not ended:
            return
        known: dict[str, Any] = {"requests": 0, "first": "", "died": [], **(self["downstream"] or {})}
        found = {
            "requests": known["requests"] + sum(failed.values()),
            "first": known["first"] or next(iter(failed), ""),
            "died": [*known["died"], *ended],
        }
        self.note(downstream=found)

    def note_bad_answers(self, texts: Mapping[str, str]) -> None:
        """Record the text of the run's first answer with each error."""
        known = self["bad_answers"] or {}
        if new := {error: text for error, text in texts.items() if error not in known}:
            self.note(bad_answers=known | new)

    def keep_schedule(self, load: str, block: int, digest: str) -> None:
        """Record the digest of a schedule; it is written with the next `note`."""
        self._data["schedules"].setdefault(load, {})[str(block)] = digest

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        state = "finished" if kind is None else "failed"
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            state = "interrupted"
        self.note(state=state, ended_at=utc_now())
        self._writer.close()


def _interrupted_block(plan: Plan, checkpoint: Checkpoint) -> int | None:
    """The block that was interrupted: its trials are no longer close together in time."""
    for cell in plan.cells():
        if key(cell) not in checkpoint.done:
            return cell.block if cell.position else None
    return None


def key(cell: Cell) -> tuple[int, str, str]:
    """The key by which a finished trial is recognised: block, arm, load."""
    return cell.block, cell.arm.name, str(cell.law)
