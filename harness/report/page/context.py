"""What the pictures of a page are drawn from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness.numbers import users
from harness.report import choice
from harness.report.page.drawing import Look, looks
from harness.verdicts.admissible import arms_of

if TYPE_CHECKING:
    import pandas as pd

    from harness.analysis.rows import Rows
    from harness.report.report import Report

MOST_ARMS = 8  # in a picture, as many as there are colours; the CSVs have all


@dataclasses.dataclass(frozen=True, eq=False)
class Context:
    """A report, the load that its page is about, and the arms that its pictures show."""

    report: Report

    @property
    def rows(self) -> Rows:
        return self.report.evidence.derived

    @property
    def load(self) -> str:
        """The load that decides; "" if no request got a good answer."""
        return self.report.deciding_load

    @property
    def at(self) -> str:
        """Such as "At c = 8"."""
        return f"At {users(self.load)}"

    @cached_property
    def looks(self) -> Mapping[str, Look]:
        """Every arm of the run has one look on the whole page."""
        return looks(list(dict.fromkeys([*self.arms, *arms_of(self.report.evidence.run)])))

    @cached_property
    def arms(self) -> list[str]:
        """The arms that pictures show, in the plan's order: at most `MOST_ARMS`, the best of more."""
        table = choice.answered_of(self.report.contestants)
        here = table[table["load"] == self.load] if len(table) else table
        arms = list(here["arm"].astype(str)) if len(here) else []
        best = list(here.sort_values("throughput_per_s", ascending=False)["arm"].astype(str)) if arms else []
        wanted = dict.fromkeys([self.report.choice.take, self.reference, *best])
        kept = [arm for arm in wanted if arm in arms][:MOST_ARMS]
        return [arm for arm in arms if arm in kept]

    @property
    def reference(self) -> str:
        return self.report.evidence.facts.reference

    @cached_property
    def loads(self) -> list[str]:
        """The loads of the summary: closed loops by users, then open ones by rate."""
        table = self.report.contestants.sort_values(["concurrency", "rate_per_s"], kind="stable")
        return list(dict.fromkeys(table["load"].astype(str)))

    def shown(self) -> dict[str, Look]:
        return {arm: self.looks[arm] for arm in self.arms}

    def left_out(self) -> str:
        """Which arms the pictures leave out; "" if none."""
        table = self.report.summary
        every = list(dict.fromkeys(table["arm"].astype(str))) if len(table) else []
        others = [arm for arm in every if arm not in self.arms]
        if not others:
            return ""
        named = ", ".join(others[:4]) + (f" and {len(others) - 4} more" if len(others) > 4 else "")
        return f"Not drawn: {named}; summary.csv has them."


def cell_of(table: pd.DataFrame, arm: str, load: str) -> Mapping[str, Any]:
    """The row of an arm under a load as a dict; empty if there is none."""
    found = table[(table["arm"].astype(str) == arm) & (table["load"].astype(str) == load)]
    rows: list[dict[Any, Any]] = found.to_dict("records")
    return rows[0] if rows else {}
