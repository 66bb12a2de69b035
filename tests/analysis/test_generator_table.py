"""The table of load generators: a row for each, over all trials of a run."""

import pandas as pd
import pytest

from harness.analysis import generators
from harness.wire.records import Generator, header


def row(trial: int, generator: int, **changes: object) -> dict[str, object]:
    whole = dict.fromkeys(header(Generator), None)
    known = {"requests": 100, "measured": 80, "dispatch_lag_p50_ms": 0.5, "client_cpu_ms": 40.0}
    clock = {"offset_before_ms": 250.0, "offset_after_ms": 250.2, "bound_ms": 0.3, "host": "10.0.0.2"}
    return whole | {"trial": trial, "generator": generator, "error": ""} | known | clock | changes


def test_each_generator_has_its_requests_cost_and_clock() -> None:
    rows = pd.DataFrame(
        [row(1, 0), row(2, 0, offset_after_ms=249.9, bound_ms=0.4), row(1, 1, host="10.0.0.3")]
    )
    first, second = generators.table(rows).to_dict("records")
    assert (first["trials"], first["requests"], first["cpu_ms_per_request"]) == (2, 200, 0.4)
    assert first["drift_ms"] == pytest.approx(0.2)
    assert first["bound_ms"] == 0.4
    assert (second["generator"], second["host"], second["requests"]) == (1, "10.0.0.3", 100)


def test_a_generator_that_ended_is_counted_and_has_no_offset_afterwards() -> None:
    ended = row(2, 0, offset_after_ms=None, client_cpu_ms=None, error="it ended")
    (found,) = generators.table(pd.DataFrame([row(1, 0), ended])).to_dict("records")
    assert found["ended"] == 1
    assert found["drift_ms"] == pytest.approx(0.2)


def test_a_run_with_one_load_generator_has_no_table() -> None:
    assert generators.table(pd.DataFrame(columns=header(Generator))).empty
