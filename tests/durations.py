"""A pytest plugin that records how long tests and fixtures take, and the page that shows it.

`pytest --durations-csv FILE` writes a row for each test function and each fixture; `python tests/durations.py
BEFORE AFTER` prints docs/development/test-durations.md. `make test-durations` does both.
"""

from __future__ import annotations

import csv
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any, cast

import pytest

SLOWEST_SHOWN = 20
FIXTURE = "fixture"
TEARDOWN = "teardown"


@dataclass(frozen=True)
class Row:
    """The total time of one test function with all its parameters, or of one fixture."""

    kind: str  # test, fixture (its set-up) or teardown (all of them)
    name: str
    count: int  # how often it ran
    seconds: float


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--durations-csv", metavar="FILE", help="write what each test and fixture took")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--durations-csv"):
        config.pluginmanager.register(Durations(config))


class Durations:
    """Measures the set-up of fixtures, and adds up the times that all workers report."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._item: pytest.Item | None = None
        self._spent: dict[tuple[str, str], list[float]] = defaultdict(list)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self._item = item

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Iterator[Any]:
        began = time.perf_counter()
        try:
            return (yield)
        finally:
            if self._item is not None:
                name = f"{fixturedef.baseid}::{fixturedef.argname}"
                self._item.user_properties.append((FIXTURE, (name, time.perf_counter() - began)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            self._spent["test", report.nodeid.split("[")[0].split("@")[0]].append(report.duration)
        if report.when == "teardown":
            self._spent[TEARDOWN, "all"].append(report.duration)
            for kind, spent in report.user_properties:
                if kind == FIXTURE:
                    name, seconds = cast("tuple[str, float]", spent)  # appended by pytest_fixture_setup
                    self._spent[kind, name].append(seconds)

    def pytest_sessionfinish(self) -> None:
        if not hasattr(self._config, "workerinput"):
            rows = [Row(*key, len(spent), round(sum(spent), 3)) for key, spent in self._spent.items()]
            write(Path(self._config.getoption("--durations-csv")), rows)


def write(path: Path, rows: Iterable[Row]) -> None:
    with path.open("w", newline="") as stream:
        lines = csv.writer(stream, lineterminator="\n")
        lines.writerow(field.name for field in fields(Row))
        slowest_first = sorted(rows, key=lambda row: (-row.seconds, row.name))
        lines.writerows(astuple(row) for row in slowest_first)


def read(path: Path) -> list[Row]:
    with path.open(newline="") as stream:
        return [
            Row(row["kind"], row["name"], int(row["count"]), float(row["seconds"]))
            for row in csv.DictReader(stream)
        ]


# -- the page ------------------------------------------------------------------------------------------


HEAD = """\
# Where the tests' time goes

Made by `make test-durations`. Wall-clock seconds, summed over all workers: parallel tests count in full,
including the time that they wait for a processor. A test counts with all its parameters, a fixture with its
set-up only. For the duration of a whole run see [testing.md](testing.md).
"""


def page(before: list[Row], after: list[Row]) -> str:
    """Return the page: the totals before and after, then the slowest tests and fixtures of each."""
    return "\n".join(
        [
            HEAD,
            *totals(before, after),
            "",
            f"## The {SLOWEST_SHOWN} slowest, before",
            "",
            *slowest(before),
            "",
            f"## The {SLOWEST_SHOWN} slowest, after",
            "",
            *slowest(after),
        ]
    )


def totals(before: list[Row], after: list[Row]) -> Iterator[str]:
    yield "| | before, s | after, s |"
    yield "|---|---:|---:|"
    for kind, label in (("test", "tests"), (FIXTURE, "set-up of fixtures"), (TEARDOWN, "teardown")):
        spent = [sum(row.seconds for row in rows if row.kind == kind) for rows in (before, after)]
        yield f"| {label} | {spent[0]:.0f} | {spent[1]:.0f} |"


def slowest(rows: list[Row]) -> Iterator[str]:
    yield "| seconds | times | | test or fixture |"
    yield "|---:|---:|---|---|"
    known = [row for row in rows if row.kind != TEARDOWN]
    for row in sorted(known, key=lambda row: -row.seconds)[:SLOWEST_SHOWN]:
        yield f"| {row.seconds:.1f} | {row.count} | {row.kind} | `{row.name.removeprefix('tests/')}` |"


if __name__ == "__main__":
    sys.stdout.write(page(*(read(Path(name)) for name in sys.argv[1:3])) + "\n")
