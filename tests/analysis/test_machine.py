"""The sentences and figures on the machine: for a run, a block and an arm."""

import math
from typing import Any

import made_up
import pandas as pd
import pytest

from harness.analysis import machine, quietness
from harness.errors import HarnessError
from harness.wire.records import COOLDOWN, FAILED, MEASURE, PILOT_BLOCK, PING, WARMUP, Sample

RECORD = {"environment": {"usable_cores": 2, "cpu": "Z80"}}
QUIET = {"steal_share": 0.001, "foreign_cpu": 0.02, "pressure_share": 0.03, "client_lag_p99_ms": 1.4}


def trials(*given: dict[str, Any]) -> pd.DataFrame:
    """One trial for each argument, numbered from 1."""
    rows = [made_up.trial(**{"trial": number, **fields}) for number, fields in enumerate(given, 1)]
    return made_up.trials_frame(rows)


def requests(*rows: Sample) -> pd.DataFrame:
    return made_up.requests_frame(list(rows))


def say(*given: dict[str, Any], excluded: dict[int, str] | None = None) -> str:
    return quietness.sentence(trials(*given), RECORD, excluded or {})


# -- the sentence --------------------------------------------------------------------------------------


def test_one_line_rates_the_machine() -> None:
    line = say({**QUIET, "block": 1}, {**QUIET, "block": 2, "client_lag_p99_ms": 2.0})
    assert line == (
        "Machine: quiet – 2 cores (Z80), foreign CPU 0.02 cores, steal 0.1 %, pressure 3 %; "
        "p99 loop lag of the load generator 1.7 ms (worst trial 2.0 ms); 0 of 2 blocks excluded."
    )


@pytest.mark.parametrize(
    ("usable", "noisy"),
    [
        ({"steal_share": 0.01}, {"steal_share": 0.05}),
        ({"throttled_share": 0.01}, {"throttled_share": 0.05}),
        ({"foreign_cpu": 0.1}, {"foreign_cpu": 0.5}),
        ({"client_lag_p99_ms": 8.0}, {"client_lag_p99_ms": 15.0}),
    ],
)
def test_each_figure_alone_can_make_the_machine_usable_or_noisy(
    usable: dict[str, float], noisy: dict[str, float]
) -> None:
    assert say({**QUIET, **usable}).startswith("Machine: usable – ")
    assert say({**QUIET, **noisy}).startswith("Machine: noisy – ")


def test_throttling_is_shown_only_if_there_was_any() -> None:
    assert "pressure 3 %, throttled 4.0 %; " in say({**QUIET, "throttled_share": 0.04})
    assert "throttled" not in say({**QUIET, "throttled_share": 0.0})
    assert "throttled" not in say({**QUIET, "throttled_share": None})


def test_excluded_blocks_are_counted_named_and_judged() -> None:
    given = [{**QUIET, "block": block} for block in range(1, 9)]
    assert say(*given, excluded={7: "steal", 3: "steal"}).endswith("2 of 8 blocks excluded (3, 7).")
    assert say(*given, excluded={7: "steal"}).startswith("Machine: usable – ")
    assert say(*given, excluded=dict.fromkeys((1, 2, 3), "steal")).startswith("Machine: noisy – ")


def test_a_platform_without_readings_is_not_judged() -> None:
    assert say({"client_lag_p99_ms": None}) == "Machine: not judged – 2 cores (Z80); 0 of 1 blocks excluded."


def test_a_run_without_trials_or_environment_has_a_sentence() -> None:
    nothing = trials({}).iloc[:0]
    assert quietness.sentence(nothing, {}, {}) == (
        "Machine: not judged – ? cores (unknown CPU); 0 of 0 blocks excluded."
    )


def test_the_pilot_does_not_count_for_the_machine() -> None:
    assert say({**QUIET, "block": PILOT_BLOCK, "steal_share": 0.9}, QUIET).startswith("Machine: quiet")


def test_long_windows_weigh_more_than_short_ones() -> None:
    long = {**QUIET, "window_end_ms": 9000.0, "foreign_cpu": 0.0}
    assert "foreign CPU 0.10 cores" in say(long, {**QUIET, "foreign_cpu": 1.0})


# -- blocks --------------------------------------------------------------------------------------------


def excluded(frame: pd.DataFrame, rows: pd.DataFrame | None = None, **criteria: float) -> dict[int, str]:
    return machine.excluded_blocks(frame, requests() if rows is None else rows, criteria)


