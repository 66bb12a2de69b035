"""Rows of requests on their way from the load generator to requests.csv.

The load generator writes each finished request as one line of CSV at once: the columns of a Sample after
`trial`. The run puts the columns of the trial before each line. So no request stays in memory.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
from collections.abc import Iterable, Iterator
from typing import Any

from harness.wire.records import NO_TIMINGS, Identity, Sample, Shot, Timings, column_types, header

_AT = header(Sample).index("seq")
TRIAL_COLUMNS = header(Sample)[:_AT]
COLUMNS = header(Sample)[_AT:]  # of a line

_KINDS = [column_types(Sample)[name] for name in COLUMNS]
_OF_TIMINGS = [field.name for field in dataclasses.fields(Timings)]
_MOST_QUOTED = 1_024  # errors whose quoted text is remembered


def line_of(shot: Shot) -> str:
    """Return the line of a request, with its line end. Its cells are those of `records.to_cells`.

    The error must be a single line, as `reasons` makes it. Written out for speed: this runs for each request
    during the load.
    """
    seq, phase, due_ms, sent_ms, done_ms, timings, status, error, first_byte_ms, generator = shot
    seen = f"{seq},{phase},{due_ms:.3f},{sent_ms:.3f},{done_ms:.3f}"
    answer = f"{'' if status is None else status},{_quoted(error) if error else ''}"
    first_byte = "" if first_byte_ms is None else f"{first_byte_ms:.3f}"
    if timings is NO_TIMINGS:
        return f"{seen},,,,,,,,{answer},,,,{first_byte},{generator}\n"
    batch_size, worker_pid = timings.batch_size, timings.worker_pid
    return (
        f"{seen},{_ms(timings.entered_ms)},{_ms(timings.queue_ms)},{_ms(timings.model_ms)},"
        f"{_ms(timings.model_cpu_ms)},{_ms(timings.resume_ms)},{_ms(timings.io_ms)},{_ms(timings.handler_ms)},"
        f"{answer},{'' if batch_size is None else batch_size},{'' if worker_pid is None else worker_pid},"
        f"{_ms(timings.io_server_ms)},{first_byte},{generator}\n"
    )


def shots_of(lines: str) -> Iterator[Shot]:
    """Yield the requests of some lines."""
    for cells in csv.reader(io.StringIO(lines, newline="")):
        found: dict[str, Any] = {
            name: kind(cell) if cell or kind is str else None
            for name, kind, cell in zip(COLUMNS, _KINDS, cells, strict=True)
        }
        timings = Timings(**{name: found.pop(name) for name in _OF_TIMINGS})
        yield Shot(timings=timings, **found)


def of_trial(identity: Identity, lines: str) -> str:
    """Return the lines as requests.csv has them: each begins with the columns of its trial."""
    start = _as_csv(str(getattr(identity, name)) for name in TRIAL_COLUMNS) + ","
    between = f"\n{start}"
    return start + lines.removesuffix("\n").replace("\n", between) + "\n"


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


@functools.lru_cache(_MOST_QUOTED)
def _quoted(error: str) -> str:
    return _as_csv([error])


def _as_csv(cells: Iterable[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue().removesuffix("\n")
