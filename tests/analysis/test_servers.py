"""The start of the arms' servers, and their memory over the run."""

import made_up

from harness.analysis import servers


def test_the_time_to_ready_is_that_of_the_arms_whose_start_was_recorded() -> None:
    arms = {
        "inline": {"ready_s": 2.5},
        "node": {"ready_s": 1.0, "first_answer_s": 1.5},
        "older": {"uss_bytes": 1},
        "unknown": {"ready_s": None},
    }
    assert servers.ready_s({"arms": arms}) == {"inline": 2.5, "node": 1.5}
    assert servers.ready_s({}) == {}


def test_memory_over_time_has_each_trial_with_a_reading_in_order() -> None:
    readings = [(3, 30.0), (1, 10.0), (2, None)]
    rows = [made_up.trial(trial=number, server_rss_mb=size) for number, size in readings]
    found = servers.memory_over_time(made_up.trials_frame(rows))
    assert list(found.columns) == servers.MEMORY_COLUMNS
    assert list(found["trial"]) == [1, 3]
    assert list(found["server_rss_mb"]) == [10.0, 30.0]


def test_a_run_without_readings_has_no_memory_over_time() -> None:
    frame = made_up.trials_frame([made_up.trial(server_rss_mb=None)])
    assert servers.memory_over_time(frame).empty
