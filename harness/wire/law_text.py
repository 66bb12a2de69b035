"""Read the numbers in texts like `burst(10, 0.5)`; the errors say which number is wrong and why."""

from __future__ import annotations

from harness.errors import shortened
from harness.wire import bounds


def users(text: str, what: str) -> float:
    """Return a whole number from 1 to the most users. Raises ValueError that begins with `what`."""
    found = number(text, what, least=1, most=bounds.USERS)
    if found != int(found):
        raise ValueError(f"{what} must be a whole number, not {shortened(text)!r}")
    return found


def number(text: str, what: str, *, least: float, most: float = 1e6) -> float:
    """Return the number in `text`. Raises ValueError that begins with `what`."""
    try:
        found = float(text)
    except ValueError:
        raise ValueError(f"{what} must be a number, not {shortened(text)!r}") from None
    check_range(found, what, least=least, most=most)
    return found


def check_range(found: float, what: str, *, least: float, most: float) -> None:
    """Raise ValueError that begins with `what` unless the number is within these limits; NaN is not."""
    if not least <= found <= most:
        raise ValueError(f"{what} must be from {least:g} to {most:g}, not {found:g}")
