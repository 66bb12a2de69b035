"""A request's line has the cells of its row in requests.csv, and gives the request back."""

from __future__ import annotations

import csv
import io

from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from harness.wire import reasons
from harness.wire.records import (
    COOLDOWN,
    MEASURE,
    NO_TIMINGS,
    PING,
    WARMUP,
    Identity,
    Outcome,
    Sample,
    Shot,
    Timings,
    to_cells,
    to_rows,
)
from harness.wire.row_lines import COLUMNS, line_of, of_trial, shots_of

MS = st.floats(-1e12, 1e12).map(lambda value: round(value, 3))
COUNT = st.integers(1, 2**31)
TIMINGS = st.builds(
    Timings,
    **dict.fromkeys(
        (
            "entered_ms",
            "queue_ms",
            "model_ms",
            "model_cpu_ms",
            "resume_ms",
            "io_ms",
            "io_server_ms",
            "handler_ms",
        ),
        st.none() | MS,
    ),
    batch_size=st.none() | COUNT,
    worker_pid=st.none() | COUNT,
)
ERRORS = st.just("") | st.text().map(lambda text: reasons.of_exception(ValueError(text)))
SHOTS = st.builds(
    Shot,
    seq=st.integers(0, 10**9),
    phase=st.sampled_from((WARMUP, MEASURE, COOLDOWN, PING)),
    due_ms=MS,
    sent_ms=MS,
    done_ms=MS,
    timings=st.just(NO_TIMINGS) | TIMINGS,
    status=st.none() | st.integers(100, 599),
    error=ERRORS | st.sampled_from(['timeout, "after" 5 s', "a,b", '"']),
    first_byte_ms=st.none() | MS,
)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), min_size=1)
IDENTITIES = st.builds(
    Identity,
    trial=st.integers(0, 10**5),
    block=st.integers(0, 10**5),
    position=st.just(0),
    arm=TEXTS,
    strategy=TEXTS,
    load=TEXTS | st.just("burst(10, 0.5)"),
    concurrency=st.none(),
    rate_per_s=st.none(),
    schedule=st.just(""),
    io_nominal_ms=st.none(),
)


@examples(in_ci=200, by_hand=20_000)
@given(identity=IDENTITIES, shots=st.lists(SHOTS, min_size=1, max_size=3))
def test_lines_have_the_cells_of_the_rows_and_give_the_requests_back(
    identity: Identity, shots: list[Shot]
) -> None:
    _, samples = to_rows(identity, Outcome(shots, 0.0, 1.0, 0.0), started_at="", fault=None)
    lines = "".join(map(line_of, shots))
    whole = io.StringIO(of_trial(identity, lines), newline="")
    assert list(csv.reader(whole)) == list(map(to_cells, samples))
    assert list(shots_of(lines)) == shots


def test_a_line_has_every_column_of_a_row_after_those_of_its_trial() -> None:
    """A new column of Sample belongs into `line_of`, too."""
    columns = list(Sample.__dataclass_fields__)
    shot = Shot(0, MEASURE, 0.0, 0.0, 1.0, NO_TIMINGS, 200, "")
    assert columns[columns.index("trial") + 1 :] == COLUMNS
    assert len(line_of(shot).split(",")) == len(COLUMNS)
