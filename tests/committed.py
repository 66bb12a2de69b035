"""The committed runs, and what a document quotes of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

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
    """What the command prints, so wide that nothing is folded, as the documents have it."""
    command = [sys.executable, "-m", "harness.cli", *words]
    wide = {**os.environ, "COLUMNS": "110"}
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=CHECKOUT, env=wide).stdout


def squeezed(text: str) -> str:
    """With single spaces, so that layout is no difference."""
    return re.sub(r"\s+", " ", text).strip()


def quoted(page: Path, mark: str) -> str:
    """The block of text that follows a mark; what is in it must be said by the program."""
    found = re.search(rf"<!-- {re.escape(mark)} -->\n```text\n(.*?)```", page.read_text(), re.S)
    assert found is not None, mark
    return squeezed(found[1])
