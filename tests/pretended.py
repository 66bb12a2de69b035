"""A simulated client and simulated servers for tests of checks: nothing waits, and all times are exact."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from harness.evidence.check.bench import synthetic
from harness.wire import arrivals
from harness.wire.load_options import LoadOptions
from harness.wire.loop_lag import Lag
from harness.wire.options import ServerOptions
from harness.wire.records import MEASURE, WARMUP, Outcome, Shot, Timings

OUTSIDE_MS = 1.2  # half of it before the server, half after


class World:
    """A simulated client and servers of one worker each, with the `fire` and `serve` of a Bench.

    To break something, a test passes `distort`, which changes what the client records of a request, or
    `misplace`, which changes the times that the server reports.
    """

    def __init__(
        self,
        *,
        distort: Callable[[Shot], Shot] = lambda shot: shot,
        misplace: Callable[[dict[str, float]], Mapping[str, Any]] = lambda parts: parts,
        lag: Callable[[ServerOptions], Lag | None] = lambda options: None,
        workers: int = 1,
    ) -> None:
        self._servers: dict[str, ServerOptions] = {}
        self._distort, self._misplace, self._lag, self._workers = distort, misplace, lag, workers

    @contextmanager
    def serve(self, strategy: str = "thread", **options: Any) -> Iterator[Any]:
        chosen = ServerOptions(strategy=strategy, **options)
        url = f"http://127.0.0.1/{len(self._servers)}"
        self._servers[url] = chosen
        yield SimpleNamespace(url=url, watch=lambda: None, unwatch=lambda: self._lag(chosen))

    def fire(self, url: str, **options: Any) -> Outcome:
        load = LoadOptions.model_validate({"url": url, **options})
        shots = [self._distort(shot) for shot in self._shots(load)]
        begin = load.settle_s * 1e3
        return Outcome(shots, begin, begin + (load.duration_s or 1.0) * 1e3, 1.0)

    def _shots(self, load: LoadOptions) -> Iterator[Shot]:
        free = [0.0] * self._workers  # the time at which each worker is free again
        server = self._servers.get(load.url, ServerOptions(strategy="thread", workload=synthetic(0.0)))
        done = 0.0
        for seq, due in enumerate(self._due_times_ms(load)):
            due = done if due is None else due
            place = free.index(min(free))
            parts = self._parts(server, due + OUTSIDE_MS / 2, free[place])
            free[place] = due + OUTSIDE_MS / 2 + parts["queue_ms"] + parts["model_ms"]
            handler = sum(parts.values())
            done = due + OUTSIDE_MS + handler
            timings = Timings(due + OUTSIDE_MS / 2, handler_ms=handler, **self._misplace(parts))
            phase = WARMUP if seq < load.warmup_requests or due < load.settle_s * 1e3 else MEASURE
            yield Shot(seq, phase, due, due, done, timings, 200, "")

    def _due_times_ms(self, load: LoadOptions) -> Iterator[float | None]:
        if not load.arrivals.is_open:
            yield from itertools.repeat(None, load.warmup_requests + (load.requests or 100))
            return
        end = load.settle_s + (load.duration_s or 0.0)
        for due in itertools.takewhile(lambda due: due < end, arrivals.due_times_s(load.arrivals, load.seed)):
            yield due * 1e3

    def _parts(self, server: ServerOptions, entered: float, free: float) -> dict[str, float]:
        workload, inject = server.workload, server.inject
        return {
            "queue_ms": inject.queue_ms + max(0.0, free - entered),
            "model_ms": workload.service_ms + inject.model_ms,
            "resume_ms": inject.resume_ms,
            "io_ms": workload.io_ms + inject.io_ms,
        }


def rounded_to_10_ms(shot: Shot) -> Shot:
    return shot._replace(
        due_ms=10 * round(shot.due_ms / 10),
        sent_ms=10 * round(shot.sent_ms / 10),
        done_ms=10 * round(shot.done_ms / 10),
    )


def later(milliseconds: float) -> Callable[[Shot], Shot]:
    """Return a distortion: the client records each answer `milliseconds` too late."""
    return lambda shot: shot._replace(done_ms=shot.done_ms + milliseconds)
