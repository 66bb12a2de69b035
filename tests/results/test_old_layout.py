"""A run of an old version is still read, and its figures stay what they were."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from committed import CHECKOUT, execbench

from harness.wire.records import SCHEMA_VERSION

# The pilot and the first 8 of 24 blocks of a run that version 0.1 recorded with layout 2. Its tables
# were made when it was put here.
OLD = CHECKOUT / "tests" / "runs" / "layout-2-article"
TABLES = ("summary.csv", "claims.csv")


@pytest.mark.integration
def test_a_run_of_an_old_layout_gives_the_tables_that_it_gave_before(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(OLD, tmp_path / "old", ignore=shutil.ignore_patterns(*TABLES)))
    printed = execbench("report", str(folder))
    assert json.loads((OLD / "run.json").read_text())["schema"] == 2 < SCHEMA_VERSION
    assert "0 of 8 blocks excluded" in printed
    for name in TABLES:
        assert (folder / name).read_bytes() == (OLD / name).read_bytes(), name
