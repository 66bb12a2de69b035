"""The committed runs of `servers` and of two environments: tables follow from rows, quotes from tables."""

from pathlib import Path

import pytest
from committed import assert_equal_to_the_committed, rebuilt, unprinted

pytestmark = pytest.mark.integration

DERIVED = ("summary.csv", "comparisons.csv", "costs.csv", "advice.txt")
MARKS = {"servers": ["servers machine", "servers"], "environments": ["environments"]}


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
