"""The committed capacity run on the real model: its tables follow from its rows, and documents quote it."""

from pathlib import Path
from typing import Any

import browsing
import pandas as pd
import pytest
from committed import assert_equal_to_the_committed, rebuilt, run_of, unprinted

from harness.capacity import report
from harness.results import store

pytestmark = pytest.mark.integration

DERIVED = ("capacity.csv", "windows.csv", "advice.txt")


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    return rebuilt("capacity", DERIVED, tmp_path_factory.mktemp("capacity"))


def test_every_table_follows_from_the_packed_rows_byte_by_byte(reported: tuple[Path, str]) -> None:
    assert_equal_to_the_committed("capacity", DERIVED, reported[0])


def test_its_first_four_blocks_alone_give_no_promise_and_no_advice() -> None:
    run = store.read(run_of("capacity"))
    trials = run.trials[run.trials["block"] <= run.record["capacity"]["searched"] + 4]
    requests = run.requests[run.requests["trial"].isin(trials["trial"])]
    found = report.as_json(report.build(run._replace(trials=trials, rows=requests)))
    assert found["finding"].startswith("No rate can be promised yet. The highest estimate is ")
    why = "4 confirming blocks are too few for a promise, which needs at least 6"
    assert found["notes"] == [f"{row['arm']}: {why}" for row in found["capacity"]]
    assert all(why in sentence for sentence in found["sentences"])
    assert found["advised"]["take"] == ""
    assert found["advised"]["command"].endswith("--blocks 24")  # the plan had 12


@pytest.mark.quick
def test_it_compares_the_three_strategies_of_the_article_and_batch_and_has_a_chart() -> None:
    table = pd.read_csv(run_of("capacity") / "capacity.csv").set_index("arm")
    assert set(table.index) == {"inline", "thread", "process", "batch"}
    assert table["verdict"].notna().all()
    assert (run_of("capacity") / "charts" / "capacity.png").exists()


@pytest.mark.parametrize("mark", ["capacity", "capacity advice"])
def test_what_documents_quote_is_what_report_prints(reported: tuple[Path, str], mark: str) -> None:
    assert unprinted(mark, reported[1]) == []


@pytest.mark.integration
def test_its_page_has_no_fault_in_a_browser(reported: tuple[Path, str], browser: Any) -> None:
    assert browsing.faults_of(browser, reported[0] / "report.html") == []
