"""Make text from outside safe to show: replace characters that control a terminal or are invisible."""

from __future__ import annotations

import re

# Characters that control a terminal, are invisible or reverse the order of letters (Unicode's Cc, Cf, Cs, Zl,
# Zp), except line breaks, tabs and the two joiners, which words and emoji need.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b\u200e\u200f"
    "\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001345f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def visible(text: str) -> str:
    """Replace each unprintable character in `text` by one visible symbol: ␛ for an escape."""
    return _UNPRINTABLE.sub(_symbol, text)


def one_line(text: str) -> str:
    """Return `text` as in `visible`, on one line."""
    return visible(text).replace("\n", "␊").replace("\t", " ")


def _symbol(character: re.Match[str]) -> str:
    code = ord(character[0])
    return chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else "\ufffd"
