"""The committed run with a real vector search: tables from rows, the README's quote, and what it shows."""

from pathlib import Path

import pandas as pd
import pytest
from committed import CHECKOUT, assert_equal_to_the_committed, quoted, rebuilt, run_of

pytestmark = pytest.mark.integration

DERIVED = ("summary.csv", "comparisons.csv", "costs.csv", "advice.txt")
PLAN = "article-pgvector"


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    return rebuilt(PLAN, DERIVED, tmp_path_factory.mktemp("pgvector"))


def test_every_table_is_made_again_from_the_packed_rows_byte_by_byte(reported: tuple[Path, str]) -> None:
    assert_equal_to_the_committed(PLAN, DERIVED, reported[0])


def test_what_the_readme_quotes_is_what_report_prints(reported: tuple[Path, str]) -> None:
    assert quoted(CHECKOUT / "README.md", "pgvector") in reported[1]
    assert run_of(PLAN).name in (CHECKOUT / "README.md").read_text()


@pytest.mark.quick
def test_inline_the_wait_grows_with_the_load_and_the_databases_own_time_does_not() -> None:
    rows = pd.read_csv(
        run_of(PLAN) / "requests.csv.gz", usecols=["arm", "load", "phase", "io_ms", "io_server_ms"]
    )
    medians = rows[rows["phase"] == "measure"].groupby(["arm", "load"])[["io_ms", "io_server_ms"]].median()
    assert medians["io_server_ms"].between(0.5, 1.0).all()
    inline = medians["io_ms"].loc["inline"]
    assert inline["closed(8)"] / inline["closed(1)"] > 20
    assert medians["io_ms"].loc["process"].between(1.0, 2.0).all()
