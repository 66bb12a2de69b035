"""The page of a run: what it says, and that text from outside stays text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from made_reports import WORLD, closed, open_trial, opened
from made_up import Point, World

from harness.report import report
from harness.report.page import again, compared, html, run_page
from harness.report.page.context import Context
from harness.report.page.drawing import PALETTE, looks
from harness.report.page.parts import Page, Picture
from harness.results import store
from harness.verdicts import comparison

HOSTILE = ('<script>alert("x")</script>', '"><img src=x onerror=alert(1)>', "\x1b[31mred\x1b[0m", "n" * 200)
FOUR: World = {
    (arm, users): Point(
        queue_ms=queue_ms * users, io_ms=io_ms * users if arm == "inline" else io_ms, requests=20
    )
    for arm, queue_ms, io_ms in (("inline", 0.0, 5.0), ("thread", 6.0, 5.0), ("process", 7.0, 5.0))
    for users in (1, 2, 4, 8)
}


def page_of(run: store.Run) -> Page:
    return run_page.page(report.build(run), ["requests.csv", "run.json"])


def pictures(page: Page) -> dict[str, Picture]:
    return {section.anchor: one for section in page.sections for one in section.pictures}


@pytest.fixture(scope="module")
def four() -> Page:
    return page_of(closed(FOUR, blocks=12, reference="inline"))


def test_a_page_answers_first_and_says_how_far_to_trust_it(four: Page) -> None:
    assert four.answer.startswith("At c = 8, take thread")
    assert four.take == "thread"
    assert [tile.name for tile in four.tiles] == ["Machine", "Twin", "Blocks left out", "Failed requests"]
    order = [section.anchor for section in four.sections]
    assert order == ["arms", "load", "time", "waits", "burst", "over-time", "advice", "again"]


def test_a_title_is_the_finding(four: Page) -> None:
    titles = {anchor: one.title for anchor, one in pictures(four).items()}
    assert re.fullmatch(
        r"At c = 8, thread has [\d.]+ times \[[\d., ]+\] the requests/s of inline \([a-z, ]+\)",
        titles["arms"],
    )
    assert (
        titles["time"]
        == "At c = 8, a request spends on average 40.0 ms in the I/O with inline, 5.0 ms with thread"
    )
    assert titles["waits"].startswith("At c = 8, 1 request in 100 takes longer than 60.0 ms with thread")
    assert titles["burst"].startswith("At c = 8, a burst of 16 requests takes ")
    assert titles["burst"].endswith(" ms with inline")
    even = "At c = 8, no arm is shown to be slower or faster in the second half of the run"
    assert titles["over-time"] == even


def test_the_beginning_has_the_reasons_with_links_to_what_shows_them() -> None:
    world: World = {
        ("inline", 8): Point(queue_ms=100.0),
        ("thread", 8): lambda block: Point(queue_ms=10.0 + 3.0 * (block % 5)),
        ("process", 8): lambda block: Point(queue_ms=10.0 + 3.0 * (3 * block % 5)),
    }
    page = page_of(closed(world, blocks=12, reference="inline"))
    assert [reason.anchor for reason in page.reasons] == ["waits", "advice"]
    (other,) = {"thread", "process"} - {page.take}
    assert page.reasons[-1].sentence.startswith(f"12 blocks do not separate {page.take} from {other}; ")
    text = html.render(page)
    for reason in page.reasons:
        assert f'<section id="{reason.anchor}">' in text


def test_an_arm_that_slows_down_is_named() -> None:
    world: World = {
        ("inline", 2): Point(),
        ("thread", 2): lambda block: Point(queue_ms=1.0 + (9.0 if block > 6 else 0.0) + 0.1 * (block % 3)),
    }
    title = pictures(page_of(closed(world, blocks=12)))["over-time"].title
    assert re.fullmatch(r"c = 2: thread is \d+ % slower in the second half of the run", title)


def test_a_single_trial_shows_its_own_course() -> None:
    one = pictures(page_of(closed({("server", 4): Point(requests=200)}, blocks=1)))["over-time"]
    assert (
        one.title == "The median latency is 12.0 ms in the first quarter of the load and 12.0 ms in the last"
    )
    assert len(one.table.rows) == 60


def test_every_picture_has_words_and_its_data(four: Page) -> None:
    for one in pictures(four).values():
        assert len(one.alt) > 40
        assert len(one.table.rows) >= 3
        assert {len(row) for row in one.table.rows} == {len(one.table.heads)}


def test_the_file_asks_for_nothing_and_has_no_script(four: Page) -> None:
    text = html.render(four)
    assert "<script" not in text
    assert not re.search(r"""(src|href)=["'](https?:)?//""", text)
    assert "default-src 'none'" in text
    assert len(text) < 2_000_000
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def test_every_drawing_is_whole(four: Page) -> None:
    for one in pictures(four).values():
        for panel in one.panels:
            drawn = ElementTree.fromstring(panel.svg)
            known = {element.get("id") for element in drawn.iter()}
            used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", panel.svg))
            assert used <= known
            assert drawn.findall(".//text"), "text stays text"


