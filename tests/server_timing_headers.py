"""`Server-Timing` headers with given durations, written by `harness.server.server_timing`."""

from __future__ import annotations

from unittest import mock

from harness.server import server_timing
from harness.server.server_timing import Done, Record, stage
from harness.wire.records import Timings


def written(timings: Timings) -> str:
    """Return the header of a request that used the model and then awaited its I/O.

    Only `io_server_ms` may be None: then the other side does not report a duration.
    """
    now = timings.entered_ms or 0.0

    def clock() -> float:
        return now

    with mock.patch.object(server_timing, "_now_ms", clock), Record() as record:
        with stage("model") as model:
            started = now + (timings.queue_ms or 0.0)
            ended = started + (timings.model_ms or 0.0)
            now = ended + (timings.resume_ms or 0.0)
            cpu_ms, pid, batch = timings.model_cpu_ms or 0.0, timings.worker_pid or 1, timings.batch_size or 1
            model.take(Done("x", started, ended, cpu_ms, pid, batch))
        with stage("io") as io:
            now += timings.io_ms or 0.0
            io.note_server_ms(timings.io_server_ms)
        now = (timings.entered_ms or 0.0) + (timings.handler_ms or 0.0)
        return record.header()
