"""Lindley's recursion: what a queue with one server must do, request by request."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harness.analysis.arrays import Floats


def step_errors_ms(entered_ms: npt.ArrayLike, queue_ms: npt.ArrayLike, model_ms: npt.ArrayLike) -> Floats:
    """Measured minus predicted queue wait of every request but the first, one step at a time.

    W[n+1] = max(0, W[n] + S[n] − (A[n+1] − A[n])), from the *measured* W[n], in order of arrival; A is the
    arrival at the queue (`entered_ms`), S the time in the worker. Run on from its own predictions it would
    pile up what the worker needs between two requests. They must be all the requests that the one worker
    served: one that is left out is an error of its service time.
    """
    entered, queue, model = (
        np.asarray(values, dtype=np.float64) for values in (entered_ms, queue_ms, model_ms)
    )
    order = np.argsort(entered, kind="stable")
    entered, queue, model = entered[order], queue[order], model[order]
    predicted = np.maximum(0.0, queue[:-1] + model[:-1] - np.diff(entered))
    return np.asarray(queue[1:] - predicted, dtype=np.float64)
