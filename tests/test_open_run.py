"""`open_run` returns one object with all data of a run, for notebooks and scripts."""

from __future__ import annotations

import subprocess
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from committed import run_of

from harness import open_run
from harness.capacity import report as capacity
from harness.errors import HarnessError, UsageError
from harness.report.report import Report

FRAMES = (
    "requests",
    "trials",
    "summary",
    "comparisons",
    "costs",
    "limits",
    "io",
    "staircase",
    "published",
    "checks",
    "claims",
    "ranking",
    "windows",
    "capacity",
)
TABLES_MISSING_IN = {
    "article": {"limits", "io", "ranking", "windows", "capacity"},
    "beyond": {"published", "checks", "claims", "windows", "capacity"},
    "capacity": {"comparisons", "limits", "io", "published", "checks", "claims", "ranking", "staircase"},
}


def public_properties(run: Report) -> dict[str, Any]:
    """Return the values of all public properties by name."""
    kinds = (property, cached_property)
    names = {name for kind in type(run).__mro__ for name, one in vars(kind).items() if isinstance(one, kinds)}
    return {name: getattr(run, name) for name in sorted(names) if not name.startswith("_")}


@pytest.mark.integration  # slow: it builds reports of committed runs
@pytest.mark.parametrize("plan", TABLES_MISSING_IN)
def test_every_property_works_and_a_missing_table_is_empty(plan: str) -> None:
    found = public_properties(open_run(run_of(plan)))
    assert all(isinstance(found[name], pd.DataFrame) for name in FRAMES)
    assert {name for name in FRAMES if found[name].empty} == TABLES_MISSING_IN[plan]
    assert found["finding"].endswith(".")
    assert found["record"]["plan"]["name"] == plan
    assert isinstance(found["warnings"], list)


@pytest.mark.integration  # slow: it builds reports of committed runs
def test_opening_a_run_reads_its_rows_and_computes_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("analysis.summaries.summarise", "verdicts.comparison.arms", "report.choice.choose"):
        monkeypatch.delattr(f"harness.{name}")
    run = open_run(str(run_of("article")))
    assert len(run.requests) > 10_000
    assert set(run.requests.columns) > {"latency_ms", "service_ms"}
    with pytest.raises(AttributeError, match="summarise"):
        _ = run.summary


def test_a_folder_that_is_not_a_run_and_a_damaged_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"run\.json"):
        open_run(tmp_path)
    (tmp_path / "run.json").write_text('{"schema": 3, "plan"')
    with pytest.raises(HarnessError, match=r"run\.json"):
        open_run(tmp_path)


@pytest.mark.integration  # slow: it builds reports of committed runs
def test_an_unknown_chart_name_is_refused_with_the_known_names() -> None:
    run = open_run(run_of("article"))
    charts = run_of("article") / "charts"
    assert {path.stem for path in charts.iterdir()} == set(run.charts)
    assert run.chart("split").axes
    with pytest.raises(UsageError, match="no chart 'capacity'") as refused:
        run.chart("capacity")
    assert refused.value.hint == "Charts of this run: timeline, split, io, published, claims."
    assert list(capacity.build(open_run(run_of("capacity")).evidence.run).charts) == ["capacity"]


@pytest.mark.integration
def test_the_package_itself_loads_none_of_its_modules() -> None:
    code = "import sys, harness; print([name for name in sys.modules if name.startswith('harness.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
