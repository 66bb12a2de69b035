"""Pages in a real browser, on a phone and on a desk. Those of the committed runs: `test_*_reference.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import browsing
import pytest
from committed import execbench, run_of
from conftest import Execbench
from made_reports import closed
from made_up import Point, World
from typer.testing import CliRunner

from harness.cli import app
from harness.report import report
from harness.report.page import html, run_page

pytestmark = pytest.mark.integration

HOSTILE = (
    "<script>document.title = 'taken'</script>",
    '"><img src=x onerror=alert(1)>',
    "\x1b[31mred\x1b[0m",
    "n" * 200,
)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run whose arms have the worst names."""
    world: World = {(arm, users): Point(requests=20) for arm in HOSTILE for users in (1, 4)}
    made = report.build(closed(world, blocks=6, reference=HOSTILE[0]))
    path = tmp_path_factory.mktemp("hostile") / "report.html"
    path.write_text(html.render(run_page.page(made, [])), encoding="utf-8")
    return path


def test_a_fresh_run_has_a_page_without_fault(browser: Any, shared: Execbench) -> None:
    arms = ("--strategy", "inline", "--strategy", "thread")
    words = (*arms, "--blocks", "2", "--duration", "0.2", "-c", "2", "--no-self-check", "--out", "run")
    done = shared("run", "smoke", *words)
    assert done.returncode == 0, done.stderr
    assert browsing.faults_of(browser, shared.folder / "run" / "report.html") == []


def test_hostile_names_stay_text(browser: Any, hostile: Path) -> None:
    assert browsing.faults_of(browser, hostile) == []
    with browsing.opened(browser, hostile, 1280) as (page, _):
        shown = page.inner_text("section#arms table")
        assert page.title() == "load: executor-bench report"
    assert HOSTILE[0] in shown
    assert HOSTILE[1] in shown
    assert "␛[31mred" in shown
    assert HOSTILE[3] in shown


def test_every_fault_of_a_page_is_found(browser: Any, hostile: Path, tmp_path: Path) -> None:
    faulty = """
        <script>1</script> <img src="http://127.0.0.1:9/x.png"> <p id="trust">twice</p>
        <div style="width: 100rem">wide</div> <p style="color: #333">dark on dark</p>
        <figure><figcaption>bare</figcaption><div role="img" aria-label=""></div></figure><h1>
    """
    path = tmp_path / "report.html"
    text = hostile.read_text().replace("<h1>", faulty, 1).replace("font-size: 10px", "font-size: 9px", 1)
    path.write_text(text)
    found = browsing.faults_of(browser, path)
    for fault in (
        "has a script",
        "leads away: http://127.0.0.1:9/x.png",
        "ids used twice: trust",
        "wider than the screen by",
        "dark on dark",
        "no alt text: bare",
        "no table: bare",
        "no drawing: bare",
        "px: ",
    ):
        assert any(fault in one for one in found), (fault, found)


def test_the_page_of_a_comparison_has_no_fault(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "pages" / "compared.html"
    printed = execbench("compare", str(run_of("article")), "--html", str(path))
    assert "thread takes" in printed
    assert browsing.faults_of(browser, path) == []
    with browsing.opened(browser, path, 1280) as (page, _):
        assert page.inner_text("h1").startswith("Slower: default_pool at c = 2, by 22 % [10, 34]")


def test_a_page_that_cannot_be_written_is_one_message(tmp_path: Path) -> None:
    ended = CliRunner().invoke(app, ["compare", str(run_of("article")), "--html", str(tmp_path)])
    assert ended.exit_code == 1
    assert ended.stderr.startswith("Error (compare): Nothing was written to")
    assert ended.stderr.endswith("is a folder.\nGive another file with --html.\n")
