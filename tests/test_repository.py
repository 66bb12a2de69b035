"""Rules for the repository: top-level files, layout of text files, and references in CONTRIBUTING.md."""

from __future__ import annotations

import csv
import fnmatch
import functools
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from conftest import CHECKOUT

from harness.wire.records import Sample, Trial, header

pytestmark = pytest.mark.integration  # runs git

TOP_LEVEL = {
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "pyproject.toml",
    "constraints.txt",  # the versions that `make setup` installs
    "harness",
    "strategies",
    "tests",
    "docs",
    "notebooks",
    "results",
    ".ci",
    # read by their tools at the top level only
    ".editorconfig",
    ".gitignore",
    ".pre-commit-config.yaml",
}
LINE_BREAK = {".md"}  # trailing spaces mean a line break in Markdown
MAX_GUIDE_LINES = 150
MAX_README_LINES = 150


@functools.cache
def tracked() -> tuple[Path, ...]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, check=True)
    return tuple(Path(name) for name in listed.stdout.decode().split("\0") if name)


def untidy(path: Path, text: str) -> list[str]:
    """Return the deviations of a text file from .editorconfig."""
    wrong = []
    if "\r" in text:
        wrong.append("CRLF")
    if text and not text.endswith("\n"):
        wrong.append("no newline at the end")
    if path.suffix not in LINE_BREAK:
        lines = text.split("\n")
        wrong += [f"space at the end of line {n}" for n, line in enumerate(lines, 1) if line != line.rstrip()]
    return wrong


def test_the_top_level_holds_only_known_files() -> None:
    assert {path.parts[0] for path in tracked()} <= TOP_LEVEL


def test_text_files_follow_editorconfig() -> None:
    found = {}
    for path in tracked():
        content = (CHECKOUT / path).read_bytes() if (CHECKOUT / path).exists() else b""
        if b"\0" not in content:  # images and packed rows contain NUL bytes
            found[str(path)] = untidy(path, content.decode())
    assert {path: wrong for path, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize(
    ("name", "text", "wrong"),
    [
        ("a.py", "x\n", []),
        ("a.py", "", []),
        ("a.py", "x", ["no newline at the end"]),
        ("a.py", "x \ny\n", ["space at the end of line 1"]),
        ("a.md", "x  \ny\n", []),
        ("a.md", "x\r\n", ["CRLF"]),
    ],
)
def test_the_check_finds_an_untidy_file(name: str, text: str, wrong: list[str]) -> None:
    assert untidy(Path(name), text) == wrong


def test_every_error_code_that_mypy_ignores_has_a_reason_on_its_line() -> None:
    bare = re.compile(r"#[ ]type: ignore(?!\[[\w, -]+\]  # \w)")
    sources = [path for path in tracked() if path.suffix == ".py" and (CHECKOUT / path).exists()]
    assert [str(path) for path in sources if bare.search((CHECKOUT / path).read_text())] == []


def test_the_guide_is_short_and_refers_only_to_existing_files() -> None:
    text = (CHECKOUT / "CONTRIBUTING.md").read_text()
    assert len(text.splitlines()) <= MAX_GUIDE_LINES
    named = set(re.findall(r"\]\((?!https?:|#)([^)#]+)", text))
    named |= set(re.findall(r"`((?:tests|harness|strategies|docs|results)/[\w./-]+)`", text))
    places = {name for name in named if not re.search(r"NAME|RUN", name)}  # those are placeholders
    assert len(places) > 10
    assert [name for name in sorted(places) if not (CHECKOUT / name).exists()] == []


def test_the_readme_is_short() -> None:
    assert len((CHECKOUT / "README.md").read_text().splitlines()) <= MAX_README_LINES


def test_every_target_of_make_that_the_guide_names_exists() -> None:
    guide, makefile = (CHECKOUT / "CONTRIBUTING.md").read_text(), (CHECKOUT / "Makefile").read_text()
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", guide, re.MULTILINE))
    assert {"setup", "quick", "test", "check"} <= named
    assert named <= set(re.findall(r"^([a-z-]+):.*##", makefile, re.MULTILINE))


def test_the_newest_release_in_the_changelog_is_the_packages_version() -> None:
    version = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]
    headings = re.findall(r"^## \[(.+?)\](.*)$", (CHECKOUT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == ("Unreleased", "")
    newest, date = headings[1]
    assert newest == version
    assert re.fullmatch(r" - \d{4}-\d{2}-\d{2}", date)


def columns() -> set[str]:
    """The columns of the CSVs that are committed or that this version writes."""
    found = {*header(Sample), *header(Trial)}
    for path in CHECKOUT.glob("results/*/*.csv"):
        with path.open() as stream:
            found |= set(next(csv.reader(stream)))
    return found


def test_every_column_in_the_glossary_exists() -> None:
    rows = re.findall(
        r"^\| [^|]+ \| [^|]+ \| ([^|]+) \|$", (CHECKOUT / "docs/reference/glossary.md").read_text(), re.M
    )
    named = {name for cell in rows if "run.json" not in cell for name in re.findall(r"`([^`]+)`", cell)}
    assert len(named) > 30
    known = columns()
    assert [name for name in sorted(named) if not fnmatch.filter(known, name)] == []
