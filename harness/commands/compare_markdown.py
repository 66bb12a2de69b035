"""A comparison as Markdown: fit for a comment on a pull request and for the summary of a CI job. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.commands.compare_tables import bounds, figure, in_words, label, leading
from harness.errors import shortened
from harness.numbers import counted, users
from harness.report.markdown import code, line, literal
from harness.verdicts import headline, metrics, session_noise

if TYPE_CHECKING:
    from harness.results.store import Run
    from harness.verdicts.compare_runs import Comparison
    from harness.verdicts.gate import Outcome

MOST_BYTES = 60_000  # GitHub refuses a comment of more than 65,536 characters
_MOST_OF_SENTENCES, _MOST_OF_NOTES = 15_000, 10_000
_LONGEST = 300  # characters of the verdict, and of what a run's record says
_OPEN_ROWS = 12  # a longer table is folded
_HEADING = ["load", "arms", "metric", "values", "ratio (interval)", "blocks", "verdict"]


def page(found: Comparison, judged: Outcome | None = None) -> str:
    """The verdict in one line; then the primary rows' sentences, all rows as a table, notes, and the runs.

    At most `MOST_BYTES`: lines that do not fit are left out from the end of each part, and counted.
    """
    verdict = f"**{literal(shortened(headline.of(found.table, judged), _LONGEST))}**"
    sentences = [f"- {literal(sentence)}" for sentence in leading(found.table)]
    notes = [f"- {literal(note)}" for note in (session_noise.noisy(found.table), *found.notes) if note]
    above = [verdict, "", *_fitted(sentences, _MOST_OF_SENTENCES, "sentence"), ""]
    below = ["", *_fitted(notes, _MOST_OF_NOTES, "note"), "", _origin(found)]
    room = MOST_BYTES - _size([*above, *below, *_table_head(), *_folded([], len(found.table) + _OPEN_ROWS)])
    rows = [_row(row) for row in found.table.to_dict("records")]
    table = [*_table_head(), *_fitted(rows, room, "row")]
    return "\n".join([*above, *_folded(table, len(rows)), *below])


def _row(row: dict[Any, Any]) -> str:
    values = f"{figure(row['arm_value'])} / {figure(row['reference_value'])} {metrics.unit(row['metric'])}"
    return line(
        [
            literal(users(row["load"])),
            literal(f"{row['arm']} / {row['reference']}"),
            label(row),
            values,
            f"{figure(row['ratio'])} ({bounds(row)})",
            str(row["blocks"]),
            f"**{literal(row['verdict'])}**{literal(in_words(row))}",
        ]
    )


def _table_head() -> list[str]:
    return [line(_HEADING), "|" + " --- |" * len(_HEADING)]


def _folded(table: list[str], rows: int) -> list[str]:
    """The table; closed at first if it is long."""
    if rows <= _OPEN_ROWS:
        return table
    return [f"<details><summary>{counted(rows, 'comparison')}</summary>", "", *table, "", "</details>"]


def _fitted(lines: Sequence[str], most: int, what: str) -> list[str]:
    """The lines that fit into `most` bytes, and a line that counts the others."""
    kept, left = list(lines), most - 200  # for that line
    for number, text in enumerate(lines):
        left -= _size([text])
        if left < 0:
            kept = [*lines[:number], "", f"{counted(len(lines) - number, f'more {what}')}: see `--json`."]
            break
    return kept


def _size(lines: Sequence[str]) -> int:
    return sum(len(text.encode(errors="replace")) + 1 for text in lines)


def _origin(found: Comparison) -> str:
    """How this was made, in small print: each run's name, its time and its machine."""
    runs = " against ".join(map(_about, reversed(found.runs)))
    level = f"{100 * found.table['level'].iloc[0]:g} %"
    return f"<sub>Made by `execbench compare` of {runs}. Intervals in brackets: {level}.</sub>"


def _about(run: Run) -> str:
    environment = run.record.get("environment") or {}
    packages = environment.get("packages") or {}
    version = packages.get("executor-bench")
    facts = [
        str(run.record.get("started_at") or "")[:16].replace("T", " "),
        str(environment.get("cpu") or ""),
        f"{environment.get('usable_cores')} usable cores" if environment.get("usable_cores") else "",
        f"executor-bench {version}" if version else "",
    ]
    words = literal(shortened(", ".join(filter(None, facts)), _LONGEST))
    name = code(shortened(run.folder.resolve().name, _LONGEST))
    return f"{name} ({words})" if words else name
