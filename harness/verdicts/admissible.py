"""Which parts of a run may be judged, both for its report and for comparisons with another run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

import pandas as pd

from harness.analysis import machine
from harness.analysis.rows import Cells, Rows, of_trials
from harness.environment import Difference
from harness.errors import UsageError
from harness.results import store
from harness.verdicts import comparison, environments, metrics, same_work, session_noise
from harness.verdicts.sides import Side
from harness.wire.records import PILOT_BLOCK, SOUND

MOST_LISTED = 3  # items that a warning names


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The parts of a run that may be judged: the same for its comparisons, its claims and its figures."""

    run: store.Run
    facts: metrics.Facts
    derived: Rows  # without pings and excluded blocks; arms in the plan's order
    spoilt: dict[int, str]  # block → which of the plan's criteria it breaks, or that it was interrupted
    excluded: dict[int, str]  # `spoilt`; empty if that is all blocks: they are shown, and verdicts withheld
    withheld: str  # why no verdict may be given; "" if verdicts may be given
    invalid: dict[tuple[str, str], str]  # (arm, load) → why the load generator was not fit there
    limited: dict[tuple[str, str], str]  # (arm, load) → why its figures are bounds: the client can do no more
    rounds: store.Run | None = None  # of a choice by halving: the rounds before the final, which alone counts

    @property
    def interrupted(self) -> set[int]:
        """The excluded blocks during which the run was killed."""
        return _interrupted(self.run).keys() & self.excluded.keys()

    @cached_property
    def sent(self) -> Rows:
        """All requests of the run's trials, also pings and those of the pilot and of excluded blocks."""
        return _sent(self.run)

    @cached_property
    def side(self) -> Side:
        """The parts of the run that are compared."""
        return Side(self.derived, self.run.trials, "", self.excluded, self.invalid, self.limited)

    def compared(
        self, only: Collection[str], *, reference: str | None = None, withheld: str = ""
    ) -> pd.DataFrame:
        """`comparison.arms`: these arms against the plan's reference, or against `reference`."""
        reference = reference or self.facts.reference
        table = comparison.arms(
            self.side,
            reference=reference,
            twin=self.facts.twin,
            rules=self.facts.rules,
            only=only,
            withheld=self.withheld or withheld,
        )
        apart = environments.apart(self.run.record, reference, only)
        return table.assign(sentence=[_with_environment(row, apart) for row in table.to_dict("records")])

    def environments(self, most_named: int = environments.MOST_NAMED) -> list[str]:
        """`environments.sentences` of the arms, against the reference."""
        return environments.sentences(
            self.run.record, self.facts.reference, arms_of(self.run), most_named=most_named
        )

    def apart(self, arm: str) -> bool:
        """Whether the arm's environment is not the reference's."""
        return bool(environments.apart(self.run.record, self.facts.reference, [arm]))

    def other_work(self) -> set[str]:
        """The arms that do other work than the reference."""
        reference = self.facts.reference
        return set(same_work.other_work(self.run.record, reference, set(arms_of(self.run)) - {reference}))

    def comparisons(self) -> pd.DataFrame:
        """`comparison.COLUMNS`: the reference against the twin and the arms that do the same work."""
        return self.compared(set(arms_of(self.run)) - self.other_work())

    def twins(self) -> pd.DataFrame:
        """The comparisons of the twin, which show how quiet the session was; empty without a twin."""
        return self.compared({self.facts.twin or ""})


def _with_environment(row: Mapping[Any, Any], apart: Mapping[str, Sequence[Difference]]) -> str:
    """The row's sentence, and how the environments of its arms differ."""
    words, arm = str(row["sentence"]), str(row["arm"])
    return f"{words} {environments.in_words(apart[arm], row['reference'], [arm])}" if arm in apart else words


def against(run: store.Run, reference: str) -> Evidence:
    """As `admit`, with another arm as the reference. Raises UsageError if the run has no such arm.

    The twin belongs to the plan's reference: it shows how quiet the session was, and is left out otherwise.
    """
    planned = admit(run)
    twin = planned.facts.twin
    refuse_unknown(run, reference, [arm for arm in planned.side.arms() if arm != twin], stage="report")
    if reference == planned.facts.reference or not run.record.get("plan"):
        return planned
    run = planned.run
    plan = {**run.record["plan"], "reference": reference, "twin": False}
    trials = run.trials[run.trials["arm"] != twin]
    run = run._replace(record={**run.record, "plan": plan}, trials=trials)
    return dataclasses.replace(
        planned,
        run=run,
        facts=metrics.facts(run.record),
        derived=_counted(run, planned.excluded),
        withheld=planned.withheld or session_noise.noisy(planned.twins()),
    )


