"""The site: `make docs` builds it strictly and offline, and what it shows comes from this repository."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CHECKOUT

pytestmark = pytest.mark.integration  # runs git and Sphinx

DOCS = CHECKOUT / "docs"
# `python -m sphinx` that ends when anything connects
OFFLINE = """
import os, socket, sys

def refuse(*address):
    os.write(2, b"connects to the network")
    os._exit(3)

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
from sphinx.cmd.build import main
sys.exit(main(sys.argv[1:]))
"""
BROKEN = """# A page

[no page](nowhere.md), [no file](../harness/nowhere.py), [no folder](nowhere/), [no heading](#nowhere),
[no heading there](other.md#nowhere), ![no picture](nowhere.png)
"""
FINDS = ("'nowhere.md'", "'../harness/nowhere.py'", "'nowhere/'", "'nowhere'", "nowhere.png")


def build(source: Path, into: Path) -> subprocess.CompletedProcess[str]:
    """Build as `make docs` does, with its flags."""
    (made,) = re.findall(r"^SITE = -m sphinx (.+)$", (CHECKOUT / "Makefile").read_text(), re.M)
    flags = shlex.split(made)
    places = {"build/site-cache": str(into / "cache"), "docs": str(source), "build/site": str(into / "site")}
    assert places.keys() <= set(flags)
    words = [places.get(word, word) for word in flags]
    return sphinx(*words, "-c", str(DOCS), folder=into)


def sphinx(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", OFFLINE, *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("docs")
    done = build(DOCS, folder)
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "site"


def test_the_site_is_built_without_a_warning_and_has_every_page(site: Path) -> None:
    pages = {path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md")}
    assert len(pages) > 50
    assert [str(page) for page in sorted(pages) if not (site / page).exists()] == []


LOADS = re.compile(r'<(?:script|img|iframe|source|video)\b[^>]*\bsrc="([^"]+)"|<link\b[^>]*\bhref="([^"]+)"')
IMPORTS = re.compile(r"@import|url\(\s*['\"]?(?:https?:)?//")  # of style sheets


def elsewhere(text: str) -> list[str]:
    """What a page or style sheet loads from another place than the site."""
    loaded = ["".join(pair) for pair in LOADS.findall(text)]
    return [name for name in loaded if re.match(r"(?:\w+:)?//", name)] + IMPORTS.findall(text)


def test_no_page_of_the_site_loads_anything_from_elsewhere(site: Path) -> None:
    files = [path for path in site.rglob("*") if path.suffix in (".html", ".css")]
    assert len(files) > 50
    assert {str(path): found for path in files if (found := elsewhere(path.read_text()))} == {}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('<a href="https://example.org">a link</a> <img src="_images/a.png">', []),
        ('<script src="https://example.org/a.js"></script>', ["https://example.org/a.js"]),
        ('<link rel="stylesheet" href="//example.org/a.css">', ["//example.org/a.css"]),
        ("@font-face { src: url('https://example.org/a.woff') }", ["url('https://"]),
    ],
)
def test_what_a_page_loads_from_elsewhere_is_found(text: str, found: list[str]) -> None:
    assert elsewhere(text) == found


def test_links_to_files_and_folders_of_the_repository_lead_to_copies(site: Path) -> None:
    text = (site / "explanation" / "beyond.html").read_text()
    copies = re.findall(r'href="(\.\./_downloads/[^"]+/report\.txt)"', text)
    assert copies
    assert all((site / "explanation" / copy).is_file() for copy in copies)
    assert re.search(
        r'href="\.\./_downloads/\w+/CONTRIBUTING\.md"', (site / "development/index.html").read_text()
    )


def test_a_dead_link_fails_the_build(tmp_path: Path) -> None:
    source = tmp_path / "pages"
    source.mkdir()
    (source / "index.md").write_text(f"{BROKEN}\n```{{toctree}}\nother\n```\n")
    (source / "other.md").write_text("# Another page\n")
    done = build(source, tmp_path)
    assert done.returncode == 1
    assert [one for one in FINDS if one not in done.stderr] == []
    assert len(re.findall("WARNING", done.stderr)) == 6
    assert "connects to" not in done.stderr


def test_a_build_that_connects_to_anything_fails(tmp_path: Path) -> None:
    (tmp_path / "index.md").write_text("# A page\n")
    (tmp_path / "conf.py").write_text("import socket\nsocket.create_connection(('127.0.0.1', 1))\n")
    done = sphinx("-q", ".", "site", folder=tmp_path)
    assert (done.returncode, done.stderr) == (3, "connects to the network")


@pytest.mark.parametrize("folder", sorted(path.parent.name for path in DOCS.glob("*/index.md")))
def test_every_page_of_a_folder_is_in_its_index(folder: str) -> None:
    index = (DOCS / folder / "index.md").read_text()
    pages = [path.name for path in (DOCS / folder).glob("*.md") if path.name != "index.md"]
    assert [name for name in sorted(pages) if f"({name})" not in index] == []


def test_links_of_files_outside_of_the_site_lead_to_files_and_headings() -> None:
    """The build checks the site's own links, but not headings of files that are no pages of it."""
    listed = subprocess.run(
        ["git", "ls-files", "*.md"], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    dead = []
    for name in listed.stdout.split():
        page = CHECKOUT / name
        for target in links(page.read_text()) if page.exists() else ():
            path, _, heading = target.partition("#")
            file = page.parent / path if path else page
            is_page = file.suffix == ".md" and file.is_file()
            if not file.exists() or (heading and is_page and heading not in headings(file.read_text())):
                dead.append(f"{name}: {target}")
    assert dead == []


def links(text: str) -> list[str]:
    """The targets of a page's links and pictures that are not on the web."""
    prose = re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.M | re.S)
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", prose) if not re.match(r"\w+:", target)]


def headings(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub and MyST write them."""
    found = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in found}


@pytest.mark.parametrize(
    ("title", "anchor"),
    [
        ("Add a setting", "add-a-setting"),
        ("Servers: `load`", "servers-load"),
        ("1. micro-batches over one thread", "1-micro-batches-over-one-thread"),
    ],
)
def test_an_anchor_is_the_heading_in_small_letters_with_hyphens(title: str, anchor: str) -> None:
    assert headings(f"# Page\n\n## {title}\n") == {"page", anchor}


def test_links_in_code_and_to_the_web_are_not_links_to_files() -> None:
    text = "[a](b.md) `[c](d.md)` [e](https://example.org)\n```text\n[f](g.md)\n```\n![h](i.png)\n"
    assert links(text) == ["b.md", "i.png"]
