"""Committed runs of built-in plans: quotes follow from tables, tables from rows."""

import functools
from pathlib import Path

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

DERIVED = ("summary.csv", "comparisons.csv", "costs.csv", "advice.txt")
MARKS = {
    "servers": ["servers machine", "servers"],
    "environments": ["environments"],
    "peers": ["peers machine", "peers throughput", "peers limit", "peers costs"],
    "peers-io": ["peers-io"],
    "generators": ["generators machine", "generators", "generators each"],
    "cluster": ["cluster machine", "cluster"],
    "neighbour": ["neighbour machine", "neighbour"],
    "garbage": ["garbage machine", "garbage", "garbage costs"],
    "thrash": ["thrash machine", "thrash", "thrash verdicts"],
    "three-hosts": ["three-hosts machine", "three-hosts", "three-hosts each"],
}


Reported = tuple[str, Path, str]  # a plan, its run made again, and what `report` prints


@pytest.fixture(scope="module", params=MARKS)
def reported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reported:
    folder, printed = rebuilt(request.param, DERIVED, tmp_path_factory.mktemp(request.param))
    return request.param, folder, printed


def test_every_table_is_made_again_from_the_packed_rows_byte_by_byte(reported: Reported) -> None:
    plan, folder, _ = reported
    assert_equal_to_the_committed(plan, DERIVED, folder)


def test_what_documents_quote_is_what_report_prints(reported: Reported) -> None:
    plan, _, printed = reported
    assert [part for mark in MARKS[plan] for part in unprinted(mark, printed)] == []


@pytest.mark.parametrize(
    ("plan", "page", "pairs"),
    [("peers", "peers", 3), ("neighbour", "neighbours", 4), ("garbage", "garbage", 1)],
)
def test_the_pairs_that_a_page_quotes_are_what_compare_prints(
    plan: str, page: str, pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "read", functools.cache(store.read))  # one run, read once for all pairs
    quoted, wrong = unprinted_pairs(CHECKOUT / "docs" / "explanation" / f"{page}.md", run_of(plan))
    assert quoted == pairs
    assert wrong == []