def refuse_unknown(run: store.Run, arm: str, known: list[str], *, stage: str) -> None:
    """Raise UsageError unless the run has the arm."""
    if arm not in known:
        raise UsageError(
            f"{run.folder} has no trial of arm {arm!r}.",
            stage=stage,
            hint=f"Arms of this run: {', '.join(known) or 'none'}.",
        )


def admit(run: store.Run) -> Evidence:
    """Exclude blocks by the plan's criteria, or if a kill interrupted them; find late clients.

    Of a choice by halving only the final is admitted: the rounds have chosen its arms, partly by luck.
    """
    if "halving" not in run.record:
        return _admitted(run)
    rounds = _in_rounds(run)
    final = run._replace(trials=run.trials[~rounds])
    return dataclasses.replace(_admitted(final), rounds=run._replace(trials=run.trials[rounds]))


def of_rounds(run: store.Run, blocks: float = math.inf) -> Evidence:
    """As `admit`, but of the first so many blocks of the rounds of a choice."""
    return _admitted(run._replace(trials=run.trials[_in_rounds(run) & (run.trials["block"] <= blocks)]))


def _in_rounds(run: store.Run) -> pd.Series[bool]:
    """Which trials belong to the rounds: all if these are not over yet."""
    searched = run.record["halving"]["searched"]
    blocks = run.trials["block"]
    return (blocks > PILOT_BLOCK) & (blocks <= (math.inf if searched is None else searched))


def _admitted(run: store.Run) -> Evidence:
    facts = metrics.facts(run.record)
    sent = _sent(run)
    broken = machine.excluded_blocks(run.trials, sent, facts.exclude)
    torn = _interrupted(run)
    spoilt = {
        block: "; ".join(why[block] for why in (torn, broken) if block in why)
        for block in sorted(torn.keys() | broken.keys())
    }
    withheld = ""
    if spoilt and not set(blocks_of(run)) - spoilt.keys():
        every = "was interrupted or breaks" if torn else "breaks"
        withheld = (
            f"No verdict is given, because every block {every} the plan's criteria ({each_block(spoilt)})."
        )
    excluded = {} if withheld else spoilt
    derived = _counted(run, excluded)
    invalid = _invalid(derived, run.trials)
    limited = machine.limited_by_client(run.trials, sent, run.record)
    return Evidence(run, facts, derived, spoilt, excluded, withheld, invalid, limited)


def _sent(run: store.Run) -> Rows:
    return Rows.of(run.rows, run.trials, pilot=True, pings=True)


def _counted(run: store.Run, excluded: Collection[int]) -> Rows:
    return of_trials(Rows.of(run.rows, run.trials, arms=arms_of(run)), "block", excluded, but=True)


def _interrupted(run: store.Run) -> dict[int, str]:
    """Blocks that a kill interrupted: pairing cannot even out the pause. The pilot is not a block."""
    torn = {resumed.get("in_block") for resumed in run.record.get("resumed") or []}
    why = "was interrupted when the run was killed, and completed after a pause"
    return {block: why for block in blocks_of(run) if block in torn}


def _invalid(requests: Rows, trials: pd.DataFrame) -> dict[tuple[str, str], str]:
    """Where the client sent too late; without trials at their cap, which waited for the server."""
    judged = trials.loc[trials["state"].isin(SOUND) & (trials["capped"] == 0), "trial"]
    cells = Cells(of_trials(requests, "trial", list(judged)))
    names = ["phase", "error", "due_ms", "sent_ms", "done_ms"]
    late = {
        (str(arm), str(load)): machine.late_cell_reason(cells.rows((arm, load), names)) for arm, load in cells
    }
    return {cell: why for cell, why in late.items() if why}


def blocks_of(run: store.Run) -> list[int]:
    """Numbers of the blocks that were begun, without the pilot."""
    return sorted(set(run.trials["block"]) - {PILOT_BLOCK})


def arms_of(run: store.Run) -> list[str]:
    """The arms in the plan's order, or as they appear: a run of `execbench load` has no plan."""
    planned = [arm["name"] for arm in (run.record.get("plan") or {}).get("arms", [])]
    return list(dict.fromkeys([*planned, *run.trials["arm"]]))


def each_block(spoilt: dict[int, str]) -> str:
    """Each block with its reason, abridged."""
    return abridged([f"block {block}: {why}" for block, why in spoilt.items()])


def abridged(items: list[str]) -> str:
    """The first `MOST_LISTED` items, and the number of the others."""
    more = len(items) - MOST_LISTED
    return "; ".join([*items[:MOST_LISTED], *([f"and {more} more"] if more > 0 else [])])
