"""The committed run of `beyond`: its tables follow from its rows, and what the documents quote is in them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent
DERIVED = ("summary.csv", "comparisons.csv", "costs.csv", "limits.csv", "io.csv", "ranking.csv", "advice.txt")
PAGE = CHECKOUT / "docs" / "beyond.md"


def committed(plan: str) -> Path:
    listed = subprocess.run(
        ["git", "ls-files", f"results/*-{plan}/run.json"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    (only,) = listed.stdout.split()
    return CHECKOUT / Path(only).parent


def execbench(*words: str) -> str:
    command = [sys.executable, "-m", "harness.cli", *words]
    wide = {**os.environ, "COLUMNS": "110"}  # as the documents have it: nothing is folded
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=CHECKOUT, env=wide).stdout


def squeezed(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def quoted(page: Path, mark: str) -> str:
    """The block of text that follows a mark; what is in it must be said by the program."""
    found = re.search(rf"<!-- {re.escape(mark)} -->\n```text\n(.*?)```", page.read_text(), re.S)
    assert found is not None, mark
    return squeezed(found[1])


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A copy of the run whose tables were made again from its packed rows, and what was printed."""
    folder = tmp_path_factory.mktemp("beyond") / "run"
    shutil.copytree(committed("beyond"), folder)
    for name in DERIVED:
        (folder / name).unlink()
    return folder, squeezed(execbench("report", str(folder)))


def test_every_table_is_made_again_from_the_packed_rows_byte_by_byte(reported: tuple[Path, str]) -> None:
    folder, _ = reported
    assert not (folder / "requests.csv").exists()
    for name in DERIVED:
        assert (folder / name).read_bytes() == (committed("beyond") / name).read_bytes(), name


@pytest.mark.parametrize("mark", ["ranked", "why", "limits", "io", "machine"])
def test_what_the_page_quotes_is_what_report_prints(reported: tuple[Path, str], mark: str) -> None:
    assert quoted(PAGE, mark) in reported[1]


def test_the_readmes_ranking_is_what_report_prints(reported: tuple[Path, str]) -> None:
    assert quoted(CHECKOUT / "README.md", "ranked") in reported[1]
    assert committed("beyond").name in (CHECKOUT / "README.md").read_text()


def test_the_pairs_that_the_page_quotes_are_what_compare_prints() -> None:
    marks = re.findall(r"<!-- (compare (\S+) (\S+)) -->", PAGE.read_text())
    assert len(marks) >= 4
    run = committed("beyond")
    for mark, one, other in marks:
        printed = {
            squeezed(line) for line in execbench("compare", f"{run}:{one}", f"{run}:{other}").splitlines()
        }
        text = re.search(rf"<!-- {re.escape(mark)} -->\n```text\n(.*?)```", PAGE.read_text(), re.S)
        assert text is not None
        assert {squeezed(line) for line in text[1].strip().splitlines()} <= printed
