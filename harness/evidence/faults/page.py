"""What came of faults, as words in a table and as the text of a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.evidence.faults.catalogue import FAULTS
from harness.evidence.faults.records import OUTCOMES, Seen
from harness.evidence.frames import table_of
from harness.evidence.page import Made, beginning
from harness.report import markdown

BAD = {"broken", "stuck", "server died", "lost", "green", "orphans", "not measured"}


def sorted_by_fault(rows: Sequence[Seen]) -> list[Seen]:
    """In the order of the catalogue, arms as they came."""
    order = list(FAULTS)
    return sorted(rows, key=lambda row: order.index(row.fault))


def render(how: Made, rows: Sequence[Seen], name: str, *, partial: bool = False) -> str:
    """The page. `partial`: it was stopped before its end."""
    stopped = "stopped before its end." if partial else ""
    lines = [
        *beginning("Faults: what each strategy makes of each", how, name, stopped),
        "Every cell is a server of its own, with one worker where that can be said, asked over HTTP. In it:",
        "what came of it, after how many seconds a later request was answered well, and how many innocent",
        "requests were refused (503), failed, or got no answer. One run each: seconds are of this machine.",
        "",
        _matrix(rows),
        _legend(rows),
    ]
    for fault in _in_order(row.fault for row in rows):
        summary = FAULTS[fault].summary
        stop = "" if summary.endswith("?") else "."
        told = table_of([_columns(row) for row in rows if row.fault == fault])
        lines += [f"## {fault}", "", f"{summary[0].upper()}{summary[1:]}{stop}", "", told]
    return "\n".join(lines).rstrip() + "\n"


def cell(row: Seen) -> str:
    """One row in a few words."""
    words = [row.outcome]
    if row.outcome == "recovered" and row.recovered_s is not None:
        words[0] += f" {row.recovered_s:.1f} s"
    counts = {"refused": row.refused, "failed": row.failed, "unanswered": row.unanswered}
    words += [f"{count} {name}" for name, count in counts.items() if count]
    if row.orphans:
        words.append(f"{row.orphans} left")
    return ", ".join(words)


def _columns(row: Seen) -> dict[str, str]:
    told = {
        "arm": row.arm,
        "": row.outcome,
        "good after": _number(row.recovered_s, "s", 2),
        "200": str(row.answered),
        "503": str(row.refused),
        "failed": str(row.failed),
        "no answer": str(row.unanswered),
        "longest": _number(row.longest_ms, "ms", 0),
        "what else": what_else(row),
    }
    return {name: markdown.literal(text) for name, text in told.items()}


def _matrix(rows: Sequence[Seen]) -> str:
    faults, arms = _in_order(row.fault for row in rows), _in_order(row.arm for row in rows)
    cells = {(row.arm, row.fault): cell(row) for row in rows}
    return markdown.table(
        ["fault", *map(markdown.literal, arms)],
        ([fault, *(markdown.literal(cells.get((arm, fault), "")) for arm in arms)] for fault in faults),
    )


def _legend(rows: Sequence[Seen]) -> str:
    there = {row.outcome for row in rows}
    return "".join(f"- **{word}**: {meaning}.\n" for word, meaning in OUTCOMES.items() if word in there)


def what_else(row: Seen) -> str:
    """What there is to say beside the numbers."""
    said = [
        f"the item itself: {_one_line(row.item)}" if row.item else "",
        _said("a 503 took", row.refused_p50_ms, "ms", 1),
        _said("in flight at most", row.in_flight_max),
        _said("/health red after", row.health_red_s, "s", 2),
        _said("workers killed", row.kills),
        f"{row.orphans} processes left" if row.orphans else "",
        _one_line(row.notes),
    ]
    return "; ".join(part for part in said if part)


def _said(what: str, value: float | None, unit: str = "", digits: int = 0) -> str:
    return "" if value is None else f"{what} {_number(value, unit, digits)}".rstrip()


def _number(value: float | None, unit: str, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f} {unit}".rstrip()


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
