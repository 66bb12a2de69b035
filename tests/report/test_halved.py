"""The report of a choice by halving: only the final counts, and the objectives decide who may be chosen."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import made_up
import numpy as np
import pytest
from made_reports import closed
from made_up import Point
from rich.console import Console

from harness.commands import brief, tables
from harness.report import export, next_command, report
from harness.report.page import html, run_page
from harness.results import store

pytestmark = pytest.mark.integration  # a whole report each: it takes long

USERS = 8
ROUND_BLOCKS, FINAL_BLOCKS = 2, 12


def wobbly(model_ms: float, seed: int) -> Any:
    drawn = np.random.default_rng(seed).normal(1, 0.03, 100)
    return lambda block: Point(model_ms=model_ms * float(drawn[block]), requests=20)


SETTINGS = {f"batch-workers-{number}": {"workers": number} for number in (1, 2, 3, 4, 5)}
TIMES_MS = dict(zip(SETTINGS, (80.0, 60.0, 40.0, 30.0, 20.0), strict=True))


def run_of(
    final: dict[str, Any] | None = None, *, slo: str = "p95 < 100 ms", begun: bool = True, **plan: Any
) -> store.Run:
    """A run with one round of all settings, and a final of the three quickest in which `final` applies."""
    points: dict[str, Any] = {
        arm: wobbly(model_ms, seed) for seed, (arm, model_ms) in enumerate(TIMES_MS.items())
    }
    finalists = [*SETTINGS][-3:]
    blocks = ROUND_BLOCKS + (FINAL_BLOCKS if begun else 0)
    world: made_up.World = {
        (arm, USERS): _two_parts(points[arm], {**points, **(final or {})}[arm]) for arm in SETTINGS
    }
    run = closed(world, blocks=blocks, timeout_s=30.0, **plan)
    dropped = ~run.trials["arm"].isin(finalists) & (run.trials["block"] > ROUND_BLOCKS)
    kept = finalists[::-1]
    run.record["plan"] |= {
        "arms": [
            {"name": arm, "strategy": "batch", "options": SETTINGS[arm]}
            for arm in (finalists if begun else SETTINGS)
        ],
        "workload": {"name": "synthetic", "service_ms": 12.0},
        "reference": plan.get("reference", kept[0]) if begun else None,
        "sweep": {"strategies": ["batch"], "axes": {"workers": [1, 2, 3, 4, 5]}, "settings": SETTINGS},
    }
    one = {"arms": [*SETTINGS], "blocks": ROUND_BLOCKS, "kept": kept}
    run.record["halving"] = {
        "objectives": [slo],
        "minutes": 1.0,
        "always": None,
        "rounds": [one] if begun else [],
        "searched": ROUND_BLOCKS if begun else None,
    }
    return run._replace(trials=run.trials[~dropped].reset_index(drop=True))


def _two_parts(before: Any, after: Any) -> Any:
    def point(block: int) -> Point:
        one = before if block <= ROUND_BLOCKS else after
        found: Point = one(block) if callable(one) else one
        return found

    return point


def printed(found: report.Report, *, full: bool) -> str:
    console = Console(width=80, record=True, file=io.StringIO())
    for part in tables.render(found) if full else brief.render(found):
        console.print(part)
    return console.export_text()


def test_the_blocks_of_the_rounds_do_not_count_for_the_final() -> None:
    lucky_before = run_of({"batch-workers-5": wobbly(35.0, 9)})
    found = report.build(lucky_before)
    assert found.choice.blocks == FINAL_BLOCKS
    assert found.choice.take == "batch-workers-4"
    assert set(found.summary["arm"]) == {f"batch-workers-{number}" for number in (3, 4, 5)}
    assert found.halved is not None
    first = found.halved.rounds.sort_values("place").iloc[0]
    assert (first["arm"], first["blocks"], first["kept"]) == ("batch-workers-5", ROUND_BLOCKS, True)


ALIKE = {f"batch-workers-{number}": wobbly(20.0, 20 + number) for number in (3, 4, 5)}


def test_the_report_ends_with_the_best_those_not_told_apart_and_the_command_that_serves_it() -> None:
    for final, rivals in ((None, 0), (ALIKE, 2)):
        found = report.build(run_of(final))
        take = found.choice.take
        assert len(found.choice.unsettled) + len(found.choice.equivalent) == rivals
        command = f"execbench serve batch:workers={take[-1]},service_ms=12.0 --workload synthetic"
        assert found.advised.command == command
        text = " ".join(printed(found, full=False).split())
        assert f"Next: {command}" in text
        assert f"Take {take}" in text
        assert "It keeps p95 latency < 100 ms" in text


def test_of_finalists_that_may_be_the_best_the_named_reference_stays_and_the_leader_has_no_such_right() -> (
    None
):
    led = report.build(run_of(ALIKE))
    means = led.summary.set_index("arm")["throughput_per_s"]
    assert led.choice.take == led.choice.logs.mean().idxmax()
    worst = str(means.idxmin())
    named = run_of(ALIKE, reference=worst)
    named.record["halving"]["always"] = worst
    assert report.build(named).choice.take == worst


def test_a_faster_setting_that_misses_an_objective_is_not_chosen() -> None:
    fast_with_a_tail = {"batch-workers-5": lambda block: Point(model_ms=200.0 if block % 6 == 0 else 15.0)}
    found = report.build(run_of(fast_with_a_tail))
    assert found.choice.take == "batch-workers-4"
    assert found.swept is not None
    places = dict(zip(found.swept.table["arm"], found.swept.table["place"], strict=True))
    assert places["batch-workers-5"] == "misses an objective"
    assert "batch-workers-5 misses p95 latency < 100 ms" in " ".join(printed(found, full=False).split())


def test_if_every_setting_misses_an_objective_none_is_chosen() -> None:
    found = report.build(run_of(slo="p95 < 1 ms"))
    assert found.choice.take == ""
    assert found.swept is not None
    assert found.swept.sentences == ("No setting keeps every objective at c = 8, so none is the best.",)
    assert found.advised.lines[0] == "No strategy is advised: at c = 8 no arm keeps every objective."


def test_a_run_that_ended_during_its_rounds_shows_them_and_chooses_nothing() -> None:
    found = report.build(run_of(begun=False))
    assert found.choice.take == ""
    assert "The run ended during its rounds" in " ".join(printed(found, full=True).split())
    assert "no setting is chosen yet" in " ".join(printed(found, full=False).split())


def test_tables_json_and_page_have_the_rounds_and_the_objectives(tmp_path: Path) -> None:
    found = report.build(run_of()._replace(folder=tmp_path))
    export.write(found)
    assert len((tmp_path / "rounds.csv").read_text().splitlines()) == 1 + len(SETTINGS)
    assert len((tmp_path / "objectives.csv").read_text().splitlines()) == 1 + 3
    data = json.loads(json.dumps(export.as_json(found)))
    assert data["halving"]["objectives"] == ["p95 latency < 100 ms"]
    assert {row["verdict"] for row in data["halving"]["finalists"]} == {"keeps"}
    assert data["advised"]["command"].startswith("execbench serve ")
    page = html.render(run_page.page(found, []))
    assert "Of 5 settings, 3 were left after 1 round." in page
    full = " ".join(printed(found, full=True).split())
    assert "Of 5 settings, 3 were left after 1 round. They were measured again in 12 blocks" in full


def test_the_command_serves_the_arm_with_the_options_of_the_plan_but_no_password() -> None:
    workload = {"name": "mine.py", "io": "pgvector", "io_ms": 5.0, "io_rows": 50, "io_dsn": "postgresql://x"}
    arm = {"name": "a", "strategy": "thread", "options": {"workers": 2}, "workload": {"torch_threads": 1}}
    line = next_command.serve({"plan": {"workload": workload}}, arm)
    assert line.startswith("execbench serve thread:")
    assert line.endswith(" --workload mine.py")
    assert {"workers=2", "torch_threads=1", "io=pgvector", "io_rows=50"} <= set(
        line.split(" ")[2].partition(":")[2].split(",")
    )
    assert "dsn" not in line
    own = {"name": "a", "command": "uvicorn app:app --port {port}"}
    assert next_command.serve({"plan": {}}, own) == "uvicorn app:app --port {port}"
