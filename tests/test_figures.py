"""Each measured figure in the documents comes from a committed run or study.

A figure is a number with a unit or a decimal point, in prose or in a table, outside code and quotes of
reports, which other tests compare with the report. Rounded, it must be in a quote on the page, or in a run,
study or CSV to which the page links, or it is listed in `NOT_MEASURED`: settings, bounds, examples, and what
the article says. Pages that a command makes are left out.
"""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from committed import CHECKOUT

PAGES = (
    "README.md",
    "docs/index.md",
    *(f"docs/{room}/*.md" for room in ("tutorials", "howto", "explanation")),
)
UNITS = "ms|s|%|requests/s|times|x|MB|GB"
VALUE = r"\d+(?:,\d{3})*(?:\.\d+)?"
FIGURE = re.compile(rf"(?<![\w.,/:-])(?<!Python )({VALUE})(?![\w.,]*\d)(?: ({UNITS})(?!\w))?")
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w])")
CODE = re.compile(r"^(`{3,})[^\n]*\n.*?^\1|`[^`\n]+`|\]\([^)]*\)|<!--.*?-->", re.M | re.S)
QUOTE = re.compile(r"<!-- .*? -->\n```text\n(.*?)```", re.S)

# page → its figures that are not measured, with their units
NOT_MEASURED: dict[str, set[str]] = {
    "docs/explanation/client-cost.md": {"0.8 ms", "4 s"},
    "docs/explanation/method.md": {"80 %"},
    "docs/explanation/peers.md": {"1 ms", "5 ms"},
    "docs/howto/app.md": {"0.33"},
    "docs/howto/commands.md": {"0.1 s", "1 %", "2 s", "5 s", "6 s"},
    "docs/howto/compare.md": {"95 %"},
    "docs/howto/io.md": {"10 s"},
    "docs/howto/loads.md": {"0.5 s", "2 s", "3 s", "20 s", "5 %", "80 %"},
    "docs/howto/recipes.md": {"30 s", "3.14"},
    "docs/howto/servers.md": {"1 ms", "20 ms", "60 s", "300 s"},
    "docs/howto/trace.md": {"10 ms"},
    "docs/howto/workload.md": {"5 ms"},
    "docs/tutorials/app.md": {"20 ms", "3 %", "5 %", "95 %"},
    "docs/tutorials/ci.md": {"60 ms"},
    "docs/tutorials/model.md": {"1.15", "1.26", "20 %", "95 %"},  # an example of an interval
}


def pages() -> list[Path]:
    found = sorted(path for pattern in PAGES for path in CHECKOUT.glob(pattern))
    return [path for path in found if "do not edit" not in path.read_text()]


def figures(text: str) -> Iterator[tuple[str, float]]:
    """Yield each figure in the prose of a page, as the page writes it, and its value."""
    for found in FIGURE.finditer(CODE.sub(" ", text)):
        number, unit = found[1], found[2]
        if unit or "." in number:
            yield f"{number} {unit}" if unit else number, float(number.replace(",", ""))


def sources(page: Path) -> list[Path]:
    """The tables of the committed runs and studies to which a page links."""
    text = page.read_text()
    found = []
    for name in re.findall(r"results/(2\w+-[\w-]+)", text):
        folder = CHECKOUT / "results" / name
        tables = (path for path in folder.glob("*.csv") if path.stem not in ("requests", "trials"))
        found += [folder / "report.txt", *tables]
    for target, suffix in re.findall(r"\]\(([^)#]+)\.(md|csv|json)\b", text):
        path = page.parent / target  # a study's page has its rows beside it
        found.append(path.with_name(f"{path.name}.{'json' if suffix == 'json' else 'csv'}"))
    return sorted({path for path in found if path.exists()})


@functools.cache
def numbers(path: Path) -> frozenset[float]:
    """All numbers in a report or a JSON document, or in the cells of a CSV."""
    if path.suffix in (".txt", ".json"):
        return in_text(path.read_text())
    with path.open() as stream:
        cells = (cell for row in csv.reader(stream) for cell in row)
        return frozenset(float(cell) for cell in cells if NUMBER.fullmatch(cell))


def in_text(text: str) -> frozenset[float]:
    return frozenset(map(float, NUMBER.findall(text)))


def unsupported(page: Path, name: str) -> list[str]:
    """The figures of a page that no linked run or study has, and that the page's list does not name."""
    text = page.read_text()
    known = [*map(numbers, sources(page)), *map(in_text, QUOTE.findall(text))]
    stated = NOT_MEASURED.get(name, set())
    wrong = []
    for shown, value in figures(text):
        decimals = len(shown.split(" ")[0].partition(".")[2])
        if shown not in stated and not any(is_in(value, decimals, of_one) for of_one in known):
            wrong.append(shown)
    return wrong


@functools.cache
def is_in(value: float, decimals: int, known: frozenset[float]) -> bool:
    """Whether a number rounds to the value; a share may stand there as a percentage."""
    half = 0.5 * 10.0**-decimals * 1.0001
    return any(abs(one - value) <= half or abs(100 * one - value) <= half for one in known)


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_each_measured_figure_of_a_page_is_in_a_run_or_study_that_it_links(page: Path) -> None:
    assert unsupported(page, str(page.relative_to(CHECKOUT))) == []


def test_a_figure_is_listed_as_not_measured_only_where_it_stands() -> None:
    for name, stated in NOT_MEASURED.items():
        shown = {figure for figure, _ in figures((CHECKOUT / name).read_text())}
        assert stated <= shown, name


def test_a_figure_that_no_run_has_is_found(tmp_path: Path) -> None:
    (tmp_path / "study.csv").write_text("arm,ratio,share\na,4.126,0.031\n")
    page = tmp_path / "page.md"
    page.write_text(
        "It is 4.13 times as fast, 3.1 % dearer, `5.5` ms, and 4.14 times bigger ([rows](study.csv))."
    )
    assert unsupported(page, "page.md") == ["4.14 times"]
