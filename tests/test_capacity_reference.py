"""The committed capacity run on the real model: its tables follow from its rows, and the README quotes it."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from committed import CHECKOUT, execbench, quoted, run_of, squeezed

DERIVED = ("capacity.csv", "windows.csv", "advice.txt")


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A copy of the run whose tables were made again from its packed rows, and what was printed."""
    folder = tmp_path_factory.mktemp("capacity") / "run"
    shutil.copytree(run_of("capacity"), folder)
    for name in DERIVED:
        (folder / name).unlink()
    return folder, squeezed(execbench("report", str(folder)))


def test_every_table_is_made_again_from_the_packed_rows_byte_by_byte(reported: tuple[Path, str]) -> None:
    folder, _ = reported
    assert not (folder / "requests.csv").exists()
    for name in DERIVED:
        assert (folder / name).read_bytes() == (run_of("capacity") / name).read_bytes(), name


def test_it_has_the_articles_three_and_batch_with_a_verdict_each_and_a_chart() -> None:
    table = pd.read_csv(run_of("capacity") / "capacity.csv").set_index("arm")
    assert set(table.index) == {"inline", "thread", "process", "batch"}
    assert table["verdict"].notna().all()
    assert (run_of("capacity") / "charts" / "capacity.svg").exists()


def test_what_the_readme_quotes_is_what_report_prints(reported: tuple[Path, str]) -> None:
    for mark in ("capacity", "capacity advice"):
        assert quoted(CHECKOUT / "README.md", mark) in reported[1]
    assert run_of("capacity").name in (CHECKOUT / "README.md").read_text()