@pytest.mark.parametrize("name", ["steal_share", "foreign_cpu"])
def test_a_block_is_excluded_as_a_whole_by_the_weighted_mean_of_its_trials(name: str) -> None:
    frame = trials(
        {"block": 1, name: 0.1, "window_end_ms": 9000.0},
        {"block": 1, name: 0.9, "window_end_ms": 1000.0},  # mean 0.18
        {"block": 2, name: 0.3},
        {"block": 2, name: 0.1},
    )
    assert excluded(frame, None, **{name: 0.19}) == {2: f"{name} 0.2 (at most 0.19)"}
    assert excluded(frame, None, **{name: 0.17}).keys() == {1, 2}
    assert excluded(frame, None, **{name: 0.2}) == {}


def test_without_criteria_no_block_is_excluded() -> None:
    assert excluded(trials({"steal_share": 1.0, "foreign_cpu": 99.0})) == {}


def test_the_pilot_is_never_judged_nor_a_block_without_readings() -> None:
    frame = trials({"block": PILOT_BLOCK, "steal_share": 1.0}, {"block": 1, "steal_share": None})
    assert excluded(frame, steal_share=0.01, foreign_cpu=0.01, dispatch_lag_p99_ms=1.0) == {}


def test_a_failed_trial_without_a_window_has_no_weight() -> None:
    frame = trials({"steal_share": 0.5, "window_end_ms": 0.0})
    assert excluded(frame, steal_share=0.1) == {}


def late(count: int, of: int, **fields: Any) -> list[Sample]:
    """`of` requests, the last `count` of them sent 50 ms late."""
    return [
        made_up.sample(seq=seq, due_ms=0.0, sent_ms=50.0 if seq >= of - count else 0.1, **fields)
        for seq in range(of)
    ]


def test_dispatch_lag_excludes_a_block_of_open_load_only() -> None:
    open_loop = {"concurrency": None, "rate_per_s": 50.0, "load": "poisson(50)"}
    frame = trials({**open_loop, "block": 1}, {"block": 2}, {**open_loop, "block": 3})
    rows = requests(
        *late(5, 100, trial=1, block=1), *late(5, 100, trial=2, block=2), *late(0, 100, trial=3, block=3)
    )
    found = excluded(frame, rows, dispatch_lag_p99_ms=10.0)
    assert found == {1: "dispatch_lag_p99_ms 50 (at most 10)"}
    warm = requests(*late(5, 100, trial=1, block=1, phase=WARMUP))
    assert excluded(frame, warm, dispatch_lag_p99_ms=10.0) == {}


def test_a_server_that_reaches_the_cap_does_not_exclude_the_block() -> None:
    """Its requests were sent late because it answered late, which is a result and not noise."""
    frame = trials({"concurrency": None, "rate_per_s": 50.0, "capped": 5})
    assert excluded(frame, requests(*late(5, 100)), dispatch_lag_p99_ms=10.0) == {}


def test_every_reason_is_given() -> None:
    found = excluded(trials({"steal_share": 0.5, "foreign_cpu": 1.0}), steal_share=0.1, foreign_cpu=0.2)
    assert found == {1: "steal_share 0.5 (at most 0.1); foreign_cpu 1 (at most 0.2)"}


def test_an_unknown_criterion_is_refused() -> None:
    with pytest.raises(HarnessError, match="by unknown criteria: steel_share"):
        excluded(trials({}), steel_share=0.1)


# -- arms ----------------------------------------------------------------------------------------------


def shots(trial: int, count: int, phase: str = MEASURE, **fields: Any) -> list[Sample]:
    return [made_up.sample(trial=trial, seq=seq, phase=phase, **fields) for seq in range(count)]


def one_cost(frame: pd.DataFrame, rows: list[Sample], record: Any = None) -> pd.Series:
    table = machine.costs(frame, requests(*rows), record)
    assert list(table.columns) == machine.COST_COLUMNS
    assert len(table) == 1
    return table.iloc[0]


def test_a_request_costs_the_cpu_of_the_trials_over_all_their_requests_but_pings() -> None:
    frame = trials(
        {"server_cpu_ms": 100.0, "client_cpu_ms": 30.0}, {"server_cpu_ms": 300.0, "client_cpu_ms": 30.0}
    )
    rows = [*shots(1, 2, WARMUP), *shots(1, 7), *shots(1, 1, COOLDOWN), *shots(2, 10), *shots(2, 50, PING)]
    cost = one_cost(frame, rows)
    assert cost["cpu_ms_per_request"] == 20.0
    assert cost["client_cpu_ms_per_request"] == 3.0


def test_requests_of_a_trial_without_cpu_reading_do_not_count() -> None:
    cost = one_cost(trials({"server_cpu_ms": 100.0}, {"server_cpu_ms": None}), [*shots(1, 10), *shots(2, 90)])
    assert cost["cpu_ms_per_request"] == 10.0


