"""The committed run with a real vector search: tables from rows, quotes in documents, and what it shows."""

from pathlib import Path
from typing import Any

import browsing
import pandas as pd
import pytest
from committed import assert_equal_to_the_committed, rebuilt, run_of, unprinted

pytestmark = pytest.mark.integration

DERIVED = ("summary.csv", "comparisons.csv", "costs.csv", "advice.txt")
PLAN = "article-pgvector"


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    return rebuilt(PLAN, DERIVED, tmp_path_factory.mktemp("pgvector"))


def test_every_table_is_made_again_from_the_packed_rows_byte_by_byte(reported: tuple[Path, str]) -> None:
    assert_equal_to_the_committed(PLAN, DERIVED, reported[0])


def test_what_documents_quote_is_what_report_prints(reported: tuple[Path, str]) -> None:
    assert unprinted("pgvector", reported[1]) == []


@pytest.mark.quick
def test_inline_the_wait_grows_with_the_load_and_the_databases_own_time_does_not() -> None:
    rows = pd.read_csv(
        run_of(PLAN) / "requests.csv.gz", usecols=["arm", "load", "phase", "io_ms", "io_server_ms"]
    )
    medians = rows[rows["phase"] == "measure"].groupby(["arm", "load"])[["io_ms", "io_server_ms"]].median()
    assert medians["io_server_ms"].between(0.5, 1.0).all()
    inline = medians["io_ms"].loc["inline"]
    assert inline["closed(8)"] / inline["closed(1)"] > 20
    process = medians["io_ms"].loc["process"]
    assert (
        (process / process["closed(1)"]).between(0.8, 1.25).all()
    )  # the ratio, as the machine sets the level


@pytest.mark.integration
def test_its_page_has_no_fault_in_a_browser(reported: tuple[Path, str], browser: Any) -> None:
    assert browsing.faults_of(browser, reported[0] / "report.html") == []
