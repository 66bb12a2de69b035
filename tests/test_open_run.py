"""`open_run` returns one object with all data of a run, for notebooks and scripts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
import pytest
from committed import CHECKOUT, run_of
from made_reports import closed, open_trial, opened
from made_up import Point
from matplotlib import pyplot as plt

import harness
from harness import compare, newest_run, open_run
from harness.capacity import report as capacity
from harness.errors import HarnessError, UsageError
from harness.report import report
from harness.report.report import Report

PAGE = CHECKOUT / "docs" / "reference" / "python.md"
RUNS = Path(__file__).parent / "example_runs"
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


# -- the same columns for every kind of run --------------------------------------------------------------


@pytest.mark.integration  # slow: it builds a report
def test_in_a_capacity_run_the_windows_that_confirm_decide_and_ratios_are_those_of_the_capacities() -> None:
    run = open_run(RUNS / "capacity")
    confirming = run.windows.loc[run.windows["confirms"], "trial"]
    assert set(run.measured.query("decides")["trial"]) == set(confirming)
    assert len(confirming) < run.measured["trial"].nunique()
    others = run.capacity.query("arm != reference")
    assert list(run.ratios["ratio"]) == list(others["ratio"])
    assert set(run.ratios["metric"]) == {"capacity_per_s"}


def test_the_load_with_most_users_decides_and_measured_has_neither_warm_ups_nor_pilots() -> None:
    run = report.build(
        closed({("inline", 2): Point(failed=1), ("inline", 16): Point(), ("thread", 16): Point()})
    )
    assert set(run.measured["phase"]) == {"measure"}
    assert not run.measured["ok"].all()
    assert run.measured.groupby("load", observed=True)["decides"].mean().to_dict() == {
        "closed(2)": 0.0,
        "closed(16)": 1.0,
    }
    assert list(run.ratios.columns) == [
        "load",
        "arm",
        "reference",
        "metric",
        "ratio",
        "low",
        "high",
        "verdict",
    ]
    assert set(run.ratios["metric"]) == {"latency_ms"}


def test_a_run_of_one_arm_has_no_ratios() -> None:
    assert report.build(closed({("inline", 2): Point()})).ratios.empty


def test_loads_are_in_the_order_of_their_rates() -> None:
    rates = {"poisson(50)": 50.0, "poisson(100)": 100.0}
    trials = [
        open_trial(number, load=load, rate_per_s=rate) for number, (load, rate) in enumerate(rates.items(), 1)
    ]
    run = report.build(opened(*trials))
    assert list(run.summary["load"]) == list(rates)
    assert list(run.measured["load"].cat.categories) == list(rates)


def test_the_time_of_a_request_counts_from_the_start_of_the_run() -> None:
    trials = [open_trial(number, started_at=f"2026-01-01T00:0{number}:00Z") for number in (1, 3)]
    measured = report.build(opened(*trials)).measured
    first = measured.groupby("trial")["elapsed_s"].first()
    assert list(first) == pytest.approx([0.5, 120.5])  # the warm-up takes 0.5 s


# -- the newest run, and comparisons ---------------------------------------------------------------------


def test_the_newest_run_is_the_one_that_started_last_whatever_its_name(tmp_path: Path) -> None:
    record = json.loads((RUNS / "load" / "run.json").read_text())
    for name, day in (("b", 1), ("a", 3), ("c", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(
            json.dumps({**record, "started_at": f"2026-01-0{day}T00:00:00.000+00:00"})
        )
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "run.json").write_text("{")
    assert newest_run(tmp_path) == tmp_path / "a"


def test_without_a_run_the_error_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="There is no run in ") as refused:
        newest_run(tmp_path)
    assert "execbench run smoke" in refused.value.hint
    assert refused.value.__notes__ == [refused.value.hint]


@pytest.mark.integration  # slow: it compares
def test_compare_takes_paths_and_arms_and_gives_the_rows_of_the_command(tmp_path: Path) -> None:
    run = RUNS / "own-app"
    arms = compare(f"{run}:a", f"{run}:b").table.query("primary")
    assert list(arms["ratio"]) == list(open_run(run).ratios["ratio"])
    again = Path(shutil.copytree(run, tmp_path / "again"))
    assert set(compare(run, again).table.query("primary")["ratio"]) == {1.0}
    with pytest.raises(HarnessError, match="has no trial of arm 'c'") as refused:
        compare(f"{run}:a", f"{run}:c")
    assert refused.value.__notes__ == ["Arms of this run: a, b."]


# -- docs/reference/python.md ----------------------------------------------------------------------------


def test_the_page_lists_every_public_attribute_and_function_and_no_other() -> None:
    listed = set(re.findall(r"^\| `run\.(\w+)", PAGE.read_text(), re.MULTILINE))
    assert listed == {name for name in dir(capacity.Report) if not name.startswith("_")} | {"evidence"}
    functions = set(re.findall(r"^\| `(\w+)\(", PAGE.read_text(), re.MULTILINE))
    assert functions == {name for name, one in vars(harness).items() if is_public_function(name, one)}


def is_public_function(name: str, one: Any) -> bool:
    return not name.startswith("_") and getattr(one, "__module__", "") == "harness"


@pytest.mark.integration  # slow: it builds reports
@pytest.mark.parametrize("table", ["measured", "summary", "ratios"])
def test_the_page_lists_columns_that_exist(table: str) -> None:
    section = PAGE.read_text().split(f"## Columns of `run.{table}`")[1].split("\n## ")[0]
    listed = [
        name
        for cell in re.findall(r"^\| (`[^|]+`) \|", section, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", cell)
    ]
    run = open_run(RUNS / "sweep")
    missing = [name for name in listed if name not in getattr(run, table)]
    assert len(listed) > 6
    assert missing == []


@pytest.mark.integration  # slow: it draws
def test_the_examples_of_the_page_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)
    script = "".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL))
    script = re.sub(r"results/[\w-]+", str(RUNS / "own-model"), script).replace(":inline", ":process")
    exec(compile(script, "python.md", "exec"), {})
    assert len(plt.get_fignums()) == 5
    plt.close("all")
    assert (tmp_path / "split.svg").stat().st_size > 0
