"""The terminal, as every command uses it."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

from harness.stdout import document

if TYPE_CHECKING:
    from harness.screen import Screen

PIPED_WIDTH = 80

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


def console(*, stderr: bool = False) -> Screen:
    """Piped, tables keep to 80 columns whatever the environment says; nothing is cut, it wraps."""
    from harness.screen import Screen

    found = Screen(stderr=stderr)
    return found if found.is_terminal else Screen(stderr=stderr, width=PIPED_WIDTH)


def print_json(data: Any) -> None:
    """Print one JSON document on stdout, in ASCII, and nothing else there. NaN and infinity become null."""
    stream = document()
    stream.write(json.dumps(_finite(data), indent=1, allow_nan=False) + "\n")
    stream.flush()


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
