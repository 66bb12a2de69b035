"""How far to trust a run, as tiles: the machine, the twin, the blocks, the client, the failures."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from harness.analysis import machine
from harness.numbers import percent, users
from harness.report.page.parts import Tile
from harness.report.report import Report
from harness.verdicts import session_noise
from harness.verdicts.admissible import blocks_of

_STATES = {"quiet": "good", "usable": "fair", "noisy": "bad"}
_MOST_OF_LIMIT = machine.MOST_OF_CLIENT_LIMIT


def tiles(report: Report, load: str) -> list[Tile]:
    """The tiles of a run whose arms are compared; `load` is the load that decides."""
    return [
        *machine_tile(report),
        *([_twin(report, load)] if len(report.comparisons) else []),
        *blocks_tile(report),
        *_client(report),
        *_failures(report),
    ]


def machine_tile(report: Report) -> Iterator[Tile]:
    """How quiet the machine was, by its own readings."""
    said = re.match(r"Machine: (.+?) – (.*?); ", f"{report.machine}; ")
    if said:
        yield Tile("Machine", said[1], said[2], _STATES.get(said[1], ""))


def _twin(report: Report, load: str) -> Tile:
    if report.withheld:
        return Tile("Verdicts", "withheld", "see the warning", "bad")
    twins = session_noise.twin_differences(report.comparisons)
    if not twins:
        return Tile("Twin", "none", "no arm was run twice, so the noise of the session is not known")
    worst = max(twins, key=lambda one: twins[one])
    here = load if load in twins else worst
    detail = f"how far {report.evidence.facts.reference}, run twice, differs from itself at {users(here)}"
    if worst != here:
        detail += f"; at most {percent(twins[worst])}, at {users(worst)}"
    delta = report.evidence.facts.rules.delta_latency
    return Tile(
        "Equal arms differ by",
        f"{percent(twins[here])} of latency",
        detail,
        "good" if twins[here] <= delta else "fair",
    )


def blocks_tile(report: Report) -> Iterator[Tile]:
    """How many blocks noise, or a kill, has spoilt."""
    blocks, out = len(blocks_of(report.evidence.run)), len(report.evidence.spoilt)
    if blocks > 1:
        state = "good" if not out else "fair" if out <= blocks / 4 else "bad"
        yield Tile(
            "Blocks left out", f"{out} of {blocks}", "in each block every arm runs once per load", state
        )


def _client(report: Report) -> Iterator[Tile]:
    limited = report.evidence.limited
    if limited:
        cells = ", ".join(sorted({arm for arm, _ in limited}))
        yield Tile("Load generator", "is the limit", f"figures of {cells} are bounds", "bad")
        return
    limit_per_s = machine.client_limit_per_s(report.record)
    table = report.summary
    if math.isnan(limit_per_s) or table.empty:
        return
    used = float(table["answered_per_s"].max()) / limit_per_s
    if math.isfinite(used):
        detail = f"at most {used * limit_per_s:,.0f} requests/s were sent; it can send {limit_per_s:,.0f}"
        state = "good" if used < _MOST_OF_LIMIT else "fair"
        yield Tile("Load generator", f"{percent(used, 0)} of its limit", detail, state)


def _failures(report: Report) -> Iterator[Tile]:
    table = report.summary
    if table.empty:
        return
    failed, requests = int(table["failed"].sum()), int(table["requests"].sum())
    yield Tile(
        "Failed requests", f"{failed:,}", f"of {requests:,} measured", "good" if not failed else "fair"
    )
