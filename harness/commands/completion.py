"""Shell completion: strategies, plans, folders of runs, and the values of settings that have a few."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

RESULTS = Path("results")


def among(values: Iterable[str]) -> Callable[[str], list[str]]:
    """Complete one of these values."""

    def complete(incomplete: str) -> list[str]:
        return [value for value in values if value.startswith(incomplete)]

    return complete


def strategies(incomplete: str) -> list[str]:
    """Complete the name of a strategy."""
    import strategies as package

    return among(package.NAMES)(incomplete)


def plans(incomplete: str) -> list[str]:
    """Complete the name of a built-in plan, a TOML file of this folder, or the folder of a run."""
    from harness.plans import plan_files

    files = (str(path) for path in Path().glob("*.toml"))
    return [*among([*plan_files.names(), *files])(incomplete), *runs(incomplete)]


def runs(incomplete: str) -> list[str]:
    """Complete the folder of a run."""
    return among(sorted(_folders()))(incomplete)


def _folders() -> Iterator[str]:
    try:
        yield from (str(path.parent) for path in RESULTS.glob("*/run.json"))
    except OSError:  # a folder that cannot be read has nothing to offer
        return
