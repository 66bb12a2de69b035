"""The output in the terminal: it fits 80 columns, omits nothing, and shows related figures side by side."""

from __future__ import annotations

import copy
import functools
import io
from collections.abc import Callable

import made_up
import pandas as pd
import pytest
from made_reports import DIES, WORLD, closed, open_trial, opened, ranked, with_limits, with_own_load
from made_up import Point
from rich.console import Console
from rich.text import Text

from harness.commands import tables
from harness.report import export, report
from harness.results import store

pytestmark = pytest.mark.integration  # slow: each test builds a whole report

WIDTH = 80
LONG = "inline-with-a-name-of-forty-letters-in-all"[:40]

ARTICLE: made_up.World = {
    **WORLD,
    ("process", 1): Point(queue_ms=1.0),
    ("process", 8): Point(queue_ms=40.0, model_ms=6.4),
    ("default_pool", 8): Point(model_ms=300.0),
    (LONG, 1): Point(),
    (LONG, 8): Point(io_ms=44.0),
}


@functools.cache
def usual() -> report.Report:
    return report.build(closed(WORLD))


@functools.cache
def article() -> report.Report:
    return report.build(closed(ARTICLE, blocks=8, claims="article"))


def shown(built: report.Report) -> str:
    """Return the piped output: tables at 80 columns, each sentence on one line."""
    stream = io.StringIO()
    console = Console(file=stream, width=WIDTH, highlight=False)
    for part in tables.render(built):
        console.print(part, soft_wrap=isinstance(part, Text))
    return stream.getvalue()


def sentences(built: report.Report) -> set[str]:
    return {
        line for part in tables.render(built) if isinstance(part, Text) for line in part.plain.split("\n")
    }


def with_readings(run: store.Run) -> store.Run:
    """Add what a real run also measures: CPU, loop lag, pings and memory."""
    trials = run.trials.assign(server_cpu_ms=1234.5, server_lag_p99_ms=12.3, server_lag_max_ms=1234.5)
    pings = run.requests.assign(phase="ping", error="", done_ms=run.requests["due_ms"] + 123.4)
    requests = pd.concat([run.requests, pings], ignore_index=True)
    run.record["arms"] = {arm: {"uss_bytes": 512e6} for arm in trials["arm"].unique()}
    return run._replace(trials=trials, rows=requests)


REPORTS: dict[str, Callable[[], report.Report]] = {
    "closed": article,
    "with readings": lambda: report.build(with_readings(closed(ARTICLE, blocks=8, claims="article"))),
    "with limits": lambda: report.build(with_limits(closed(ARTICLE, blocks=8), "inline", "thread", LONG)),
    "ranking": lambda: report.build(
        with_own_load(with_limits(with_readings(ranked(ARTICLE)), "thread", LONG), LONG)
    ),
    "open": lambda: report.build(
        with_readings(opened(*(open_trial(n, arm=LONG, service_ms=25.0) for n in range(1, 9))))
    ),
}


@pytest.mark.parametrize("name", REPORTS)
def test_tables_fit_80_columns_and_truncate_nothing(name: str) -> None:
    built = REPORTS[name]()
    lines = set(shown(built).splitlines()) - sentences(built)
    assert max(map(len, lines)) <= WIDTH
    ours = "\n".join(line for line in lines if "T2" not in line and "C3b" not in line and "C4b" not in line)
    assert "…" not in ours.replace(" … 11", "").replace(" … 12", "").replace(" 6 …", "")


def test_the_finding_comes_first_and_the_state_of_the_machine_second() -> None:
    built = usual()
    first, second = shown(built).splitlines()[:2]
    assert first == built.finding
    assert second == built.machine
    assert second.startswith("Machine: ")


def test_each_load_has_every_arm_with_ratio_interval_difference_and_verdict() -> None:
    text = shown(usual())
    assert "Each arm against inline, compared block by block\nratio: arm / inline [95 % interval]" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["c", "=", "8"] in lines
    assert ["thread", "latency", "1.53", "[1.53,", "1.53]", "+25.0", "slower"] in lines
    assert ["req/s", "0.65", "[0.65,", "0.65]", "-59.1", "slower"] in lines


def test_users_are_whole_numbers_even_next_to_open_loads() -> None:
    law = pd.DataFrame(
        {
            "arm": ["inline"],
            "concurrency": [8.0],
            "rows": [9],
            "median_error": [0.1],
            "share_within_20pct": [1.0],
        }
    )
    built = copy.copy(article())
    built.staircase = law
    assert "requests inline 8 +10.0% 100% 9 " in " ".join(shown(built).split())
    assert export.law_row(law.to_dict("records")[0])["condition"] == "c = 8, 9 requests"


