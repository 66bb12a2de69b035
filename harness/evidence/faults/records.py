"""What is written down of a fault that an arm has met."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

OUTCOMES = {
    "unharmed": "every innocent request was answered well, and so were later ones",
    "recovered": "innocent requests failed, later ones were answered well again",
    "broken": "from then on every request was answered with an error",
    "stuck": "from then on requests got no answer at all",
    "server died": "the server itself ended",
    "refused to start": "the server ended at once, saying why",
    "started": "the server became ready all the same",
    "skipped": "the item of the client that had left was not run",
    "run all the same": "the item was run although nobody waited for it",
    "sheds": "what was too much was refused with 503, and nothing else failed",
    "piles up": "nothing was refused: who came later waited longer",
    "answered": "what was under way was answered before the end",
    "lost": "what was under way was not answered",
    "ended": "so it was to be",
    "red": "/health said so within a second",
    "served": "somebody was answered within a second: there was nothing to say",
    "green": "/health was green for more than a second while nobody was answered",
    "orphans": "processes were still there 2 s after the end of the server",
    "not measured": "the server did not even start",
    "not available": "the strategy cannot work here",
}


class Tally(NamedTuple):
    """What became of innocent requests."""

    answered: int = 0  # 200
    refused: int = 0  # 503
    failed: int = 0  # another status, or the connection was dropped
    unanswered: int = 0  # nothing in time


class Found(NamedTuple):
    """What a fault tells of an arm, before its server is ended. Fields as in `Seen`."""

    outcome: str
    recovered_s: float | None = None
    tally: Tally = Tally()
    item: str = ""
    refused_p50_ms: float | None = None
    longest_ms: float | None = None
    in_flight_max: int | None = None
    health_red_s: float | None = None
    kills: int | None = None
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Seen:
    """One fault met by one arm: one row. Numbers that a fault has no use for are None."""

    fault: str
    arm: str
    outcome: str  # a key of OUTCOMES
    recovered_s: float | None  # from the fault to the first good answer to a request sent after it
    answered: int  # innocent requests answered with 200
    refused: int  # with 503
    failed: int  # with another status, or not at all because the connection was dropped
    unanswered: int  # that got nothing as long as they were waited for
    item: str  # what the item that was the fault got
    refused_p50_ms: float | None  # how long a 503 took
    longest_ms: float | None  # the longest that an innocent request took
    in_flight_max: int | None  # requests without an answer at one time
    health_red_s: float | None  # from the fault to the first /health that was not green
    kills: int | None  # workers killed
    ended_s: float | None  # from SIGTERM to the server's end; None: it had to be killed, or had died before
    orphans: int  # of its processes, 2 s after its end
    notes: str  # what else was seen


def seen(fault: str, arm: str, found: Found, *, ended_s: float | None = None, orphans: int = 0) -> Seen:
    """The row. Orphans are the worst that can be seen, whatever else was."""
    plain = {name: value for name, value in found._asdict().items() if name not in ("tally", "notes")}
    return Seen(
        fault=fault,
        arm=arm,
        **{**plain, "outcome": "orphans" if orphans else found.outcome},
        **found.tally._asdict(),
        ended_s=ended_s,
        orphans=orphans,
        notes="; ".join(found.notes),
    )


def unmet(fault: str, arm: str, outcome: str, why: str) -> Seen:
    """The row where there was nothing to see."""
    return seen(fault, arm, Found(outcome, notes=(why,)))
