"""What is committed: the reference run, the README's figures, the notebook. None may drift from the rows."""

import ast
import csv
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browsing
import nbformat
import pytest
from committed import CHECKOUT, documents, execbench, run_of, squeezed, unprinted
from made_reports import WORLD, closed
from nbclient import NotebookClient

from harness.report import report

NOTEBOOK = CHECKOUT / "notebooks" / "article.ipynb"
DERIVED = ("summary.csv", "claims.csv", "comparisons.csv", "costs.csv", "advice.txt")
LARGEST_BYTES = 12_000_000
MOVED = {"20261121-103412-article"}  # to docs/studies/article-runs, where its study still names its old place


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A copy of the run whose tables and charts `report` has made again, and what it printed."""
    run = run_of("article")
    folder = Path(shutil.copytree(run, tmp_path_factory.mktemp("article") / run.name))
    shutil.rmtree(folder / "charts")
    for name in DERIVED:
        (folder / name).unlink()
    return folder, squeezed(execbench("report", str(folder)))


def derived(folder: Path) -> dict[str, str]:
    return {name: (folder / name).read_text() for name in DERIVED}


def test_the_reference_run_is_whole_and_small_enough_for_git() -> None:
    run = run_of("article")
    files = [path for path in run.rglob("*") if path.is_file() and "logs" not in path.parts]
    assert sum(path.stat().st_size for path in files) < LARGEST_BYTES
    with (run / "trials.csv").open() as stream:
        trials = [row for row in csv.DictReader(stream) if row["block"] != "0"]
    cells = {(row["strategy"], row["concurrency"]) for row in trials}
    strategies = ("inline", "thread", "process", "default_pool")
    assert cells == {(name, c) for name in strategies for c in ("1", "2", "4", "8")}
    assert {row["state"] for row in trials} == {"ok"}


@pytest.mark.integration
def test_report_rebuilds_summary_claims_and_charts_with_equal_figures(reported: tuple[Path, str]) -> None:
    folder, run = reported[0], run_of("article")
    assert derived(folder) == derived(run)
    assert {path.name for path in (folder / "charts").iterdir()} == {
        path.name for path in (run / "charts").iterdir()
    }


@pytest.mark.integration
def test_what_documents_quote_of_the_reference_run_is_what_report_prints(reported: tuple[Path, str]) -> None:
    assert unprinted("short report", reported[1]) == []
    assert run_of("article").name in (CHECKOUT / "README.md").read_text()


def test_a_quote_that_report_does_not_print_is_found() -> None:
    assert unprinted("short report", "") != []


def test_documents_name_no_run_that_is_not_committed() -> None:
    for page in documents():
        for name in set(re.findall(r"\bresults/(2\d{7}-\d{6}-[\w-]+)", page.read_text())) - MOVED:
            assert (CHECKOUT / "results" / name / "run.json").exists(), f"{page.name}: {name}"


def test_the_readmes_verdicts_and_figures_are_those_of_the_reference_run() -> None:
    readme = (CHECKOUT / "README.md").read_text()
    with (run_of("article") / "claims.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    for claim in (row for row in rows if row["kind"] == "claim"):
        said = re.search(rf"^\| {claim['id']} \|.*\| {claim['verdict']} \| (.*) \|$", readme, re.M)
        assert said is not None, claim["id"]
        for check in rows:
            if check["kind"] == "check" and check["id"] == claim["id"] and check["decides"] == "True":
                figures = (float(check[name]) for name in ("measured", "low", "high"))
                assert "{:.2f} [{:.2f}, {:.2f}]".format(*figures) in said[1]


@pytest.mark.integration
@pytest.mark.timeout(300)
def test_the_notebook_runs_on_the_committed_run() -> None:
    notebook = the_notebook()
    assert any(cell.get("outputs") for cell in notebook.cells if cell.cell_type == "code"), (
        "commit its outputs"
    )
    client = NotebookClient(notebook, timeout=200, resources={"metadata": {"path": str(NOTEBOOK.parent)}})
    client.execute()


@pytest.mark.integration  # its charts take long
def test_on_a_run_without_claims_each_notebook_cell_works_or_explains_why_it_shows_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = report.build(closed(WORLD))
    assert own.claims.empty
    shown: list[Any] = []
    monkeypatch.setattr("harness.open_run", lambda folder: own)
    monkeypatch.setattr("IPython.display.display", shown.append)
    namespace: dict[str, Any] = {}
    for cell in code_cells():
        shown.append(last_value_of(cell, namespace))
    said = [one for one in shown if one is namespace["NOT_JUDGED"]]
    assert len(said) == 6  # the law, the tables and their chart, the claims, their checks and their chart
    assert "judges no claims of the article" in namespace["NOT_JUDGED"].data


def the_notebook() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]  # nbformat has no types


def code_cells() -> Iterator[str]:
    """Each without its magics."""
    for cell in the_notebook().cells:
        if cell.cell_type == "code":
            yield "\n".join(line for line in cell.source.splitlines() if not line.startswith("%"))


def last_value_of(cell: str, namespace: dict[str, Any]) -> Any:
    """Of the cell's last expression, as a notebook shows it."""
    tree = ast.parse(cell)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<cell>", "exec"), namespace)
    if isinstance(last, ast.Expr):
        return eval(compile(ast.Expression(last.value), "<cell>", "eval"), namespace)
    return None


def test_every_relative_link_in_the_documents_leads_somewhere() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "*.md"], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.split():
        page = CHECKOUT / name
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert target.startswith("http") or (page.parent / target).exists(), f"{name}: {target}"


@pytest.mark.integration
def test_its_page_has_no_fault_in_a_browser(reported: tuple[Path, str], browser: Any) -> None:
    assert browsing.faults_of(browser, reported[0] / "report.html") == []
