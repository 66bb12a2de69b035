"""The short report: at most 40 lines of 80 columns, each arm and each claim on one of them."""

from __future__ import annotations

import functools
import io
import math
import re
from typing import Any

import made_up
import pytest
from committed import run_of
from made_reports import closed
from made_up import Point
from rich.cells import cell_len

from harness.capacity import report as capacity_report
from harness.commands import brief, brief_table, capacity_tables
from harness.commands.progress import Progress
from harness.commands.screen import Screen
from harness.commands.terminal import print_parts
from harness.report import report
from harness.results import store

WIDTH = 80
USERS = (1, 2, 4, 8)
IO_MS = {"inline": 40.0, "thread": 5.0, "process": 5.2, "default_pool": 6.0}
IO_MS |= {"inline-scaled-io": 41.0, "process-scaled-io": 5.0, "inline-twin": 40.0}
CLAIMS = ("C1", "C2", "C3a", "C3b", "C4a", "C4b", "C5", "C6")


@functools.cache
def article() -> report.Report:
    """Four arms, two with scaled I/O and a twin, at four loads; the article's claims are judged."""
    world: made_up.World = {
        (arm, users): Point(
            queue_ms=0.0 if "inline" in arm else 6.0 * (users - 1), io_ms=io if users > 1 else 5.0, requests=2
        )
        for arm, io in IO_MS.items()
        for users in USERS
    }
    run = closed(world, blocks=8, reference="inline", twin=True, claims="article")
    for arm in run.record["plan"]["arms"]:
        arm["io_per_model"] = 0.8333 if "scaled" in arm["name"] else None
    run.record["arms"] = {
        arm: {"options": {"workload": {"io_ms": 4.0 if "scaled" in arm else 5.0}}} for arm in IO_MS
    }
    return report.build(run)


def shown(built: report.Report, **options: Any) -> str:
    stream = io.StringIO()
    print_parts(Screen(file=stream, width=WIDTH, **options), brief.render(built))
    return stream.getvalue()


def height(text: str) -> int:
    """The lines on a terminal of 80 columns, with the two that the command adds."""
    widths = (cell_len(line.rstrip()) for line in text.splitlines())
    return brief.LINES_AFTER + sum(max(1, math.ceil(width / WIDTH)) for width in widths)


def row(text: str, name: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.startswith(f"{name} "))


@pytest.mark.integration
def test_four_arms_at_four_loads_take_at_most_40_lines_with_the_answer_first() -> None:
    text = shown(article())
    lines = text.splitlines()
    assert height(text) <= brief.MOST_LINES
    assert lines[:2] == [article().finding, article().trust]
    starts = ["At c = 8, in ms; ", "arm ", "inline ", "C1 ", "C6 ", "What to do", "- "]
    places = [next(number for number, line in enumerate(lines) if line.startswith(one)) for one in starts]
    assert places == sorted(places)


@pytest.mark.integration
def test_the_second_line_says_how_near_the_load_generator_came_to_its_limit() -> None:
    run = closed({("server", 8): Point()})  # 667 requests/s
    assert "load generator" not in report.build(run).trust
    run.record["self_check"] = {"requests_per_s": 6667.0}
    assert report.build(run).trust.endswith(" blocks excluded. The load generator reached 10 % of its limit.")


@pytest.mark.integration
def test_each_arm_has_its_figures_ratio_and_verdict_on_one_line() -> None:
    text = shown(article())
    # nothing tells the loop lag, and there are too few requests for p99: no column has only "-"
    assert row(text, "arm") == ["arm", "req/s", "p50", "p95", "I/O", "ratio", "verdict"]
    assert "p50 to p95: latency; I/O: median\n" in text
    assert row(text, "inline")[1:] == ["170", "47.0", "47.0", "40.0", "-", "reference"]
    assert row(text, "thread")[1:] == ["148", "54.0", "54.0", "5.0", "0.87", "[0.87,", "0.87]", "slower"]
    assert row(text, "inline-scaled-io")[-3:] == ["-", "other", "work"]
    assert row(text, "inline-twin")[-1] == "equivalent"


@pytest.mark.integration
def test_each_claim_has_a_line_with_its_verdict_and_its_ratio() -> None:
    built, text = article(), shown(article())
    found = dict(re.findall(r"^(C\w+) +(confirmed|refuted|inconclusive|not tested) ", text, re.M))
    assert found == dict(zip(built.claims["claim"], built.claims["verdict"], strict=True))
    assert tuple(found) == CLAIMS
    line = r"^C3b refuted +… but the model is > 4x slower there +1\.00 \[1\.00, 1\.00\]$"
    assert re.search(line, text, re.M)


