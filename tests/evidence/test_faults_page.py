"""The page of faults, its picture, and that both can be made again from the rows."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import typer
from typer.testing import CliRunner

from harness.commands import faults as command
from harness.errors import UsageError
from harness.evidence.faults import matrix, page, saved
from harness.evidence.faults.records import FORMER_OUTCOMES, OUTCOMES, Observation, Tally, empty_row, make_row
from harness.evidence.page import Made

DOCS = Path(__file__).parent.parent.parent / "docs" / "explanation"
PAGES = ("faults", "faults-embed")
SVG = "{http://www.w3.org/2000/svg}"
HOW = Made("execbench faults", "2026-01-01", "a machine", "some code")
ROWS = [
    make_row("kill-idle", "one", Observation("recovered", 1.25, Tally(3, 1, 2, 0), kills=1)),
    make_row("kill-idle", "two", Observation("recovered", 2.5, Tally(4, 3, 0, 0), kills=2)),
    make_row("kill-idle", "three", Observation("stuck", tally=Tally(0, 0, 0, 4)), orphans=2),
    empty_row("hang", "one", "not available", "it is <not> installed"),
]


def cells(svg: str) -> dict[str, tuple[str, str]]:
    """Return title → (class, text) of each cell of a picture."""
    groups = [
        group
        for group in ElementTree.fromstring(svg).iter(f"{SVG}g")
        if group.find(f"{SVG}title") is not None
    ]
    return {
        group.findtext(f"{SVG}title", ""): (group.get("class", ""), group.findtext(f"{SVG}text", ""))
        for group in groups
    }


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours, as WCAG defines it."""

    def luminance(colour: str) -> float:
        channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [
            value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels
        ]
        return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


# -- the picture -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
def test_every_cell_of_the_committed_picture_is_a_row_of_its_csv(name: str) -> None:
    with (DOCS / f"{name}.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    drawn = cells((DOCS / f"{name}.svg").read_text())
    assert drawn == {
        f"{row['fault']}, {row['arm']}: {row['outcome']}": (
            matrix.LOOKS[row["outcome"]][0].name,
            matrix.sign_and_word(row["outcome"]),
        )
        for row in rows
    }
    assert len(drawn) == len(rows)


def test_a_cell_shows_the_grade_by_class_sign_and_word() -> None:
    drawn = cells(matrix.svg(ROWS))
    assert drawn["kill-idle, one: recovered"] == ("partly", "~ back")
    assert drawn["kill-idle, three: orphans"] == ("bad", "✗ orphans")
    assert drawn["hang, one: not available"] == ("none", "– absent")


def test_every_outcome_has_a_grade_and_a_word_that_fits() -> None:
    assert matrix.LOOKS.keys() == OUTCOMES.keys()
    assert all(len(matrix.sign_and_word(outcome)) <= matrix.LONGEST_WORDS for outcome in OUTCOMES)
    assert {word for word, (grade, _) in matrix.LOOKS.items() if grade is matrix.BAD} == page.BAD - {
        "not measured"
    }


def test_the_picture_has_a_text_alternative() -> None:
    root = ElementTree.fromstring(matrix.svg(ROWS))
    assert (root.get("role"), root.get("aria-labelledby")) == ("img", "title desc")
    told = root.findtext(f"{SVG}desc", "")
    assert told == (
        "Outcomes of 2 faults under 3 strategies. one: 1 with losses or delays, 1 not tested; "
        "two: 1 with losses or delays; three: 1 failed."
    )
    assert f"![{told} The table below the picture has every cell.](faults.svg)" in page.render(
        HOW, ROWS, "faults"
    )


@pytest.mark.parametrize("grade", matrix.GRADES, ids=lambda grade: grade.name)
def test_words_are_readable_on_light_and_dark_screens(grade: matrix.Grade) -> None:
    assert contrast(*grade.light) >= 4.5
    assert contrast(*grade.dark) >= 4.5


def test_the_name_of_an_arm_is_broken_into_lines_that_fit() -> None:
    texts = [text.text for text in ElementTree.fromstring(matrix.svg(ROWS)).iter(f"{SVG}text")]
    assert {"one", "two", "three", "kill-idle", "hang"} <= set(texts)
    long = [make_row("hang", "batch-over-supervised", Observation("unharmed"))]
    heads = [text.text for text in ElementTree.fromstring(matrix.svg(long)).iter(f"{SVG}text")]
    assert {"batch-", "over-", "supervised"} <= set(heads)


# -- the page --------------------------------------------------------------------------------------------


def test_strategies_with_the_same_outcome_share_a_line_with_ranges() -> None:
    text = page.render(HOW, ROWS, "faults")
    heads, _, first = text.partition("## kill-idle")[2].splitlines()[4:7]
    assert heads == "| outcome | strategies | good after | 200 | 503 | failed | no answer | details |"
    assert first == (
        r"| \~ back | one, two | 1.25 to 2.50 s | 3 to 4 | 1 to 3 | 0 to 2 | 0 | workers killed 1 to 2 |"
    )


@pytest.mark.parametrize(
    ("texts", "together"),
    [
        (["it ran 1 time", "it ran 1 time"], "it ran 1 time"),
        (["2 of 10", "11 of 10", "none"], "2 to 11 of 10; none"),
        (["", "0.5 s", ""], "0.5 s"),
        (["v1.2", "v1.3"], "v1.2; v1.3"),
        ([], ""),
    ],
)
def test_texts_that_differ_in_numbers_are_merged(texts: list[str], together: str) -> None:
    assert page.merged(texts) == together


# -- again from the rows ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
def test_the_committed_page_is_what_its_rows_give(name: str, tmp_path: Path) -> None:
    saved.write(tmp_path / f"{name}.md", saved.read(DOCS / f"{name}.csv"))
    for suffix in (".md", ".svg", ".csv", ".json"):
        assert (tmp_path / f"{name}{suffix}").read_text() == (DOCS / f"{name}{suffix}").read_text()


@pytest.mark.parametrize("partial", [False, True])
def test_rows_are_read_as_they_were_written(partial: bool, tmp_path: Path) -> None:
    written = saved.Saved(page.sorted_by_fault(ROWS), HOW, partial)
    saved.write(tmp_path / "x.md", written)
    assert saved.read(tmp_path / "x.csv") == written


def test_an_old_csv_is_read_and_its_page_invents_no_date_and_no_machine(tmp_path: Path) -> None:
    """It has no JSON beside it, and outcomes by their former names."""
    old = tmp_path / "old.csv"
    text = (DOCS / "faults.csv").read_text()
    for former, new in FORMER_OUTCOMES.items():
        text = text.replace(f",{new},", f",{former},")
    old.write_text(text)
    assert all(f",{former}," in text for former in FORMER_OUTCOMES)
    found = saved.read(old)
    assert found.rows == saved.read(DOCS / "faults.csv").rows
    assert found.how is None
    saved.write(tmp_path / "new.md", found)
    page_text = (tmp_path / "new.md").read_text()
    assert "Date, machine and code of these rows ([new.csv](new.csv)) are not recorded." in page_text
    assert "Made by" not in page_text
    assert not (tmp_path / "new.json").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "", "it has no column 'fault'"),
        (lambda text: text.replace("outcome", "result"), "it has no column 'outcome'"),
        (lambda text: text.splitlines()[0], "has no rows"),
        (lambda text: text.replace("kill-idle", "kill-idler"), "has 'kill-idler' as fault in line 2"),
        (lambda text: text.replace("recovered,", "revived,"), "has 'revived' as outcome in line 2"),
        (lambda text: text.replace("1.25", "nan"), "has 'nan' as recovered_s in line 2"),
        (lambda text: text.replace("1.25", "soon"), "has 'soon' as recovered_s in line 2"),
        (lambda text: text + '"', "is not a CSV"),
    ],
)
def test_a_file_with_other_contents_is_refused(
    change: Callable[[str], str], message: str, tmp_path: Path
) -> None:
    rows = tmp_path / "x.csv"
    saved.write(rows.with_suffix(".md"), saved.Saved(page.sorted_by_fault(ROWS), HOW))
    rows.write_text(change(rows.read_text()))
    with pytest.raises(UsageError) as error:
        saved.read(rows)
    assert message in error.value.what


