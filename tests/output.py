"""What commands print and write, for tests of the command line."""

import csv
import hashlib
import re
import subprocess
from pathlib import Path

QUICK = ("--workload", "synthetic", "--service-ms", "2", "--io-ms", "1")
WIDTH = 80

Done = subprocess.CompletedProcess[str]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as stream:
        return list(csv.DictReader(stream))


def digests(folder: Path, pattern: str = "*") -> dict[str, str]:
    files = [path for path in folder.rglob(pattern) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


SENTENCES = (
    *("At c = ", "At poisson", "Machine: ", "(foreign CPU: ", "Warning: ", "The law of T2"),
    *("Next: ", "Rows, tables and charts: "),
)


def assert_fits(text: str) -> None:
    """Check that tables fit the width. A sentence is one line, for `head -1` and for copying its path."""
    tables = [line for line in text.splitlines() if not line.startswith(SENTENCES)]
    assert max(map(len, tables)) <= WIDTH
    assert "…" not in text


def assert_refused(done: Done, code: int, message: str) -> None:
    assert done.returncode == code, done.stderr
    assert re.search(message, done.stderr), done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert done.stdout == ""
