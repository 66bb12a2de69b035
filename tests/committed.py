"""Helpers for the committed runs and for the documents that quote them."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from typer.testing import CliRunner

from harness.cli import app

CHECKOUT = Path(__file__).parent.parent


def run_of(plan: str) -> Path:
    """Return the folder of the only run of this plan that is in git."""
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
    """Return what the command prints, 110 columns wide as in the documents, so that no line is folded.

    Runs in this process: a new process would spend most of its time on imports.
    """
    with contextlib.chdir(CHECKOUT):
        done = CliRunner().invoke(app, words, env={"COLUMNS": "110"})
    assert done.exit_code == 0, done.output
    return done.stdout


def squeezed(text: str) -> str:
    """Return the text with single spaces, so that layout makes no difference."""
    return re.sub(r"\s+", " ", text).strip()


def documents() -> list[Path]:
    """The README and the pages of the site."""
    return [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]


def unprinted(mark: str, printed: str) -> list[str]:
    """Return the paragraphs after this mark, in all documents, that the program does not print.

    At least one document must have the mark; `printed` is `squeezed`.
    """
    block = re.compile(rf"<!-- {re.escape(mark)} -->\n```text\n(.*?)```", re.S)
    quotes = [text for page in documents() for text in block.findall(page.read_text())]
    assert quotes, mark
    paragraphs = (part for quote in quotes for part in quote.split("\n\n"))
    return [part for part in paragraphs if squeezed(part) not in printed]


def rebuilt(plan: str, derived: Iterable[str], parent: Path) -> tuple[Path, str]:
    """Copy the run, rebuild its tables from its packed rows, and return the folder and the output."""
    folder = parent / run_of(plan).name
    shutil.copytree(run_of(plan), folder)
    for name in derived:
        (folder / name).unlink()
    return folder, squeezed(execbench("report", str(folder), "--full"))


def assert_equal_to_the_committed(plan: str, derived: Iterable[str], folder: Path) -> None:
    """Compare the tables byte by byte, and check that the rows are still packed."""
    assert not (folder / "requests.csv").exists()
    for name in derived:
        assert (folder / name).read_bytes() == (run_of(plan) / name).read_bytes(), name


def unprinted_pairs(page: Path, run: Path) -> tuple[int, list[str]]:
    """Return how many pairs of arms the page quotes, and the quoted lines that `compare` does not print.

    A quote has the mark `compare ONE OTHER`, two arms of the run.
    """
    quotes = re.findall(r"<!-- compare (\S+) (\S+) -->\n```text\n(.*?)```", page.read_text(), re.S)
    wrong: list[str] = []
    for one, other, text in quotes:
        printed = set(map(squeezed, execbench("compare", f"{run}:{one}", f"{run}:{other}").splitlines()))
        wrong += [line for line in text.strip().splitlines() if squeezed(line) not in printed]
    return len(quotes), wrong
