"""Which parts of a run may be judged, both for its report and for comparisons with another run."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from functools import cached_property

import pandas as pd

from harness.analysis import machine, summaries
from harness.errors import UsageError
from harness.results import store
from harness.verdicts import comparison, metrics, session_noise
from harness.verdicts.sides import Side
from harness.wire.records import OK, PILOT_BLOCK

MOST_LISTED = 3  # items that a warning names


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The parts of a run that may be judged: the same for its comparisons, its claims and its figures."""

    run: store.Run
    facts: metrics.Facts
    derived: pd.DataFrame  # without pings and excluded blocks; arms in the plan's order
    spoilt: dict[int, str]  # block → which of the plan's criteria it breaks, or that it was interrupted
    excluded: dict[int, str]  # `spoilt`; empty if that is all blocks: they are shown, and verdicts withheld
    withheld: str  # why no verdict may be given; "" if verdicts may be given
    invalid: dict[tuple[str, str], str]  # (arm, load) → why the load generator was not fit there
    limited: dict[tuple[str, str], str]  # (arm, load) → why its figures are bounds: the client can do no more

    @property
    def interrupted(self) -> set[int]:
        """The excluded blocks during which the run was killed."""
        return _interrupted(self.run).keys() & self.excluded.keys()

    @cached_property
    def side(self) -> Side:
        """The parts of the run that are compared."""
        return Side(self.derived, self.run.trials, "", self.excluded, self.invalid, self.limited)

    def compared(
        self, only: Collection[str], *, reference: str | None = None, withheld: str = ""
    ) -> pd.DataFrame:
        """`comparison.arms`: these arms against the plan's reference, or against `reference`."""
        return comparison.arms(
            self.side,
            reference=reference or self.facts.reference,
            twin=self.facts.twin,
            rules=self.facts.rules,
            only=only,
            withheld=self.withheld or withheld,
        )

    def twins(self) -> pd.DataFrame:
        """The comparisons of the twin, which show how quiet the session was; empty without a twin."""
        return self.compared({self.facts.twin or ""})


def against(run: store.Run, reference: str) -> Evidence:
    """As `admit`, with another arm as the reference. Raises UsageError if the run has no such arm.

    The twin belongs to the plan's reference: it shows how quiet the session was, and is left out otherwise.
    """
    planned = admit(run)
    twin = planned.facts.twin
    refuse_unknown(run, reference, [arm for arm in planned.side.arms() if arm != twin], stage="report")
    if reference == planned.facts.reference or not run.record.get("plan"):
        return planned
    plan = {**run.record["plan"], "reference": reference, "twin": False}
    kept = planned.derived[planned.derived["arm"] != twin]
    return dataclasses.replace(
        planned,
        run=run._replace(
            record={**run.record, "plan": plan},
            requests=run.requests[run.requests["arm"] != twin],
            trials=run.trials[run.trials["arm"] != twin],
        ),
        facts=metrics.facts({**run.record, "plan": plan}),
        derived=kept.assign(arm=kept["arm"].cat.remove_unused_categories()),
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
    """Exclude blocks by the plan's criteria, or if a kill interrupted them; find late clients."""
    facts = metrics.facts(run.record)
    broken = machine.excluded_blocks(run.trials, run.requests, facts.exclude)
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
    requests = run.requests
    if excluded:
        requests = requests[~requests["block"].isin(list(excluded))]
    derived = summaries.derive(requests, run.trials)
    derived["arm"] = pd.Categorical(derived["arm"], categories=arms_of(run), ordered=True)
    invalid = _invalid(derived, run.trials)
    limited = machine.limited_by_client(run.trials, run.requests, run.record)
    return Evidence(run, facts, derived, spoilt, excluded, withheld, invalid, limited)


def _interrupted(run: store.Run) -> dict[int, str]:
    """Blocks that a kill interrupted: pairing cannot even out the pause. The pilot is not a block."""
    torn = {resumed.get("in_block") for resumed in run.record.get("resumed") or []}
    why = "was interrupted when the run was killed, and completed after a pause"
    return {block: why for block in blocks_of(run) if block in torn}


def _invalid(derived: pd.DataFrame, trials: pd.DataFrame) -> dict[tuple[str, str], str]:
    """Where the client sent too late; without trials at their cap, which waited for the server."""
    judged = trials.loc[(trials["state"] == OK) & (trials["capped"] == 0), "trial"]
    cells = summaries.Cells(derived)
    late = {}
    for arm, load in cells:
        rows = cells.select((arm, load), ["trial", "phase", "error", "due_ms", "sent_ms", "done_ms"])
        late[str(arm), str(load)] = machine.late_cell_reason(rows[rows["trial"].isin(judged)])
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
