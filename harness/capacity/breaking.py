"""Why an objective was missed: the part of a request that grew most once the load was too high. Pure.

Compares the requests that missed the objective with the requests of a single user. `loop` is the time spent
waiting for the event loop: the way back, everything outside the route, and the share of the awaited I/O that
the loop lag explains. If the I/O's server reports its own time, that time is `database`; what neither
explains (the network, the driver, the wait for a connection) stays `I/O`. `server` is the remaining time of a
server that does not report all parts.
"""

from __future__ import annotations

import enum
import math
from typing import NamedTuple

import pandas as pd

from harness.analysis import nominal
from harness.analysis.slo import METRIC_ERRORS, Objective

IO_SERVER = "io_server_ms"  # the awaited I/O as its own server saw it
LATE_LOOP = 0.5  # loop lag / growth of the I/O from which the loop explains that growth


class Part(enum.StrEnum):
    """A part of a request that can take longer under load than alone."""

    QUEUE = "queue"
    MODEL = "model"
    LOOP = "loop"
    IO = "I/O"
    CLIENT = "client"
    DATABASE = "database"
    SERVER = "server"


class Explanation(NamedTuple):
    """`part` is a `Part` or the most frequent error; `words` give the figures."""

    part: str = ""
    words: str = ""


def explain(
    rows: pd.DataFrame, lone: pd.DataFrame, objective: Objective, loop_lag_ms: float, *, capped: bool = False
) -> Explanation:
    """Explain why `rows`, the measured requests of one window, missed `objective`.

    `lone`: the measured requests of a single user. `loop_lag_ms`: p99 of the server's loop lag in the window.
    `capped`: the load generator held requests back at the cap, so they queued there instead of in the server.
    """
    failed = rows[~rows["ok"]]
    late = rows[rows["ok"] & _late(rows, objective)]
    if len(failed) and (objective.metric == METRIC_ERRORS or len(failed) > len(late)):
        commonest = failed["error"].mode().iloc[0]
        words = f"errors: {len(failed)} of {len(rows)} failed, most often {commonest}"
        return Explanation(str(commonest), words)
    grown = _growth(late, lone[lone["ok"]], loop_lag_ms, capped=capped)
    if not grown:
        return Explanation()
    part = max(grown, key=lambda name: grown[name])
    longer = late["latency_ms"].mean() - lone.loc[lone["ok"], "latency_ms"].mean()
    whose = "late requests" if objective.percent is not None else "requests"
    own = min(grown[part], longer)  # other parts may be shorter than alone, as a busy model stays warm
    return Explanation(
        part, f"{part}: {own:.0f} of the {longer:.0f} ms that {whose} took longer than with one user"
    )


def _late(rows: pd.DataFrame, objective: Objective) -> pd.Series[bool]:
    if objective.percent is None:
        return rows["ok"]
    late: pd.Series[bool] = rows["io_ms" if objective.metric == "io" else "latency_ms"] > objective.limit
    return late


def _growth(rows: pd.DataFrame, lone: pd.DataFrame, loop_lag_ms: float, *, capped: bool) -> dict[Part, float]:
    """How much longer each part takes than alone, in ms."""
    if rows.empty or lone.empty:
        return {}

    def more(column: str) -> float:
        return float(rows[column].mean() - lone[column].mean())

    late_ms = more("dispatch_lag_ms")
    held_ms = late_ms if capped else 0.0  # the cap held them back: a queue of the server, kept in the client
    found = {
        Part.CLIENT: late_ms - held_ms,
        Part.QUEUE: more("queue_ms") + held_ms,
        Part.MODEL: more("model_ms"),
        Part.LOOP: more("resume_ms") + more("outside_ms"),
        Part.IO: more("io_ms"),
    }
    if IO_SERVER in rows and not math.isnan(at_server := more(IO_SERVER)):
        rest = found[Part.IO] - at_server
        of_loop = max(0.0, min(rest, nominal.LOOP_TURNS * loop_lag_ms)) if loop_lag_ms > 0 else 0.0
        found |= {Part.DATABASE: at_server, Part.LOOP: found[Part.LOOP] + of_loop, Part.IO: rest - of_loop}
    elif loop_lag_ms >= LATE_LOOP * found[Part.IO]:
        found[Part.LOOP] += found.pop(Part.IO)
    known = {name: value for name, value in found.items() if not math.isnan(value)}
    if len(known) < len(found):
        known[Part.SERVER] = more("latency_ms") - sum(known.values())
    return known
