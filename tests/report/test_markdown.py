"""Markdown: text from outside renders as text, and mentions no GitHub user."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from markdown_it import MarkdownIt
from markdown_it.token import Token
from outside import TEXTS, often

from harness.report.markdown import code, line, literal
from harness.system.printable import one_line

READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
APART = "\u200b"
CALLS = re.compile(r"@\w|#\w|://|\bwww\.|\bGH-\d", re.IGNORECASE)


def rendered(page: str) -> list[Token]:
    return [one for token in READER.parse(page) for one in (token, *(token.children or ()))]


def words(tokens: list[Token]) -> str:
    return "".join(token.content for token in tokens if token.type in ("text", "text_special"))


def plain(text: str) -> str:
    return " ".join(one_line(text).split())


@often
@given(TEXTS)
def test_a_cell_is_one_cell_with_its_text_and_nothing_else(text: str) -> None:
    tokens = rendered("\n".join([line(["a", "b"]), "|---|---|", line(["x", literal(text)])]))
    inline = tokens[max(at for at, token in enumerate(tokens) if token.type == "inline") :]
    assert [token.type for token in tokens].count("td_open") == 2
    assert {token.type for token in inline} <= {
        "inline",
        "text",
        "td_close",
        "tr_close",
        "tbody_close",
        "table_close",
    }
    assert words(inline).replace(APART, "") == plain(text)
    assert not CALLS.search(words(inline))


@often
@given(TEXTS)
def test_an_item_of_a_list_is_one_line_of_text(text: str) -> None:
    tokens = rendered(f"- {literal(text)}\n")
    frame = {"bullet_list_open", "list_item_open", "paragraph_open", "inline", "text"}
    assert {token.type for token in tokens} <= frame | {name.replace("open", "close") for name in frame}
    assert words(tokens).replace(APART, "") == plain(text)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("default_pool", "default_pool"),
        ("batch:over=process,workers=2", "batch:over=process,workers=2"),
        ("closed(8) 1.034 (0.999-1.071) -3.1 ±5 %", "closed(8) 1.034 (0.999-1.071) -3.1 ±5 %"),
        ("a|b", r"a\|b"),
        ("`x`", r"\`x\`"),
        ("_x_ **y** ~~z~~ $m$", r"\_x\_ \*\*y\*\* \~\~z\~\~ \$m\$"),
        ("<img src=x onerror=y>&amp;", "&lt;img src=x onerror=y&gt;&amp;amp;"),
        ("![i](http://a.example/)", r"!\[i\](http:&#8203;//a.example/)"),
        ("@octo me@a.example", "@&#8203;octo me@&#8203;a.example"),
        ("a#12 GH-3", "a#&#8203;12 GH&#8203;-3"),
        ("WWW.a.example", "WWW&#8203;.a.example"),
        (":tada: 10:30", ":&#8203;tada: 10:30"),
        ("two\nlines\t\x1b[31m", r"two␊lines ␛\[31m"),
        ("1. a", r"1\. a"),
        ("- a", r"\- a"),
        ("---", r"\---"),
        ("# a", r"\# a"),
        ("1.5 ms", "1.5 ms"),
    ],
)
def test_what_is_written_for_a_text(text: str, written: str) -> None:
    assert literal(text) == written


@pytest.mark.parametrize("text", ["execbench study", "a`b", "`a``b`", "a\nb\x1b"])
def test_inline_code_holds_the_whole_text_whatever_backticks_it_has(text: str) -> None:
    (found,) = [token for token in rendered(code(text)) if token.type == "code_inline"]
    assert found.content == plain(text)