def test_the_articles_law_is_shown_only_if_its_claims_are_judged() -> None:
    assert len(usual().staircase)
    assert "law of T2" not in shown(usual())
    assert "law of T2" in shown(article())


def test_an_early_stop_is_reported_below_the_machine() -> None:
    built = copy.copy(usual())
    built.notes = ("Stopped after block 12: so.",)
    assert "Stopped after block 12: so." in shown(built).split("Closed loops")[0]


def test_costs_show_only_columns_that_were_measured() -> None:
    few, many = closed(WORLD), with_readings(closed(WORLD))
    assert "CPU/req" not in shown(report.build(few))
    text = shown(report.build(many))
    for heading in ("CPU/req", "loop p99", "max", "ping p50", "MB"):
        assert heading in text
    assert "512.0" in text
    no_pings = many._replace(rows=few.requests)
    assert "ping p50" not in shown(report.build(no_pings))


def test_the_limit_is_next_to_the_throughput_and_the_ideal_only_if_it_is_known() -> None:
    run = with_limits(closed(WORLD), "inline", "thread", null_ms=0.5)
    lines = [line.split() for line in shown(report.build(run)).splitlines()]
    assert ["arm", "c", "req/s", "limit", "batch", "of", "limit", "ideal", "of", "ideal"] in lines
    assert ["8", "170.2", "444.4", "8", "38", "%", "296.3", "57", "%"] in lines
    run.record["null_ms"] = None
    assert ["arm", "c", "req/s", "limit", "batch", "of", "limit"] in [
        line.split() for line in shown(report.build(run)).splitlines()
    ]


def test_the_report_ends_with_the_ranking_its_reasons_and_a_sentence() -> None:
    built = report.build(ranked(WORLD, reference="thread"))
    text = shown(built)
    ending = text[text.index("Ranked by req/s at c = 8 (a point estimate") :]
    lines = [line.split() for line in ending.splitlines()]
    assert ["1", "inline", "170.2", "1.53", "[1.53,", "1.53]", "faster", "12.0", "(-)"] in lines
    assert ["2", "thread", "111.1", "1.00", "reference", "-", "(1.00)"] in lines
    assert f"† {DIES}" in ending
    assert built.conclusion in ending
    assert "of limit" not in ending


def test_a_plan_that_asks_for_no_ranking_gets_none() -> None:
    assert "Ranked" not in shown(usual())


def test_an_open_load_is_named_and_marked_if_it_is_saturated() -> None:
    held, lost = (
        shown(report.build(opened(open_trial(1, service_ms=service_ms)))) for service_ms in (10.0, 25.0)
    )
    assert "poisson(50) " in held
    assert "poisson(50)*" not in held
    assert "poisson(50)*" in lost
    assert "* saturated: fewer answers than arrivals" in lost
    assert "nan" not in (held + lost).lower()
    headings = " ".join(line for line in held.splitlines() if line.startswith("arm"))
    assert all(
        name in headings for name in ("p50", "p95", "p99", "requests", "fail", "service", "dispatch lag p99")
    )


def test_a_claim_has_its_ratio_interval_bound_published_figure_and_verdict() -> None:
    text = " ".join(shown(article()).split())
    assert "measured ratio [interval over 8 blocks]" in text
    assert "worker time, thread over process: 0.94 [0.94, 0.94]; bound: ≥ 4; article: 4 (" in text
    assert "(refuted) any slowdown of the worker time, thread over process" in text


def test_the_worker_time_and_the_model_as_printed_are_shown_together() -> None:
    """C3b compares a time with the wait to one without, so both readings must be shown."""
    text = " ".join(shown(article()).split())
    claim = text[text.index("C3b refuted") :]
    inside, printed = (
        claim.index("worker time, thread over"),
        claim.index("as printed: model with the wait"),
    )
    assert inside < printed < claim.index("C4a")
    assert "queue + worker + way back 60.0 + 6.0 + 0.0" in text


def test_a_withheld_verdict_is_shown_with_its_reason() -> None:
    world = {**WORLD, ("inline-twin", 8): Point(io_ms=50.0)}
    text = shown(report.build(closed(world, reference="inline", twin=True, claims="article")))
    assert "withheld" in text
    assert "noisy session" in text