def test_the_pilot_and_trials_that_are_not_ok_cost_nothing() -> None:
    frame = trials(
        {"server_cpu_ms": 100.0},
        {"server_cpu_ms": 9e9, "state": FAILED},
        {"server_cpu_ms": 9e9, "block": PILOT_BLOCK},
    )
    cost = one_cost(frame, [*shots(1, 10), *shots(2, 1), *shots(3, 1), *shots(2, 100, PING, done_ms=9e9)])
    assert cost["cpu_ms_per_request"] == 10.0
    assert math.isnan(cost["ping_p50_ms"])


def test_the_lag_of_an_arm_is_the_median_of_its_trials_and_the_worst_of_all() -> None:
    lags = [(1.0, 2.0), (3.0, 200.0), (7.0, 9.0)]
    cost = one_cost(
        trials(*({"server_lag_p99_ms": p99, "server_lag_max_ms": most} for p99, most in lags)), shots(1, 1)
    )
    assert (cost["server_lag_p99_ms"], cost["server_lag_max_ms"]) == (3.0, 200.0)


def test_columns_without_any_reading_become_nan() -> None:
    cost = one_cost(trials({"client_lag_p99_ms": None}), shots(1, 3))
    empty = set(machine.COST_COLUMNS) - {"arm", "load", "client_cpu_ms_per_request"}
    assert {name for name in machine.COST_COLUMNS if pd.isna(cost[name])} == empty


def pings(count: int, failed: int = 0) -> list[Sample]:
    good = shots(1, count - failed, PING, due_ms=1.0, sent_ms=5.0, done_ms=11.0)
    return good + shots(1, failed, PING, due_ms=1.0, sent_ms=1.0, done_ms=2.0, error="HTTP 503", status=503)


@pytest.mark.parametrize(
    ("count", "shown"), [(1, [50]), (63, [50]), (64, [50, 90]), (661, [50, 90]), (662, [50, 90, 99])]
)
def test_pings_are_timed_from_when_they_were_due_and_have_percentiles_when_there_are_enough(
    count: int, shown: list[int]
) -> None:
    cost = one_cost(trials({}), [*shots(1, 1), *pings(count)])
    assert {p: cost[f"ping_p{p}_ms"] for p in shown} == dict.fromkeys(shown, 10.0)
    assert all(math.isnan(cost[f"ping_p{p}_ms"]) for p in {50, 90, 99} - set(shown))


def test_a_failed_ping_ranks_above_every_answer() -> None:
    cost = one_cost(trials({}), pings(100, failed=20))
    assert (cost["ping_p50_ms"], cost["ping_p90_ms"]) == (10.0, math.inf)


def test_memory_comes_from_the_record_when_there_is_one() -> None:
    record = {"arms": {"inline": {"uss_bytes": 250_000_000}}}
    assert one_cost(trials({}), shots(1, 1), record)["memory_uss_mb"] == 250.0
    assert math.isnan(one_cost(trials({}), shots(1, 1), {"arms": {"inline": {}}})["memory_uss_mb"])


def test_arms_and_loads_are_in_order_of_appearance() -> None:
    frame = trials(
        {"arm": "thread", "load": "closed(8)"},
        {"arm": "inline", "load": "closed(8)"},
        {"arm": "thread", "load": "closed(1)"},
    )
    table = machine.costs(frame, requests())
    assert list(table["arm"] + " " + table["load"]) == [
        "thread closed(8)",
        "inline closed(8)",
        "thread closed(1)",
    ]


def test_an_arm_that_uses_cpu_while_idle_is_named() -> None:
    idle = {"spins": {"cpu_ms": 50.0, "wall_ms": 1000.0}, "rests": {"cpu_ms": 9.0, "wall_ms": 1000.0}}
    (warning,) = machine.busy_idle_arms({"idle": {**idle, "new": {"cpu_ms": 0.0, "wall_ms": 0.0}}})
    assert "'spins' used 5.0% of a core" in warning
    assert machine.busy_idle_arms({}) == []


# -- the client ----------------------------------------------------------------------------------------


def test_a_cell_is_invalid_when_its_client_is_late_by_more_than_10_ms() -> None:
    assert machine.late_cell_reason(requests(*late(0, 200))) == ""
    assert machine.late_cell_reason(requests(*late(1, 200))) == ""
    assert machine.late_cell_reason(requests(*late(5, 200))) == (
        "the load generator sent 1 % of the requests 50.0 ms late or more (at most 10.0 ms)"
    )


def test_a_cell_is_invalid_only_beyond_5_percent_of_a_high_latency() -> None:
    assert machine.late_cell_reason(requests(*late(5, 200, done_ms=1001.0))) == ""
    assert "at most 49.9" in machine.late_cell_reason(requests(*late(5, 200, done_ms=998.0)))


