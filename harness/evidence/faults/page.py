"""Show the results of faults in a table and on a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.evidence.faults.catalogue import FAULTS
from harness.evidence.faults.records import OUTCOMES, FaultRow
from harness.evidence.frames import table_of
from harness.evidence.page import Made, beginning
from harness.report import markdown

BAD = {"broken", "stuck", "server died", "lost", "green", "orphans", "not measured"}


def sorted_by_fault(rows: Sequence[FaultRow]) -> list[FaultRow]:
    """Sort by the order of the catalogue; arms keep their order."""
    order = list(FAULTS)
    return sorted(rows, key=lambda row: order.index(row.fault))


def render(how: Made, rows: Sequence[FaultRow], name: str, *, partial: bool = False) -> str:
    """Render the page. `partial`: the run was stopped before its end."""
    stopped = "stopped before its end." if partial else ""
    lines = [
        *beginning("Faults: how each strategy handles them", how, name, stopped),
        "Each cell is one run over HTTP on its own server, with one worker if the strategy has that option.",
        "It shows the outcome, the seconds until a later request got a good answer, and how many innocent",
        "requests (those that did not cause the fault) were refused (503), failed, or got no answer. Times",
        "are from a single run on this machine.",
        "",
        _matrix(rows),
        _legend(rows),
    ]
    for fault in _in_order(row.fault for row in rows):
        summary = FAULTS[fault].summary
        stop = "" if summary.endswith("?") else "."
        table = table_of([_columns(row) for row in rows if row.fault == fault])
        lines += [f"## {fault}", "", f"{summary[0].upper()}{summary[1:]}{stop}", "", table]
    return "\n".join(lines).rstrip() + "\n"


def cell(row: FaultRow) -> str:
    """Describe one row in a few words."""
    words = [row.outcome]
    if row.outcome == "recovered" and row.recovered_s is not None:
        words[0] += f" {row.recovered_s:.1f} s"
    counts = {"refused": row.refused, "failed": row.failed, "unanswered": row.unanswered}
    words += [f"{count} {name}" for name, count in counts.items() if count]
    if row.orphans:
        words.append(f"{row.orphans} left")
    return ", ".join(words)


def _columns(row: FaultRow) -> dict[str, str]:
    columns = {
        "arm": row.arm,
        "outcome": row.outcome,
        "good after": _number(row.recovered_s, "s", 2),
        "200": str(row.answered),
        "503": str(row.refused),
        "failed": str(row.failed),
        "no answer": str(row.unanswered),
        "longest": _number(row.longest_ms, "ms", 0),
        "details": details(row),
    }
    return {name: markdown.literal(text) for name, text in columns.items()}


def _matrix(rows: Sequence[FaultRow]) -> str:
    faults, arms = _in_order(row.fault for row in rows), _in_order(row.arm for row in rows)
    cells = {(row.arm, row.fault): cell(row) for row in rows}
    return markdown.table(
        ["fault", *map(markdown.literal, arms)],
        ([fault, *(markdown.literal(cells.get((arm, fault), "")) for arm in arms)] for fault in faults),
    )


def _legend(rows: Sequence[FaultRow]) -> str:
    used = {row.outcome for row in rows}
    return "".join(f"- **{word}**: {meaning}.\n" for word, meaning in OUTCOMES.items() if word in used)


def details(row: FaultRow) -> str:
    """The details of a row that have no column."""
    parts = [
        f"the item itself: {_one_line(row.item)}" if row.item else "",
        _figure("a 503 took", row.refused_p50_ms, "ms", 1),
        _figure("in flight at most", row.in_flight_max),
        _figure("/health red after", row.health_red_s, "s", 2),
        _figure("workers killed", row.kills),
        f"{row.orphans} process{'' if row.orphans == 1 else 'es'} left" if row.orphans else "",
        _one_line(row.notes),
    ]
    return "; ".join(part for part in parts if part)


def _figure(what: str, value: float | None, unit: str = "", digits: int = 0) -> str:
    return "" if value is None else f"{what} {_number(value, unit, digits)}".rstrip()


def _number(value: float | None, unit: str, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f} {unit}".rstrip()


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
