"""The Markdown of a comparison: the verdict comes first, and it fits into a comment on GitHub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
from compared import about, compared, noisy_world
from made_up import Point
from markdown_it import MarkdownIt

from harness.commands import compare_markdown
from harness.results.store import Run
from harness.verdicts import gate
from harness.verdicts.compare_runs import Comparison
from harness.verdicts.metrics import USUAL

HOSTILE = "<script>|**@octo** [x](http://a.example) \x1b[31m\n# " + "x" * 200
READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
RECORD = {
    "started_at": "2026-11-21T10:34:12.481+00:00",
    "environment": {"cpu": "EPYC", "usable_cores": 2, "packages": {"executor-bench": "0.1.0"}},
}


def page(table: pd.DataFrame, *, gated: bool = False, missing: tuple[str, ...] = (), **facts: Any) -> str:
    runs = (Run(Path("/runs/before"), RECORD, pd.DataFrame(), pd.DataFrame(), []),)
    found = Comparison(table, USUAL, ["a note"], list(missing), runs)._replace(**facts)
    judged = gate.judge(table, gate.Floors(), USUAL, list(missing)) if gated else None
    return compare_markdown.page(found, judged)


def first_line(*arguments: Any, **options: Any) -> str:
    return page(*arguments, **options).splitlines()[0]


def many(count: int, name: str = "arm") -> pd.DataFrame:
    """`count` rows about as many arms that are slower."""
    rows = compared({("inline", 8): about(20), ("thread", 8): about(32, seed=2)})
    return pd.concat(
        [
            rows.iloc[[0]].assign(arm=f"{name}-{number}", sentence=f"{name}-{number} is slower.")
            for number in range(count)
        ],
        ignore_index=True,
    )


# -- the first line ------------------------------------------------------------------------------------


def test_the_first_line_names_the_arm_that_is_slower_by_most() -> None:
    world = {("inline", 8): about(20), ("thread", 8): about(26, seed=2), ("process", 8): about(32, seed=3)}
    first = first_line(compared(world))
    assert re.fullmatch(
        r"\*\*Slower: process at c = 8, by 4\d % \\\[4\d, 4\d\\\] \(2 of 2 comparisons\)\*\*", first
    )


def test_the_first_line_names_the_arm_that_is_faster_if_none_is_slower() -> None:
    first = first_line(compared({("inline", 8): about(32), ("thread", 8): about(20, seed=2)}))
    assert re.fullmatch(r"\*\*Faster: thread at c = 8, by 3\d % \\\[\d\d, \d\d\\\]\*\*", first)


def test_the_first_line_says_that_nothing_changed() -> None:
    first = first_line(compared({("inline", 8): about(20), ("thread", 8): about(20, seed=2)}))
    assert first == "**No change found in 1 comparison (1 equivalent)**"


def test_the_first_line_says_why_there_is_no_verdict() -> None:
    noisy = compared(noisy_world(30.0), twin="inline-twin")
    assert first_line(noisy, gated=True) == "**No verdict: the session is noisy. The gate cannot pass.**"
    few = compared({("inline", 8): about(20), ("thread", 8): about(32, seed=2)}, blocks=3)
    assert first_line(few) == "**No verdict: only 3 blocks, and it needs 6**"
    dead = compared({("inline", 8): Point(), ("thread", 8): Point(state="failed")})
    assert first_line(dead).startswith("**No verdict: ")


def test_the_first_line_has_the_result_of_the_gate() -> None:
    slower = compared({("inline", 8): about(20), ("thread", 8): about(32, seed=2)})
    assert first_line(slower, gated=True).endswith(". The gate failed on 2 of 2 comparisons.**")
    assert first_line(slower, gated=True).startswith("**Slower: thread at c = 8, by ")
    alike = compared({("inline", 8): about(20), ("thread", 8): about(20, seed=2)})
    assert first_line(alike, gated=True).endswith(". The gate passed in 2 comparisons.**")
    lacking = first_line(alike, gated=True, missing=("process has no trial.",))
    assert ". The gate cannot pass: arms or loads are missing" in lacking


# -- the page ------------------------------------------------------------------------------------------


def test_the_page_says_what_was_compared() -> None:
    printed = page(many(2))
    assert printed.count("\n- arm-") == 2
    assert "\n- a note" in printed
    assert "<details>" not in printed
    assert "`before` (2026-11-21 10:34, EPYC, 2 usable cores, executor-bench 0.1.0)" in printed


def test_a_long_table_is_folded_and_shortened_to_fit_into_a_comment() -> None:
    printed = page(many(500), notes=[f"note {number}" for number in range(2000)])
    assert len(printed.encode()) <= compare_markdown.MOST_BYTES
    assert "<details><summary>500 comparisons</summary>\n\n| load |" in printed
    shown = printed.count("\n| c = 8 |")
    assert 100 < shown < 500
    assert f"\n\n{500 - shown} more rows: see `--json`.\n\n</details>" in printed
    assert re.search(r"\n\n\d+ more notes: see `--json`\.\n\n<sub>", printed)
    assert printed.endswith("</sub>")


def test_hostile_names_stay_text_in_a_page_that_fits() -> None:
    runs = (Run(Path(f"/runs/{HOSTILE.replace('/', '')}"), {}, pd.DataFrame(), pd.DataFrame(), []),) * 2
    printed = page(many(500, HOSTILE), notes=[HOSTILE] * 500, runs=runs, gated=True)
    assert len(printed.encode()) <= compare_markdown.MOST_BYTES
    tokens = [one for token in READER.parse(printed) for one in (token, *(token.children or ()))]
    assert {token.content.strip() for token in tokens if token.type.startswith("html")} == {
        *("<details><summary>500 comparisons</summary>", "</details>", "<sub>", "</sub>")
    }
    assert not {token.type for token in tokens} & {"link_open", "image", "heading_open"}
    assert all(line.count(" | ") == 6 for line in printed.splitlines() if line.startswith("| c = 8"))
    assert "The gate failed on 500 of 500 comparisons." in printed.splitlines()[0]
