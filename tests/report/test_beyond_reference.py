"""The committed run of `beyond`: its tables follow from its rows, and what the documents quote is in them."""

import functools
from pathlib import Path
from typing import Any

import browsing
import pytest
from committed import (
    CHECKOUT,
    assert_equal_to_the_committed,
    rebuilt,
    run_of,
    unprinted,
    unprinted_pairs,
)

from harness.results import store

pytestmark = pytest.mark.integration

DERIVED = ("summary.csv", "comparisons.csv", "costs.csv", "limits.csv", "io.csv", "ranking.csv", "advice.txt")
PAGE = CHECKOUT / "docs" / "explanation" / "beyond.md"


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    return rebuilt("beyond", DERIVED, tmp_path_factory.mktemp("beyond"))


def test_every_table_is_made_again_from_the_packed_rows_byte_by_byte(reported: tuple[Path, str]) -> None:
    assert_equal_to_the_committed("beyond", DERIVED, reported[0])


@pytest.mark.parametrize("mark", ["ranked", "why", "limits", "io", "machine"])
def test_what_documents_quote_is_what_report_prints(reported: tuple[Path, str], mark: str) -> None:
    assert unprinted(mark, reported[1]) == []


def test_the_readme_names_the_run() -> None:
    assert run_of("beyond").name in (CHECKOUT / "README.md").read_text()


def test_the_pairs_that_the_page_quotes_are_what_compare_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "read", functools.cache(store.read))  # one run, read once for all pairs
    quoted, wrong = unprinted_pairs(PAGE, run_of("beyond"))
    assert quoted >= 4
    assert wrong == []


@pytest.mark.integration
def test_its_page_has_no_fault_in_a_browser(reported: tuple[Path, str], browser: Any) -> None:
    assert browsing.faults_of(browser, reported[0] / "report.html") == []
