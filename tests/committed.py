"""The committed runs, and what a document quotes of them."""

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
    """The one run of this plan that is in git."""
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
    """What the command prints, so wide that nothing is folded, as the documents have it.

    In this process: one of its own would take most of its time to import what is here already.
    """
    with contextlib.chdir(CHECKOUT):
        done = CliRunner().invoke(app, words, env={"COLUMNS": "110"})
    assert done.exit_code == 0, done.output
    return done.stdout


def squeezed(text: str) -> str:
    """With single spaces, so that layout is no difference."""
    return re.sub(r"\s+", " ", text).strip()


def quoted(page: Path, mark: str) -> str:
    """The block of text that follows a mark; what is in it must be said by the program."""
    found = re.search(rf"<!-- {re.escape(mark)} -->\n```text\n(.*?)```", page.read_text(), re.S)
    assert found is not None, mark
    return squeezed(found[1])


def made_again(plan: str, derived: Iterable[str], parent: Path) -> tuple[Path, str]:
    """A copy of the run whose tables were made again from its packed rows, and what was printed."""
    folder = parent / run_of(plan).name
    shutil.copytree(run_of(plan), folder)
    for name in derived:
        (folder / name).unlink()
    return folder, squeezed(execbench("report", str(folder)))


def assert_equal_to_the_committed(plan: str, derived: Iterable[str], folder: Path) -> None:
    """Byte by byte, and from rows that stayed packed."""
    assert not (folder / "requests.csv").exists()
    for name in derived:
        assert (folder / name).read_bytes() == (run_of(plan) / name).read_bytes(), name
