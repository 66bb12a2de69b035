"""The trial of a load that was killed: its requests are on disk, and its row is made of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.wire import arrivals
from harness.wire.records import CUT, MEASURE, PING, UNKNOWN, Trial

if TYPE_CHECKING:
    from harness.results.columns import Columns

WARNING = "The load was killed: its last seconds are missing."


def trial(record: Mapping[str, Any], rows: Columns) -> Trial | None:
    """The trial of these rows; None if the run is no load of one trial, or no request was measured.

    The window is from the first due time to the last answer of the measured requests.
    """
    import numpy as np

    if record.get("plan") is not None or "load" not in record or len(rows.trials) != 1:
        return None
    every = [slice(0, len(rows))]
    phase = rows.values("phase", every)
    measured = np.asarray(phase == MEASURE)
    if not measured.any():
        return None
    begin = float(rows.values("due_ms", every, measured).min())
    end = float(rows.values("done_ms", every, measured).max())
    failed = int((rows.values("error", every, measured) != "").sum())
    arm, strategy, load = (str(rows.values(name, [slice(0, 1)])[0]) for name in ("arm", "strategy", "load"))
    users, rate_per_s = _law(load, int(measured.sum()), (end - begin) / 1e3)
    of_load = np.asarray(phase != PING)
    in_flight = _most_in_flight(*(rows.values(name, every, of_load) for name in ("sent_ms", "done_ms")))
    return Trial(
        arm=arm,
        strategy=strategy,
        load=load,
        trial=int(rows.trials[0]),
        block=int(rows.values("block", [slice(0, 1)])[0]),
        position=0,
        concurrency=users,
        rate_per_s=rate_per_s,
        schedule="",
        io_nominal_ms=None,
        requests=len(rows),
        measured=int(measured.sum()),
        failed=failed,
        in_flight_max=in_flight,
        capped=0,
        window_start_ms=begin,
        window_end_ms=end,
        client_cpu_ms=math.nan,
        client_lag_p99_ms=None,
        client_lag_max_ms=None,
        **UNKNOWN._asdict(),
        started_at=str(record.get("started_at") or ""),
        state=CUT,
        error=WARNING,
    )


def _law(load: str, measured: int, seconds: float) -> tuple[int | None, float | None]:
    """The users of a closed loop, or the rate of an open one. A replay's file is not read: it may be gone."""
    try:
        law = None if load.startswith("replay(") else arrivals.parse(load)
    except (ValueError, HarnessError):
        law = None
    if law is None:
        return None, measured / seconds if seconds > 0 else 0.0
    return law.users, law.rate_per_s


def _most_in_flight(sent_ms: Any, done_ms: Any) -> int:
    """The most requests that were in flight at the same time. Sorts its arguments."""
    import numpy as np

    sent_ms.sort()
    done_ms.sort()
    ended = np.searchsorted(done_ms, sent_ms, side="right")
    return int((np.arange(1, len(sent_ms) + 1) - ended).max(initial=0))
