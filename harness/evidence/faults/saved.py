"""Write a page of faults with its picture and its rows, and read the rows again."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from harness.errors import UsageError, shortened
from harness.evidence.faults import matrix, page
from harness.evidence.faults.catalogue import FAULTS
from harness.evidence.faults.records import FORMER_OUTCOMES, OUTCOMES, FaultRow
from harness.evidence.frames import frame
from harness.evidence.page import Made
from harness.results import derived_files
from harness.system import text_files

STAGE = "faults"
_MOST_BYTES = 10_000_000


class Saved(NamedTuple):
    """Rows of faults, and how they were made."""

    rows: list[FaultRow]
    how: Made | None  # None: not recorded
    partial: bool = False  # stopped before its end


def write(out: Path, saved: Saved) -> None:
    """Write the page `out`, and beside it its picture (.svg), rows (.csv) and how they were made (.json).

    Replaces older files. Raises HarnessError if they cannot be written.
    """
    with derived_files.making(out.parent, stage=STAGE) as new:
        text = page.render(saved.how, saved.rows, out.stem, partial=saved.partial)
        derived_files.write_text(new, out.name, text)
        derived_files.write_text(new, f"{out.stem}.svg", matrix.svg(saved.rows, page.arms_are(saved.how)))
        derived_files.write_table(new, f"{out.stem}.csv", frame(FaultRow, saved.rows))
        if saved.how is not None:
            facts = {**saved.how._asdict(), "partial": saved.partial}
            derived_files.write_text(new, f"{out.stem}.json", json.dumps(facts, indent=2) + "\n")


def read(path: Path) -> Saved:
    """Read a CSV of faults, and the JSON beside it that says how it was made, if there is one.

    Reads outcomes by their former names, too. Raises UsageError for a file that `write` has not made.
    """
    text = text_files.read_text(path, STAGE, _MOST_BYTES)
    try:
        lines = csv.DictReader(io.StringIO(text), strict=True)
        _check_columns(path, lines.fieldnames or ())
        rows = [_row(path, number, line) for number, line in enumerate(lines, 2)]
    except csv.Error as error:
        raise _refused(path, f"is not a CSV: {error}") from error
    if not rows:
        raise _refused(path, "has no rows")
    how, partial = _how(path.with_suffix(".json"))
    return Saved(page.sorted_by_fault(rows), how, partial)


def _how(path: Path) -> tuple[Made | None, bool]:
    """How rows were made and whether the run was stopped; None if there is no such file."""
    if not path.exists():
        return None, False
    try:
        facts = json.loads(text_files.read_text(path, STAGE, _MOST_BYTES))
        return Made(**{name: str(facts[name]) for name in Made._fields}), bool(facts.get("partial", False))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        what = f"does not say how the rows were made ({', '.join(Made._fields)})"
        raise _refused(path, what) from error


def _check_columns(path: Path, names: Sequence[str]) -> None:
    missing = [field.name for field in dataclasses.fields(FaultRow) if field.name not in names]
    if missing:
        raise _refused(path, f"is not a CSV of faults: it has no column {missing[0]!r}")


def _row(path: Path, number: int, line: Mapping[str, Any]) -> FaultRow:
    values: dict[str, Any] = {}
    for name, parse in _PARSERS.items():
        text = line[name] or ""
        try:
            values[name] = parse(text)
        except ValueError as error:
            raise _refused(path, f"has {shortened(text)!r} as {name} in line {number}") from error
    return FaultRow(**values)


def _known(names: Mapping[str, Any]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        name = FORMER_OUTCOMES.get(text, text)
        if name not in names:
            raise ValueError(text)
        return name

    return parse


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _whole(text: str) -> int:
    return int(_number(text))


def _optional(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: parse(text) if text else None


_BY_TYPE: dict[Any, Callable[[str], Any]] = {
    str: str,
    int: _whole,
    float | None: _optional(_number),
    int | None: _optional(_whole),
}
_PARSERS = {
    **{name: _BY_TYPE[kind] for name, kind in get_type_hints(FaultRow).items()},
    "fault": _known(FAULTS),
    "outcome": _known(OUTCOMES),
}


def _refused(path: Path, what: str) -> UsageError:
    hint = "Give a CSV that `execbench faults --out PAGE.md` has written."
    return UsageError(f"The file {shortened(str(path))} {what}.", stage=STAGE, hint=hint)