@pytest.mark.parametrize("text", ["", "[]", "{}", "[1", '{"command": "x"}', "[" * 100_000])
def test_a_json_that_does_not_say_how_the_rows_were_made_is_refused(text: str, tmp_path: Path) -> None:
    saved.write(tmp_path / "x.md", saved.Saved(page.sorted_by_fault(ROWS), HOW))
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UsageError, match="does not say how the rows were made"):
        saved.read(tmp_path / "x.csv")


@pytest.fixture
def execbench() -> Callable[..., Any]:
    app = typer.Typer()
    app.command()(command.faults)
    return lambda words: CliRunner().invoke(app, words.split())


def test_the_command_makes_the_page_beside_the_rows(execbench: Callable[..., Any], tmp_path: Path) -> None:
    for suffix in (".csv", ".json"):
        shutil.copy(DOCS / f"faults-embed{suffix}", tmp_path)
    done = execbench(f"--from {tmp_path / 'faults-embed.csv'} --json")
    assert done.exit_code == 0, done.output
    for suffix in (".md", ".svg", ".csv"):
        made, committed = tmp_path / f"faults-embed{suffix}", DOCS / f"faults-embed{suffix}"
        assert made.read_text() == committed.read_text()
    document = json.loads(done.stdout)
    assert document["on"] == json.loads((DOCS / "faults-embed.json").read_text())["on"]
    assert {row["fault"] for row in document["rows"]} == {"kill-storm"}


@pytest.mark.parametrize(
    "flag", ["--storm", "--fault hang", "--strategy thread", "--workload embed", "--list"]
)
def test_recorded_rows_cannot_be_combined_with_faults_to_inject(
    flag: str, execbench: Callable[..., Any]
) -> None:
    error = execbench(f"--from {DOCS / 'faults.csv'} {flag}").exception
    assert isinstance(error, UsageError)
    assert "--from reads recorded rows" in error.what


def test_rows_that_do_not_exist_are_an_error(execbench: Callable[..., Any], tmp_path: Path) -> None:
    error = execbench(f"--from {tmp_path / 'none.csv'}").exception
    assert isinstance(error, UsageError)
    assert "cannot be read" in error.what