@pytest.mark.integration
def test_long_warnings_are_cut_and_many_are_counted_within_the_40_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    warnings = [f"Number {number} is {'very ' * 60}long." for number in range(5)]
    monkeypatch.setitem(vars(article()), "warnings", warnings)
    text = shown(article())
    assert re.findall(r"^Warning: (Number \d)", text, re.M) == ["Number 0", "Number 1"]
    assert "… and 3 more warnings: --full" in text
    assert height(text) <= brief.MOST_LINES
    assert "- Take thread" in text


@pytest.mark.integration
def test_a_terminal_and_a_pipe_show_the_same_words() -> None:
    on_a_terminal = shown(article(), force_terminal=True, color_system="truecolor")
    assert "\x1b[1m" in on_a_terminal
    assert re.sub(r"\x1b\[[\d;]*m", "", on_a_terminal) == shown(article())


@pytest.mark.integration
def test_hostile_names_stay_on_one_line_each_without_effect() -> None:
    names = [f'"><img src=x onerror=y>\n\x1b[31m{letter * 200}' for letter in "ab日"]
    world = {(name, users): Point(queue_ms=place) for place, name in enumerate(names) for users in (1, 8)}
    text = shown(report.build(closed(world)))
    rows = [line for line in text.splitlines() if line.startswith('"><')]
    assert len(rows) == len(names)
    assert all("…" in line and cell_len(line) <= WIDTH for line in rows)
    assert "\x1b" not in text


@pytest.mark.integration
def test_of_many_arms_the_best_are_shown_with_the_chosen_one_and_the_reference() -> None:
    world = {(f"arm-{number}", 8): Point(queue_ms=100.0 - 5 * number, requests=2) for number in range(14)}
    text = shown(report.build(closed(world, reference="arm-0")))
    best = [f"arm-{number}" for number in range(13, 4, -1)]
    assert re.findall(r"^(arm-\d+) ", text, re.M) == [*best, "arm-0"]
    assert "… 4 more: --full" in text


@pytest.mark.integration
def test_a_single_arm_has_a_line_for_each_load_and_no_ratio() -> None:
    text = shown(report.build(closed({("server", 2): Point(), ("server", 16): Point()})))
    assert re.findall(r"^c = (\d+) +\d", text, re.M) == ["2", "16"]
    assert "server, in ms; p50 to p95: latency" in text
    assert "ratio" not in text


@pytest.mark.integration
def test_failures_have_their_own_column_and_the_rate_is_that_of_good_answers() -> None:
    text = shown(report.build(closed({("a", 8): Point(failed=3), ("b", 8): Point()})))
    heads = row(text, "arm")
    assert "good/s" in heads
    assert row(text, "a")[heads.index("fail")] == "24"  # in 8 blocks


@pytest.mark.parametrize(
    ("name", "width", "cut"),
    [("thread", 6, "thread"), ("process-scaled-io", 12, "proces…ed-io"), ("日本語日本語", 7, "日本…語")],
)
def test_a_name_that_is_too_wide_loses_its_middle(name: str, width: int, cut: str) -> None:
    assert brief_table.cut(name, width) == cut
    assert cell_len(cut) <= width


@pytest.mark.integration
def test_a_capacity_run_is_shown_with_one_table() -> None:
    stream = io.StringIO()
    built = capacity_report.build(store.read(run_of("capacity")))
    print_parts(Screen(file=stream, width=WIDTH), capacity_tables.brief(built))
    text = stream.getvalue()
    assert text.startswith(f"{built.finding}\n{built.trust}\n")
    assert re.search(r"^batch +49\.3 +53\.0 \[49\.3, 57\.7\] +1\.79 \[1\.45, 1\.92\] +faster", text, re.M)
    assert "limiting objective" not in text
    assert "- Take batch: promise 49.3 requests/s." in text
    assert height(text) <= brief.MOST_LINES


@pytest.mark.integration  # it draws on a terminal
@pytest.mark.parametrize(
    ("window", "wanted"),
    [
        ({"requests": 200}, r"[━╺╸]{12} \d:\d\d left · 50 answered · median 12\.5 ms · sending load"),
        ({"seconds": 20.0}, r"[━╺╸]{12} \d:\d\d left · 50 answered · median 12\.5 ms · sending load"),
        ({}, r"[━╺╸]{12} sending load to a{30}"),
    ],
)
def test_a_load_shows_the_time_left_if_it_is_known(window: dict[str, Any], wanted: str) -> None:
    stream = io.StringIO()
    with Progress(Screen(file=stream, width=WIDTH, force_terminal=True), **window) as progress:
        progress.stage(f"sending load to {'a' * 200}")  # does not take the bar's place
        progress.progress(50, 12.5)
    assert re.search(wanted, re.sub(r"\x1b\[[\d;?]*\w", "", stream.getvalue()))
