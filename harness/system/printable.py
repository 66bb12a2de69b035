"""Texts from outside, as they may be shown: what steers a terminal, or hides, becomes a sign."""

from __future__ import annotations

import re

# What steers a terminal, hides, or turns the order of letters round (Unicode's Cc, Cf, Cs, Zl, Zp), without
# line ends, tabs and the two joiners, which words and emoji need.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b\u200e\u200f"
    "\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001345f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def visible(text: str) -> str:
    """`text` with a sign in the place of each hidden character: ␛ for an escape; as long as before."""
    return _HIDDEN.sub(_sign, text)


def one_line(text: str) -> str:
    """As `visible`, on one line."""
    return visible(text).replace("\n", "␊").replace("\t", " ")


def _sign(found: re.Match[str]) -> str:
    code = ord(found[0])
    return chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else "\ufffd"