def test_the_table_has_the_arms_that_are_compared_and_a_note_on_the_others() -> None:
    run = closed(
        {(arm, 8): Point(requests=20) for arm in ("inline", "thread", "inline-twin")}, blocks=6, twin=True
    )
    (section, *_) = page_of(run).sections
    assert [row[0] for row in section.tables[0].rows] == ["inline (take this)", "thread"]
    assert section.lines[0] == "Percentiles are of 960 requests an arm; I/O and other routes: medians."


def test_names_from_outside_stay_text() -> None:
    world: World = {(arm, users): Point(requests=20) for arm in HOSTILE for users in (1, 4)}
    text = html.render(page_of(closed(world, blocks=6, reference=HOSTILE[0])))
    assert "<script" not in text
    assert "<img" not in text
    assert "\x1b" not in text
    assert "&lt;script&gt;alert" in text


@pytest.mark.parametrize(
    "run",
    [
        closed({("inline", 1): Point()}, blocks=1),
        closed({("inline", 1): Point(failed=4), ("thread", 1): Point()}, blocks=6),
        closed({("inline", 1): Point(failed=4)}, blocks=2),
        closed({("inline", 1): Point(failed=3, requests=100), ("thread", 1): Point(requests=100)}, blocks=6),
        closed({("inline", 1): Point(state="failed")}, blocks=2),
        opened(*(open_trial(number) for number in range(1, 9))),
    ],
    ids=["one arm", "an arm that fails", "nothing answered", "some failures", "no trial counts", "open loop"],
)
def test_a_run_with_little_to_show_has_a_page(run: store.Run) -> None:
    page = page_of(run)
    assert page.answer
    assert html.render(page).rstrip().endswith("</html>")
    assert page.sections[-1].anchor == "again"


def test_a_curve_with_failures_ends_at_their_share() -> None:
    run = closed(
        {("inline", 4): Point(failed=30, requests=300), ("thread", 4): Point(requests=300)}, blocks=6
    )
    rows = {row[1]: row for row in pictures(page_of(run))["waits"].table.rows}
    assert rows["inline"][-1] == "2.5 %"  # 30 of the 1,200 requests of four users
    assert rows["inline"][5] == "failed"  # p99
    assert rows["thread"][-1] == "0.0 %"


def test_an_arm_keeps_its_colour_and_marker() -> None:
    names = [f"arm-{number}" for number in range(88)]
    known = looks(names)
    assert len(set(known.values())) == 88
    assert len({one.colour for one in list(known.values())[: len(PALETTE)]}) == len(PALETTE)


def test_of_many_arms_the_pictures_show_the_best_and_say_so() -> None:
    world: World = {(f"arm-{number}", 2): Point(queue_ms=float(number)) for number in range(12)}
    found = Context(report.build(closed(world, blocks=6, reference="arm-11")))
    assert found.arms == [*(f"arm-{number}" for number in range(7)), "arm-11"]
    assert found.left_out() == "Not drawn: arm-7, arm-8, arm-9, arm-10; summary.csv has them."


def test_the_page_of_many_settings_stays_small() -> None:
    world: World = {(f"arm-{number}", users): Point() for number in range(64) for users in (1, 8)}
    page = page_of(closed(world, blocks=6, reference="arm-0"))
    assert len(html.render(page)) < 2_000_000
    one = pictures(page)["arms"]
    assert len(one.table.rows) == 2 * 2 * 63
    assert one.keys[0].name == "too small to matter: ±5 % of median latency or ±3 % of requests/s"


def test_a_comparison_has_a_page() -> None:
    made = report.build(closed(WORLD, blocks=8, reference="inline"))
    rules = made.evidence.facts.rules
    page = compared.page(made.comparisons, ["a note"], rules, answer="Slower.", about="before and after")
    (one,) = pictures(page).values()
    assert one.title == "Slower"
    assert "thread / inline, c = 8" in one.alt
    assert set(comparison.COLUMNS) <= set(made.comparisons.columns)
    assert "a note" in html.render(page)


@pytest.mark.parametrize(
    ("plan", "shown"),
    [
        ({"workload": {"name": "embed", "model": "m", "io_ms": 5.0}}, "embed (m), then I/O: sleep, 5 ms"),
        (
            {"workload": {"name": "synthetic", "io": "socket", "io_ms": 0.0}},
            "synthetic, then I/O: socket, 0 ms",
        ),
        ({"workload": {"name": "mine.py", "io": "sleep", "io_ms": 0.0}}, "mine.py"),
        ({"workload": {"name": "embed"}, "arms": [{"url": "http://a/"}]}, "servers that already run"),
        ({"workload": {"name": "embed"}, "arms": [{"url": "http://a/"}, {"url": None}]}, "embed"),
    ],
)
def test_a_page_names_a_model_only_if_the_run_has_started_it(plan: dict[str, Any], shown: str) -> None:
    assert again.workload(plan) == shown


def test_links_lead_to_the_files_of_the_folder(four: Page) -> None:
    again = four.sections[-1]
    assert [link.href for link in again.links] == ["requests.csv", "run.json"]
    assert all(not Path(link.href).is_absolute() for link in again.links)
