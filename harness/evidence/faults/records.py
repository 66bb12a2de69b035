"""The recorded result of one fault on one arm."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

OUTCOMES = {
    "unharmed": "all innocent requests, and later ones, got good answers",
    "recovered": "innocent requests failed, but later ones got good answers again",
    "broken": "every later request got an error",
    "stuck": "later requests got no answer",
    "server died": "the server itself ended",
    "refused to start": "the server ended at once and reported why",
    "started": "the server became ready despite the fault",
    "skipped": "the item of the client that had left was not run",
    "run anyway": "the item was run although its client had left",
    "sheds": "excess requests were refused with 503, and nothing else failed",
    "piles up": "nothing was refused, and later requests waited longer",
    "answered": "requests in flight were answered before the server ended",
    "lost": "requests in flight were not answered",
    "ended": "the server and all its processes ended, as they should",
    "red": "/health reported the outage within a second",
    "stayed available": "a request got a good answer within a second, so there was no outage to report",
    "green": "/health stayed green for more than a second although no request was answered",
    "orphans": "processes still ran 2 s after the server had ended",
    "not measured": "the server did not start, or the fault could not be injected",
    "not available": "the strategy cannot work here",
    "not applicable": "the fault does not concern this kind of server",
}
FORMER_OUTCOMES = {
    "run all the same": "run anyway",
    "served": "stayed available",
}  # in CSVs of older versions


class Tally(NamedTuple):
    """The number of innocent requests by kind of answer."""

    answered: int = 0  # 200, or the status that a good answer of a command has
    refused: int = 0  # 503 or 429
    failed: int = 0  # another status, or the connection was dropped
    unanswered: int = 0  # no answer in time


class Observation(NamedTuple):
    """What was observed of a fault before the server is stopped. Fields as in `FaultRow`."""

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
class FaultRow:
    """One fault on one arm. Numbers that do not apply to a fault are None."""

    fault: str
    arm: str
    outcome: str  # a key of OUTCOMES
    recovered_s: float | None  # from the fault to the first good answer to a request sent after it
    answered: int  # innocent requests answered with 200
    refused: int  # with 503, or 429
    failed: int  # with another status, or not at all because the connection was dropped
    unanswered: int  # without an answer within the time limit
    item: str  # the answer to the faulty item
    refused_p50_ms: float | None  # median time of a 503
    longest_ms: float | None  # longest time of an innocent request
    in_flight_max: int | None  # the most requests in flight
    health_red_s: float | None  # from the fault to the first /health that was not green
    kills: int | None  # workers killed
    ended_s: float | None  # from SIGTERM to the server's end; None: it had to be killed, or had died before
    orphans: int  # processes still running 2 s after the server's end
    notes: str


def make_row(
    fault: str, arm: str, observed: Observation, *, ended_s: float | None = None, orphans: int = 0
) -> FaultRow:
    """Make the row of a fault. Orphans are the worst outcome and replace any other."""
    plain = {name: value for name, value in observed._asdict().items() if name not in ("tally", "notes")}
    return FaultRow(
        fault=fault,
        arm=arm,
        **{**plain, "outcome": "orphans" if orphans else observed.outcome},
        **observed.tally._asdict(),
        ended_s=ended_s,
        orphans=orphans,
        notes="; ".join(observed.notes),
    )


def empty_row(fault: str, arm: str, outcome: str, why: str) -> FaultRow:
    """Make the row of a fault that could not be tried."""
    return make_row(fault, arm, Observation(outcome, notes=(why,)))
