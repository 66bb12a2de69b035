"""The short report, in at most 40 lines of 80 columns: what to do, and how sure it is. `--full` shows all."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from rich.table import Column
from rich.text import Text

from harness.commands import brief_table
from harness.commands.claim_tables import coloured
from harness.commands.screen import Screen, plain_table
from harness.commands.terminal import PIPED_WIDTH
from harness.numbers import counted, ratio_interval
from harness.system.printable import one_line

if TYPE_CHECKING:
    from rich.console import RenderableType

    from harness.report.advice import Advice
    from harness.report.report import Report

MOST_LINES = 40
LINES_AFTER = 2  # the paths that `harness.commands.report` prints
MOST_WARNINGS = 2
WARNING_LINES = 3  # of each warning; fewer where claims are judged
WARNING_LINES_BESIDE_CLAIMS = 2
ADVICE_LINES = 5
WIDEST_CLAIM = 45
STOPPING_LINES = 2


def render(report: Report) -> Iterator[RenderableType]:
    """The answer, how far to trust it, one table, the claims, and what to do in the lines that are left."""
    has_claims = len(report.claims) > 0
    parts = [*opening(report, WARNING_LINES_BESIDE_CLAIMS if has_claims else WARNING_LINES)]
    parts += brief_table.arms(report)
    parts += [_claims(report)] if has_claims else []
    yield from parts
    heading_and_next = [*advised(report.advised, 0)]
    left = MOST_LINES - LINES_AFTER - sum(map(_height, [*parts, *heading_and_next]))
    yield from advised(report.advised, min(ADVICE_LINES, max(1, left)))


def _height(part: RenderableType) -> int:
    """The lines that the part takes on 80 columns."""
    return len(Screen(width=PIPED_WIDTH).render_lines(part))


def opening(report: Report, warning_lines: int = WARNING_LINES) -> Iterator[RenderableType]:
    """The answer, how quiet the machine was, and the most serious warnings."""
    yield Text(one_line(report.finding), style="bold")
    yield Text(one_line(report.trust))
    yield from (Text(shortened(note, STOPPING_LINES)) for note in report.stopping[:1])
    if report.halved is not None and report.halved.summary:
        yield Text(one_line(report.halved.summary))
    warnings = report.warnings
    for warning in warnings[:MOST_WARNINGS]:
        yield Text(shortened(f"Warning: {warning}", warning_lines), style="yellow")
    if (more := len(warnings) - MOST_WARNINGS) > 0:
        yield Text(f"… and {counted(more, 'more warning')}: --full", style="yellow")


def shortened(text: str, lines: int) -> str:
    """The text on one line, cut at a word so that it takes at most so many lines of 80 columns."""
    return textwrap.shorten(one_line(text), lines * PIPED_WIDTH - 1, placeholder=" …")


def advised(advice: Advice, lines: int = ADVICE_LINES) -> Iterator[RenderableType]:
    """What the advice adds to the answer, and the next command."""
    shown = [*_fitting(advice.rest or advice.lines, lines)]
    if advice.lines:
        yield Text("\nWhat to do", style="bold")
        yield from map(Text, shown)
    if advice.command:
        yield Text(one_line(f"Next: {advice.command}"))


def _fitting(sentences: Iterable[str], left: int) -> Iterator[str]:
    """The sentences as lines of a list: whole ones while lines are left; the first is cut if need be."""
    for number, sentence in enumerate(sentences):
        text = one_line(sentence)
        lines = _wrapped(text)
        if len(lines) > left > 0 and number == 0:
            lines = _wrapped(textwrap.shorten(text, left * (PIPED_WIDTH - 8), placeholder=" …"))
        if len(lines) <= left:
            left -= len(lines)
            yield from lines


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(
        text, PIPED_WIDTH, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False
    )


def _claims(report: Report) -> RenderableType:
    """Each claim on one line, with the ratio of the check that is nearest to its bound."""
    shown = plain_table("", "", Column("\nThe article's claims"), Column("\nmeasured"))
    verdicts = dict(zip(report.claims["claim"], report.claims["verdict"], strict=True))
    for row in report.nearest_checks.to_dict("records"):
        shown.add_row(
            Text(str(row["claim"]), style="bold"),
            coloured(verdicts[row["claim"]]),
            textwrap.shorten(one_line(str(row["short"])), WIDEST_CLAIM, placeholder=" …"),
            ratio_interval(row["measured"], row["low"], row["high"]),
        )
    return shown