def test_warm_up_is_not_judged_and_failures_do_not_excuse_the_client() -> None:
    assert machine.late_cell_reason(requests(*late(5, 200, phase=WARMUP))) == ""
    assert machine.late_cell_reason(requests(*late(5, 200, error="timeout", done_ms=30_000.0))) != ""
    assert machine.late_cell_reason(requests()) == ""


# -- where the load generator is the limit -------------------------------------------------------------


def limited(
    *,
    busy_ms: float = 100.0,
    sent: int = 100,
    limit_per_s: float | None = None,
    generators: int = 1,
    **fields: Any,
) -> str:
    """Why the client limits one arm whose trials take one second each."""
    about = {"client_cpu_ms": busy_ms, "arm": "inline", "load": "closed(1)", "requests": sent, **fields}
    frame = trials(*({**about, "block": block} for block in (1, 2, 3)))
    rows = [
        made_up.sample(trial=trial, seq=seq, done_ms=1000.0 * (seq + 1) / sent, generator=seq % generators)
        for trial in (1, 2, 3)
        for seq in range(sent)
    ]
    record = {} if limit_per_s is None else {"self_check": {"requests_per_s": limit_per_s}}
    found = machine.limited_by_client(frame, requests(*rows), record)
    assert set(found) <= {("inline", "closed(1)")}
    return found.get(("inline", "closed(1)"), "")


def test_more_than_half_of_what_the_client_can_send_is_its_limit() -> None:
    assert limited(limit_per_s=210.0) == ""
    assert limited(limit_per_s=190.0) == (
        "the load generator sent 100 of the 190 requests/s that it can send"
    )


def test_without_a_roofline_a_core_more_than_half_busy_is_the_clients_limit() -> None:
    """As in `execbench load`, which makes no self-check."""
    assert limited(busy_ms=490.0) == ""
    assert limited(busy_ms=990.0) == "the load generator kept 99 % of its core busy"


def test_several_generators_have_a_core_each() -> None:
    assert limited(busy_ms=990.0, generators=2) == ""
    assert limited(busy_ms=1980.0, generators=2) == "the load generator kept 99 % of its core busy"


def test_a_late_loop_is_the_clients_limit_where_requests_are_short() -> None:
    """Eight users with 200 requests a second: 40 ms each."""
    users = {"concurrency": 8, "measured": 200}
    assert limited(client_lag_p99_ms=21.0, **users) == (
        "the load generator was late by 21.0 ms (p99 of its loop lag) where a request took 40.0 ms"
    )
    assert limited(client_lag_p99_ms=19.0, **users) == ""
    assert limited(client_lag_p99_ms=9.0, concurrency=1, measured=200) == ""  # of 5 ms, but not late at all
    assert limited(client_lag_p99_ms=21.0, concurrency=None, measured=200) == ""  # seen as dispatch lag
    assert limited(client_lag_p99_ms=None, **users) == ""


def test_at_its_cap_an_open_loop_is_judged_by_its_own_lag_and_not_by_what_the_server_delayed() -> None:
    """At most 100 in flight at 200 requests a second: 500 ms each, of which 5 % may be the client's."""
    opened: dict[str, Any] = {"concurrency": None, "in_flight_max": 100, "measured": 200}
    assert limited(client_lag_p99_ms=26.0, capped=7, **opened).startswith(
        "the load generator was late by 26.0"
    )
    assert limited(client_lag_p99_ms=24.0, capped=7, **opened) == ""
    assert limited(client_lag_p99_ms=26.0, capped=0, **opened) == ""


def test_the_way_out_is_less_load_or_another_machine_and_a_transport_that_costs_less() -> None:
    rest = "send fewer requests a second, or send them from a faster or idle machine."
    assert machine.beyond_the_client({"load": {"transport": "aiohttp"}}) == f"To measure the server, {rest}"
    assert machine.beyond_the_client({"plan": {"transport": "httpx"}}) == (
        f"To measure the server, use --transport aiohttp, {rest}"
    )


def test_of_several_checks_the_lowest_limit_counts() -> None:
    checks = [{"requests_per_s": 400.0}, {"requests_per_s": 190.0}]
    assert machine.client_limit_per_s({"self_check": checks}) == 190.0
    assert math.isnan(machine.client_limit_per_s({}))


def test_the_short_form_has_the_word_and_the_blocks_without_the_readings() -> None:
    given = {**QUIET, "steal_share": 0.2}
    assert quietness.in_short(trials(given), RECORD, {}) == (
        "Machine: noisy – 2 cores (Z80), 0 of 1 blocks excluded."
    )
