"""run.json of a run that is under way: what is run where, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from harness import environment, workloads
from harness.plans.plan import Cell, Plan
from harness.results.store import Writer
from harness.run.precision import Precision
from harness.wire.clock import utc_now


class Before(NamedTuple):
    """What a killed run left, to go on from."""

    record: dict[str, Any]  # its run.json
    done: frozenset[tuple[int, str, str]]  # block, arm, load
    trials: int  # the highest number given
    precision: Precision


class Record:
    """run.json: says from the start what is run where, and at the end how it ended."""

    def __init__(self, writer: Writer, plan: Plan, before: Before | None) -> None:
        self._writer = writer
        now = {"state": "running", "ended_at": None}
        if before is not None:
            resumed = {
                "at": utc_now(),
                "after_trial": before.trials,
                "in_block": _broken_block(plan, before),
                "self_check": before.record.get("self_check"),  # the new one takes its place
            }
            again = [*before.record.get("resumed", []), resumed]
            self._data: dict[str, Any] = {**before.record, **now, "resumed": again}
            return
        self._data = {
            "plan": plan.model_dump(mode="json"),
            "started_at": utc_now(),
            **now,
            "lone_model_ms": None,
            "own_per_s": {},  # arm → what it can do in closed loop, for loads that are a share of that
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

    def note(self, **facts: Any) -> None:
        self._data |= facts
        self._writer.write_record(self._data)

    def note_arm(self, arm: str, **facts: Any) -> None:
        known = self._data["arms"].get(arm, {})
        self.note(arms={**self._data["arms"], arm: {**known, **facts}})

    def note_downstream(self, failed: Sequence[str], ended: Sequence[str]) -> None:
        """Errors of requests by what they await, and what to say of services that ended badly, if any."""
        if not failed and not ended:
            return
        known: dict[str, Any] = {"requests": 0, "first": "", "died": [], **(self["downstream"] or {})}
        found = {
            "requests": known["requests"] + len(failed),
            "first": known["first"] or next(iter(failed), ""),
            "died": [*known["died"], *ended],
        }
        self.note(downstream=found)

    def note_bad_answers(self, said: Mapping[str, str]) -> None:
        """What the first answer with each error says, of the whole run."""
        known = self["bad_answers"] or {}
        if new := {error: words for error, words in said.items() if error not in known}:
            self.note(bad_answers=known | new)

    def keep_schedule(self, load: str, block: int, digest: str) -> None:
        """Is written with the next note."""
        self._data["schedules"].setdefault(load, {})[str(block)] = digest

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        state = "finished" if kind is None else "failed"
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            state = "interrupted"
        self.note(state=state, ended_at=utc_now())
        self._writer.close()


def _broken_block(plan: Plan, before: Before) -> int | None:
    """The block that was under way when the run was killed: its trials do not lie within seconds any more."""
    for cell in plan.cells():
        if key(cell) not in before.done:
            return cell.block if cell.position else None
    return None


def key(cell: Cell) -> tuple[int, str, str]:
    """What says whether this trial is done: block, arm, load."""
    return cell.block, cell.arm.name, str(cell.law)
