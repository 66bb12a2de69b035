"""What is committed: the reference run, the README's figures, the notebook. None may drift from the rows."""

import csv
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest
from committed import CHECKOUT, run_of
from nbclient import NotebookClient

DERIVED = ("summary.csv", "claims.csv", "comparisons.csv", "costs.csv", "advice.txt")
LARGEST_BYTES = 12_000_000


class Reported(NamedTuple):
    """The reference run, and a copy of it with what `report` has made and said of that."""

    run: Path
    copy: Path
    stdout: str


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reported]:
    """Of the rows as they are, and with one of them changed; both at once, as each takes seconds."""
    parent = tmp_path_factory.mktemp("reports")
    folders = {name: Path(shutil.copytree(run_of("article"), parent / name)) for name in ("same", "changed")}
    for folder in folders.values():
        shutil.rmtree(folder / "charts")
        for name in DERIVED:
            (folder / name).unlink()
    change_one_row(folders["changed"])
    with ThreadPoolExecutor() as at_once:
        printed = at_once.map(report, folders.values())
    return {
        name: Reported(run_of("article"), folder, stdout)
        for (name, folder), stdout in zip(folders.items(), printed, strict=True)
    }


def report(folder: Path) -> str:
    """What it prints."""
    command = [sys.executable, "-m", "harness.cli", "report", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def change_one_row(folder: Path) -> None:
    """One measured request of the first block waits 4.3 s for its I/O."""
    path = folder / "requests.csv"
    with path.open() as stream:
        lines = list(csv.reader(stream))
    header = lines[0]
    row = next(
        line
        for line in lines
        if line[header.index("phase")] == "measure" and line[header.index("block")] == "1"
    )
    row[header.index("io_ms")] = "4321.000"
    with path.open("w", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(lines)


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
def test_report_rebuilds_summary_claims_and_charts_with_equal_figures(reports: dict[str, Reported]) -> None:
    made = reports["same"]
    assert derived(made.copy) == derived(made.run)
    assert {path.name for path in (made.copy / "charts").iterdir()} == {
        path.name for path in (made.run / "charts").iterdir()
    }


@pytest.mark.integration
def test_with_one_row_changed_the_figures_change(reports: dict[str, Reported]) -> None:
    made = reports["changed"]
    assert derived(made.copy)["summary.csv"] != derived(made.run)["summary.csv"]


@pytest.mark.integration
def test_the_readmes_tables_are_what_report_prints_of_the_reference_run(
    reports: dict[str, Reported],
) -> None:
    readme = (CHECKOUT / "README.md").read_text()
    printed = re.search(r"<!-- reference run -->\n```text\n(.*?)```", readme, re.S)
    assert printed is not None
    squeezed = re.sub(r"\s+", " ", reports["same"].stdout)
    assert re.sub(r"\s+", " ", printed[1]).strip() in squeezed
    assert run_of("article").name in readme


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
    path = CHECKOUT / "notebooks" / "article.ipynb"
    notebook = nbformat.read(path, as_version=4)
    assert any(cell.get("outputs") for cell in notebook.cells if cell.cell_type == "code"), (
        "commit its outputs"
    )
    client = NotebookClient(notebook, timeout=200, resources={"metadata": {"path": str(path.parent)}})
    client.execute()


def test_every_relative_link_in_the_documents_leads_somewhere() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "*.md"], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.split():
        page = CHECKOUT / name
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert target.startswith("http") or (page.parent / target).exists(), f"{name}: {target}"
