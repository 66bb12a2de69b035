"""Stop a run at one of its looks, once nothing holds it up. Reads the saved rows, as the report does."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from harness.analysis.looks import Looks
from harness.numbers import counted
from harness.results import store
from harness.run.listener import Listener
from harness.run.record import Record

MOST_NAMED = 3  # of the questions that hold a run up


class Rule(NamedTuple):
    """When a run may stop: the looks, and a function for one look.

    It returns the number of blocks that count, and what holds the run up.
    """

    looks: Looks
    look: Callable[[store.Run], tuple[int, list[str]]]


class EarlyStop:
    """Looks at a run between two blocks, at the numbers of counted blocks that were fixed before it began."""

    def __init__(self, rule: Rule | None, record: Record, listener: Listener) -> None:
        self._rule, self._record, self._listener = rule, record, listener
        if rule is None:
            return
        if record["looks"] is None:
            record.note(looks=rule.looks.declared())
        looked = record["looks"]["looked"]
        self._last = looked[-1]["blocks"] if looked else 0  # counted blocks at the last look
        self._next_block = rule.looks.blocks[0]  # before the end of this one there can be no look

    def after(self, block: int) -> bool:
        """Return whether the run is over after this block. The last block needs no look."""
        if self._rule is None or block < self._next_block:
            return False
        blocks, questions = self._rule.look(store.read(self._record.folder))
        later = [look for look in self._rule.looks.blocks if look > blocks]
        self._next_block = block + (later[0] - blocks if later else 1)
        if blocks not in self._rule.looks.blocks or blocks == self._last:
            return False
        self._last = blocks
        known = self._record["looks"]
        looked = {"blocks": blocks, "open": questions}
        self._record.note(looks={**known, "looked": [*known["looked"], looked]})
        self._listener.stage(f"look at {counted(blocks, 'block')}: {_in_words(questions)}")
        return not questions


def _in_words(questions: list[str]) -> str:
    if not questions:
        return "every verdict is settled"
    more = len(questions) - MOST_NAMED
    named = ", ".join(questions[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
    return f"not settled yet: {named}"
