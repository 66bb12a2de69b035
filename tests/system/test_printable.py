"""Output: text is unchanged, nothing controls the terminal, and JSON is valid."""

from __future__ import annotations

import io
import json
import math
import unicodedata

import pytest
from hypothesis import given
from outside import TEXTS, often
from rich.console import RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from harness.commands.screen import Screen
from harness.commands.terminal import PIPED_WIDTH, print_json
from harness.system.printable import one_line, visible

KEPT = {"\n", "\t", "\u200c", "\u200d"}  # the last two join letters and emoji


def shown(*parts: RenderableType) -> str:
    written = io.StringIO()
    screen = Screen(file=written, width=PIPED_WIDTH, color_system=None)
    for part in parts:
        screen.print(part, soft_wrap=isinstance(part, Text))
    return written.getvalue()


def steering(text: str) -> set[str]:
    return {one for one in text if unicodedata.category(one) in ("Cc", "Cf", "Cs", "Zl", "Zp")} - KEPT


def table(text: str) -> Table:
    table = Table(title=text, caption=text, box=None)
    table.add_column(text)
    table.add_row(text)
    table.add_row(Text(text, style="bold"))
    table.add_row(Padding(Text(text), 1))
    return table


@often
@given(TEXTS)
def test_no_text_controls_the_terminal_wherever_it_is_shown(text: str) -> None:
    assert not steering(shown(text, Text(text), table(text), Rule(text)))


@often
@given(TEXTS)
def test_a_visible_text_has_the_same_length_and_stays_unchanged(text: str) -> None:
    once = visible(text)
    assert len(once) == len(text)
    assert visible(once) == once
    assert "\n" not in one_line(text)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("\x1b[31mred", "␛[31mred"),
        ("\x1b]8;;http://a/\x07b", "␛]8;;http://a/␇b"),
        ("\x9b2J", "\ufffd2J"),
        ("abc\u202edef", "abc\ufffddef"),
        ("\ud800", "\ufffd"),
        ("replay(x[/a].txt)", "replay(x[/a].txt)"),
        ("[bold]no[/bold]", "[bold]no[/bold]"),
        (":smile:", ":smile:"),
        ("模型 👩‍🔬 é", "模型 👩‍🔬 é"),
    ],
)
def test_unprintable_characters_become_visible_symbols(text: str, seen: str) -> None:
    for part in (text, table(text)):
        assert seen in shown(part)
    assert shown(Text(text)).strip() == seen.replace("␇", "")  # rich removes bells from its own texts


def test_styles_stay_where_they_were() -> None:
    written = io.StringIO()
    screen = Screen(file=written, force_terminal=True, color_system="standard", _environ={"TERM": "xterm"})
    screen.print(Text.assemble("\x1b[31m", ("bold", "bold")))
    assert written.getvalue() == "␛[31m\x1b[1mbold\x1b[0m\n"


def test_json_has_null_for_nan_and_ascii_characters_only(
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = {"a": [math.nan, (1.5, -math.inf)], "b": "\x1b[31m≥\ud800", "c": {"d": math.inf}}
    print_json(data)
    printed = capsys.readouterr().out
    assert printed.isascii()
    assert json.loads(printed) == {"a": [None, [1.5, None]], "b": "\x1b[31m≥\ud800", "c": {"d": None}}
