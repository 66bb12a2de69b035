"""The pages of docs/reference that are made from the code."""

from __future__ import annotations

import csv
import itertools
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from conftest import CHECKOUT, Invoke

from harness import cli, errors
from harness.commands import reference_commands, reference_csv
from harness.errors import HarnessError
from harness.system import signals

PAGES = CHECKOUT / "docs" / "reference"


@pytest.mark.parametrize("page", ["commands", "csv", "exit-codes"])
def test_the_committed_page_is_what_the_command_prints(invoke: Invoke, page: str) -> None:
    printed = invoke("reference", page).stdout
    assert (PAGES / f"{page}.md").read_text() == printed, "make reference"


def test_the_page_of_commands_has_every_command_and_every_flag() -> None:
    group: Any = typer.main.get_command(cli.app)
    page = "\n".join(reference_commands.lines(group))
    parts = re.split(r"^## execbench (\S+)$", page, flags=re.M)[1:]
    assert parts[::2] == list(cli.FUNCTIONS)
    for name, text in zip(parts[::2], parts[1::2], strict=True):
        flags = {flag for one in group.get_command(None, name).params for flag in one.opts if flag[0] == "-"}
        shown = set(re.findall(r"--?[a-z][\w-]*", text))
        assert flags - {"--help", "-h"} <= shown
        for example in sys.modules[cli.FUNCTIONS[name].__module__].EXAMPLES:
            assert example in text


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("Save it in FOLDER. [results/<time>-<plan>]", r"Save it in FOLDER. \[results/\<time\>-\<plan\>\]"),
        ("a|b, see `x|y`", r"a\|b, see `x\|y`"),
        ("plain text: 5 %", "plain text: 5 %"),
    ],
)
def test_help_is_literal_text_in_markdown(text: str, cell: str) -> None:
    assert reference_commands.literal(text) == cell


def documented() -> dict[str, set[str]]:
    """File → its columns, with those that stand for several written out."""
    return {
        table.name: set(itertools.chain(*map(expanded, table.meanings))) for table in reference_csv.tables()
    }


def expanded(column: str) -> list[str]:
    found = re.fullmatch(r"(.*)\{(.*)\}(.*)", column)
    return [f"{found[1]}{one}{found[3]}" for one in found[2].split(",")] if found else [column]


def test_every_column_of_the_committed_runs_has_a_meaning() -> None:
    known, seen = documented(), set()
    for path in CHECKOUT.glob("results/*/*.csv"):
        with path.open() as stream:
            columns = {re.sub(r"^(score|count)_\d+$", r"\1_1", name) for name in next(csv.reader(stream))}
        assert columns - known[path.name] == set(), path
        seen.add(path.name)
    assert len(seen) > 6


def test_every_file_that_a_report_writes_is_on_the_page() -> None:
    sources = [CHECKOUT / "harness" / name for name in ("report/export.py", "capacity/report.py")]
    text = "".join(path.read_text() for path in sources)
    named = set(re.findall(r"\b(\w+\.csv)\b", text))
    assert len(named) > 8
    assert named <= {table.name for table in reference_csv.tables()}


@pytest.mark.parametrize(
    ("column", "unit"),
    [
        ("queue_ms", "ms"),
        ("latency_p50_ms_high", "ms"),
        ("cpu_ms_per_request", "ms"),
        ("throughput_per_s", "1/s"),
        ("throughput_per_s_low", "1/s"),
        ("window_s", "s"),
        ("steal_share", "share"),
        ("server_rss_mb", "MB"),
        ("foreign_cpu", "cores"),
        ("status", ""),
        ("ratio_low", ""),
    ],
)
def test_the_unit_of_a_column_is_that_of_its_name(column: str, unit: str) -> None:
    assert reference_csv.unit(column) == unit


def kinds(of: type[HarnessError]) -> list[type[HarnessError]]:
    return [of, *itertools.chain(*map(kinds, of.__subclasses__()))]


def test_every_exit_code_of_an_error_and_of_a_signal_is_on_the_page() -> None:
    text = (PAGES / "exit-codes.md").read_text()
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.M)}
    assert {kind.exit_code for kind in kinds(HarnessError)} < codes
    assert {signals.exit_code(KeyboardInterrupt())} | {
        signals.exit_code(signals.Terminated(number)) for number in (1, 15)
    } < codes
    assert codes == errors.EXIT_CODES.keys() | signals.exit_codes().keys()


def test_exit_codes_are_declared_in_one_place() -> None:
    bare = re.compile(r"exit_code = \d")
    assert [
        str(path) for path in Path(CHECKOUT / "harness").rglob("*.py") if bare.search(path.read_text())
    ] == []
