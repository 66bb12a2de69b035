"""Show the results of faults in a table and on a page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from harness.evidence.faults import matrix
from harness.evidence.faults.catalogue import FAULTS
from harness.evidence.faults.records import OUTCOMES, FaultRow
from harness.evidence.page import Made, beginning
from harness.report import markdown

BAD = {"broken", "stuck", "server died", "lost", "green", "orphans", "not measured"}
_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?")
_BETWEEN = "; "
_OF_COMMANDS = (
    "Of a command, the *worker* is the process that uses the most CPU under load; the command itself counts",
    "only if all other processes use less than a tenth of the whole. **503** includes 429.",
    "",
)
_LONGEST_DETAIL = 100  # characters on the page; the CSV has all


def sorted_by_fault(rows: Sequence[FaultRow]) -> list[FaultRow]:
    """Sort by the order of the catalogue; arms keep their order."""
    order = list(FAULTS)
    return sorted(rows, key=lambda row: order.index(row.fault))


def arms_are(how: Made | None) -> str:
    """What a page calls its arms: servers, if commands or a plan were tested, else strategies."""
    words = [] if how is None else how.command.split()[2:]
    return "servers" if "--command" in words or (words and not words[0].startswith("-")) else "strategies"


def render(how: Made | None, rows: Sequence[FaultRow], name: str, *, partial: bool = False) -> str:
    """Render the page <name>.md; its picture is <name>.svg.

    `how`: None if it was not recorded. `partial`: the run was stopped before its end.
    """
    are = arms_are(how)
    alternative = f"{matrix.alternative(rows, are)} The table below the picture has every cell."
    lines = [
        *_head(how, name, "stopped before its end." if partial else ""),
        f"Make this page again from its rows: {markdown.code(f'execbench faults --from {name}.csv')}.",
        "",
        "Each cell is one run over HTTP on its own server, with one worker if the strategy has that option.",
        "",
        f"![{markdown.literal(alternative)}]({name}.svg)",
        "",
        _legend(rows),
        "<details>",
        "<summary>The picture as a table, with the number of affected requests</summary>",
        "",
        _matrix(rows),
        "</details>",
        "",
        "## How to read the tables",
        "",
        "Each table has one line per outcome. *Innocent* requests are those that did not cause the fault.",
        "",
        "- **good after**: from the fault until a request sent after it got a good answer.",
        "- **200**, **503**, **failed**, **no answer**: innocent requests by their answer. A column without",
        "  any is left out.",
        "- **longest**: the longest time of an innocent request.",
        "",
        f"If {are} share a line, it has ranges; [{name}.csv]({name}.csv) has the figures of each.",
        "Times are from a single run on this machine.",
        "",
        *(_OF_COMMANDS if are == "servers" else ()),
    ]
    for fault in concerned(rows):
        sentences = [_sentence(FAULTS[fault].summary)]
        if are == "servers" and FAULTS[fault].of_commands:
            sentences.append(f"On a command: {_sentence(FAULTS[fault].of_commands)}")
        table = _table([row for row in rows if row.fault == fault], are)
        lines += [f"## {fault}", "", "  \n".join(sentences), "", table]
    return "\n".join(lines).rstrip() + "\n"


def concerned(rows: Sequence[FaultRow]) -> list[str]:
    """The faults that an arm of these rows can have."""
    return matrix.in_order(row.fault for row in rows if row.outcome != "not applicable")


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


def details(row: FaultRow) -> str:
    """The details of a row that have no column."""
    return _BETWEEN.join(_details(row))


def merged(texts: Iterable[str]) -> str:
    """Distinct texts; those that differ only in their numbers become one, with ranges such as "1 to 3"."""
    alike: dict[str, list[list[str]]] = {}
    for text in filter(None, texts):
        alike.setdefault(_NUMBER.sub("\0", text), []).append(_NUMBER.findall(text))
    return _BETWEEN.join(_with_ranges(pattern, numbers) for pattern, numbers in alike.items())


def _head(how: Made | None, name: str, partial: str) -> list[str]:
    title = f"Faults: how each {matrix.SINGULAR[arms_are(how)]} handles them"
    if how is not None:
        title += " with a real model" if "--workload embed" in how.command else ""
        return beginning(title, how, name, partial)
    return [
        f"# {title}",
        "",
        f"Date, machine and code of these rows ([{name}.csv]({name}.csv)) are not recorded.",
    ]


def _with_ranges(pattern: str, numbers: list[list[str]]) -> str:
    """Put the range of each place into the pattern; every text has the same number of places."""
    ranges = [_range(place) for place in zip(*numbers, strict=True)]
    pieces = pattern.split("\0")
    return pieces[0] + "".join(text + after for text, after in zip(ranges, pieces[1:], strict=True))


def _range(numbers: Sequence[str]) -> str:
    low, high = min(numbers, key=float), max(numbers, key=float)
    return low if low == high else f"{low} to {high}"


def _sentence(summary: str) -> str:
    return f"{summary[0].upper()}{summary[1:]}{'' if summary.endswith('?') else '.'}"


def _table(rows: Sequence[FaultRow], are: str) -> str:
    """One line for each outcome of a fault. Columns in which nothing happened are left out."""
    lines = [
        _columns([row for row in rows if row.outcome == outcome], are)
        for outcome in matrix.in_order(row.outcome for row in rows)
    ]
    kept = [name for name in lines[0] if any(line[name] not in ("", "0") for line in lines)]
    return markdown.table(kept, [[markdown.literal(line[name]) for name in kept] for line in lines])


def _columns(rows: Sequence[FaultRow], are: str) -> dict[str, str]:
    """What one line says of all rows with the same outcome."""
    parts = [_short(part.replace(f" of arm '{row.arm}'", "")) for row in rows for part in _details(row)]
    return {
        "outcome": matrix.sign_and_word(rows[0].outcome),
        are: ", ".join(row.arm for row in rows),
        "good after": merged(_number(row.recovered_s, "s", 2) for row in rows),
        "200": merged(str(row.answered) for row in rows),
        "503": merged(str(row.refused) for row in rows),
        "failed": merged(str(row.failed) for row in rows),
        "no answer": merged(str(row.unanswered) for row in rows),
        "longest": merged(_number(row.longest_ms, "ms", 0) for row in rows),
        "details": merged(parts),
    }


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_DETAIL else f"{text[:_LONGEST_DETAIL]}…"


def _matrix(rows: Sequence[FaultRow]) -> str:
    faults, arms = matrix.in_order(row.fault for row in rows), matrix.in_order(row.arm for row in rows)
    cells = {(row.arm, row.fault): cell(row) for row in rows}
    return markdown.table(
        ["fault", *map(markdown.literal, arms)],
        ([fault, *(markdown.literal(cells.get((arm, fault), "")) for arm in arms)] for fault in faults),
    )


def _legend(rows: Sequence[FaultRow]) -> str:
    used = {row.outcome for row in rows}
    return "".join(
        f"- **{word}**: {meaning}. ({matrix.sign_and_word(word)})\n"
        for word, meaning in OUTCOMES.items()
        if word in used
    )


def _details(row: FaultRow) -> list[str]:
    parts = [
        f"the item itself: {_one_line(row.item)}" if row.item else "",
        _figure("a 503 took", row.refused_p50_ms, "ms", 1),
        _figure("in flight at most", row.in_flight_max),
        _figure("/health red after", row.health_red_s, "s", 2),
        _figure("workers killed", row.kills),
        f"{row.orphans} process{'' if row.orphans == 1 else 'es'} left" if row.orphans else "",
        *_one_line(row.notes).split(_BETWEEN),
    ]
    return [part for part in parts if part]


def _figure(what: str, value: float | None, unit: str = "", digits: int = 0) -> str:
    return "" if value is None else f"{what} {_number(value, unit, digits)}".rstrip()


def _number(value: float | None, unit: str, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f} {unit}".rstrip()


def _one_line(text: str) -> str:
    return " ".join(text.split())
