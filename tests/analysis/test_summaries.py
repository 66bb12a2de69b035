from __future__ import annotations

import math
from collections.abc import Callable

import made_up
import numpy as np
import pandas as pd
import pytest
from made_up import Point, requests_frame, sample, trial, trials_frame

from harness.analysis import summaries


def derived_of(world: made_up.World, *, blocks: int = 1) -> tuple[pd.DataFrame, pd.DataFrame]:
    requests, trials = made_up.run(world, blocks=blocks)
    return summaries.derive(requests, trials), trials


def latencies(good_ms: list[float], failures: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One trial with good requests of these latencies, and some requests with an immediate 503."""
    rows = [sample(seq=n, done_ms=ms) for n, ms in enumerate(good_ms)]
    rows += [sample(seq=1000 + n, done_ms=0.1, status=503, error="status 503") for n in range(failures)]
    trials = trials_frame([trial(requests=len(rows), measured=len(rows), failed=failures)])
    return summaries.derive(requests_frame(rows), trials), trials


# -- per request


def test_every_derived_column_is_computed_from_the_stamps() -> None:
    row = sample(
        due_ms=10.0,
        sent_ms=12.0,
        done_ms=40.0,
        queue_ms=3.0,
        model_ms=7.0,
        resume_ms=1.0,
        io_ms=10.0,
        handler_ms=22.0,
        batch_size=2,
    )
    trials = trials_frame([trial(concurrency=4, io_nominal_ms=9.0, window_start_ms=5.0, window_end_ms=50.0)])
    (found,) = summaries.derive(requests_frame([row]), trials).to_dict("records")
    expected = {
        "concurrency": 4,
        "io_nominal_ms": 9.0,
        "window_start_ms": 5.0,
        "window_end_ms": 50.0,
        "trial_state": "ok",
        "ok": True,
        "route_model_ms": 11.0,
        "outside_ms": 6.0,
        "latency_ms": 30.0,
        "service_ms": 28.0,
        "dispatch_lag_ms": 2.0,
        "model_plus_io_share": 0.75,
        "model_share_ms": 3.5,
    }
    assert {name: found[name] for name in expected} == expected
    assert set(found) == set(expected) | set(requests_frame([row]).columns)


def test_the_pilot_and_requests_of_no_trial_are_left_out() -> None:
    rows = [sample(trial=1, block=0), sample(trial=2, block=1), sample(trial=3, block=1)]
    trials = trials_frame([trial(trial=1, block=0), trial(trial=2, block=1)])
    assert list(summaries.derive(requests_frame(rows), trials)["trial"]) == [2]


def test_warmups_are_kept_but_not_measured() -> None:
    derived, _ = derived_of({("inline", 2): Point(requests=3)})
    assert sorted(derived["phase"].unique()) == ["cooldown", "measure", "warmup"]
    assert len(summaries.measured(derived)) == 6


# -- percentiles and failures


def test_a_fast_failure_ranks_above_every_success() -> None:
    derived, trials = latencies([float(n) for n in range(1, 96)], failures=5)
    row = summaries.summarise(derived, trials).iloc[0]
    assert row["latency_p50_ms"] == 50.5
    assert row["latency_p90_ms"] == pytest.approx(90.1)
    assert row["latency_p95_ms"] == math.inf
    assert row["latency_mean_ms"] == 48.0
    assert row["service_p95_ms"] == pytest.approx(90.3)
    assert (row["requests"], row["failed"]) == (100, 5)


@pytest.mark.parametrize(
    ("requests", "shown"), [(63, set()), (64, {"p5", "p90", "p95"}), (662, {"p5", "p90", "p95", "p99"})]
)
def test_no_percentile_is_shown_below_its_floor(requests: int, shown: set[str]) -> None:
    derived, trials = latencies([10.0] * requests, failures=0)
    row = summaries.summarise(derived, trials).iloc[0]
    assert {p for p in ("p5", "p90", "p95", "p99") if not math.isnan(row[f"io_{p}_ms"])} == shown
    assert row["io_p50_ms"] == 5.0


# -- per arm and load


def test_the_summary_keeps_the_order_of_the_plan() -> None:
    world = {("thread", 8): Point(), ("thread", 1): Point(), ("inline", 1): Point()}
    table = summaries.summarise(*derived_of(world, blocks=2))
    assert list(zip(table["arm"], table["concurrency"], strict=True)) == [
        ("thread", 1),
        ("thread", 8),
        ("inline", 1),
    ]
    assert set(table["blocks"]) == {2}


def test_the_summary_has_a_mean_and_percentiles_of_every_metric() -> None:
    table = summaries.summarise(*derived_of({("thread", 8): Point(queue_ms=40.0, resume_ms=2.0, requests=8)}))
    row = table.iloc[0]
    assert list(table.columns[:8]) == [
        *summaries.CELL_COLUMNS,
        "blocks",
        "failed_trials",
        "requests",
        "failed",
    ]
    for name, value in {
        "queue": 40.0,
        "model": 6.0,
        "resume": 2.0,
        "route_model": 48.0,
        "handler": 53.0,
    }.items():
        for stat in ("mean", "p5", "p50", "p95"):
            assert row[f"{name}_{stat}_ms"] == pytest.approx(value)


def test_throughput_of_a_closed_loop_is_users_over_mean_latency_times_the_good_share() -> None:
    """The users are always in a request; the last user got no good answer."""
    rows = [
        sample(seq=0, phase="warmup", done_ms=500.0),
        *(
            sample(
                seq=turn, due_ms=500.0 + 200 * turn, done_ms=700.0 + 200 * turn, error="" if turn else "503"
            )
            for turn in range(4)
        ),
    ]
    trials = trials_frame([trial(concurrency=1, window_start_ms=500.0, window_end_ms=1300.0)])
    derived = summaries.derive(requests_frame(rows), trials)
    assert summaries.throughput(derived).loc[1] == pytest.approx(1 / 0.2 * 3 / 4)
    assert summaries.throughput(derived, good_only=False).loc[1] == pytest.approx(1 / 0.2)


def closed_loop(
    *, users: int, window_ms: float, next_one: Callable[[np.random.Generator], tuple[float, float, str]]
) -> pd.DataFrame:
    """A closed loop as the load generator makes it; `next_one` gives latency, pause after it, and error."""
    rng = np.random.default_rng(1)
    rows = []
    for user in range(users):
        due = 0.7 * user
        while due < 100.0 + window_ms:
            latency, pause, error = next_one(rng)
            phase = "warmup" if due < 100.0 else "measure"
            rows.append(sample(phase=phase, due_ms=due, sent_ms=due, done_ms=due + latency, error=error))
            due += latency + pause
    window = {"window_start_ms": 100.0, "window_end_ms": 100.0 + window_ms}
    trials = trials_frame([trial(concurrency=users, **window)])
    return summaries.derive(requests_frame(rows), trials)


PAUSE_MS = 50.0  # after a request without an answer


@pytest.mark.parametrize(
    "next_one",
    [
        pytest.param(
            lambda rng: (6.0, PAUSE_MS, "drop") if rng.random() < 0.3 else (6.0 * rng.gamma(4) / 4, 0.0, ""),
            id="drops",
        ),
        pytest.param(
            lambda rng: (
                (200.0, PAUSE_MS, "timeout") if rng.random() < 0.02 else (5.0 + rng.random(), 0.0, "")
            ),
            id="time-outs",
        ),
        pytest.param(
            lambda rng: (0.4, PAUSE_MS, "refused") if rng.random() < 0.1 else (6.0, 0.0, ""), id="refusals"
        ),
        pytest.param(lambda rng: (6.0, 20.0 * rng.random(), ""), id="think time"),
        pytest.param(
            lambda rng: (0.5, 0.0, "503") if rng.random() < 0.5 else (6.0, 0.0, ""), id="fast errors"
        ),
    ],
)
def test_throughput_of_a_closed_loop_equals_counting_answers_in_a_long_window(
    next_one: Callable[[np.random.Generator], tuple[float, float, str]],
) -> None:
    derived = closed_loop(users=4, window_ms=30_000.0, next_one=next_one)
    inside = derived["done_ms"].between(100.0, 30_100.0, inclusive="right")
    good = int((inside & derived["ok"]).sum()) / 30.0
    assert summaries.throughput(derived).loc[1] == pytest.approx(good, rel=0.02)
    assert summaries.throughput(derived, good_only=False).loc[1] == pytest.approx(
        int(inside.sum()) / 30.0, rel=0.02
    )


def test_throughput_of_an_open_loop_counts_good_answers_of_any_phase_in_the_window() -> None:
    open_loop = {"load": "poisson(15)"}
    rows = [
        sample(**open_loop, seq=0, phase="warmup", done_ms=99.0),
        sample(**open_loop, seq=1, phase="warmup", done_ms=100.0),
        sample(**open_loop, seq=2, done_ms=200.0),
        sample(**open_loop, seq=3, done_ms=250.0, error="status 503"),
        sample(**open_loop, seq=4, phase="cooldown", done_ms=299.0),
        sample(**open_loop, seq=5, done_ms=300.0),
    ]
    trials = trials_frame([trial(window_start_ms=100.0, window_end_ms=300.0)])
    assert summaries.throughput(summaries.derive(requests_frame(rows), trials)).loc[1] == 15.0


def test_an_arm_that_always_fails_has_a_row() -> None:
    derived, trials = derived_of({("inline", 1): Point(), ("thread", 1): Point(state="failed")})
    row = summaries.summarise(derived, trials).set_index("arm").loc[["thread"]].iloc[0]
    assert (row["blocks"], row["failed_trials"]) == (0, 1)
    assert math.isnan(row["throughput_per_s"])


# -- per block


def test_each_block_gives_one_figure() -> None:
    derived, _ = derived_of({("inline", 2): lambda block: Point(model_ms=10.0 * block)}, blocks=3)
    rows = summaries.cell(derived, "inline", 2)
    for stat in ("median", "mean"):
        assert summaries.per_block(rows, "model_ms", stat).to_dict() == {1: 10.0, 2: 20.0, 3: 30.0}


def test_throughput_is_a_metric_of_a_block() -> None:
    derived, _ = derived_of({("inline", 4): Point(model_ms=10.0, io_ms=5.0, outside_ms=5.0)})
    assert summaries.per_block(summaries.cell(derived, "inline", 4), summaries.THROUGHPUT).to_dict() == {
        1: pytest.approx(200.0)
    }


@pytest.mark.parametrize("lost", [Point(state="failed"), Point(requests=2, failed=2)])
def test_a_block_that_failed_is_absent(lost: Point) -> None:
    derived, _ = derived_of({("inline", 1): lambda block: lost if block == 2 else Point()}, blocks=3)
    for metric in (summaries.THROUGHPUT, "io_ms", summaries.LATENCY):
        assert list(summaries.per_block(summaries.cell(derived, "inline", 1), metric).index) == [1, 3]


def test_an_arm_that_was_not_run_has_no_blocks() -> None:
    derived, _ = derived_of({("inline", 1): Point()})
    assert summaries.per_block(summaries.cell(derived, "inline", 8), "io_ms").empty


def uneven() -> pd.DataFrame:
    """Random figures in three blocks, rows in no order, every tenth failed."""
    took = np.random.default_rng(5).gamma(2.0, 10.0, 210)
    rows = [
        sample(trial=1 + n % 3, block=1 + n % 3, seq=n, done_ms=ms, io_ms=ms / 2) for n, ms in enumerate(took)
    ]
    frame = requests_frame(rows).sample(frac=1, random_state=5, ignore_index=True)
    frame.loc[::10, "io_ms"], frame.loc[::10, "error"] = np.nan, "timeout"
    return summaries.derive(frame, trials_frame([trial(trial=block, block=block) for block in (1, 2, 3)]))


@pytest.mark.parametrize("stat", summaries.STATS)
@pytest.mark.parametrize("metric", ["io_ms", summaries.LATENCY])
def test_the_figure_of_a_block_is_the_statistic_of_its_rows(metric: str, stat: str) -> None:
    derived = uneven()
    plain = {
        block: summaries.statistic(derived[derived["block"] == block], metric, stat) for block in (1, 2, 3)
    }
    assert summaries.per_block(summaries.cell(derived, "inline", 1), metric, stat).to_dict() == plain


def test_texts_may_be_categories() -> None:
    requests, trials = made_up.run({("inline", 1): Point(), ("thread", 8): Point(failed=3)}, blocks=3)
    names = ["arm", "strategy", "load", "phase", "error"]
    texts, categories = (
        summaries.derive(r, trials) for r in (requests, requests.astype(dict.fromkeys(names, "category")))
    )
    pd.testing.assert_frame_equal(summaries.summarise(categories, trials), summaries.summarise(texts, trials))
    for metric in ("io_ms", summaries.LATENCY, summaries.THROUGHPUT):
        pd.testing.assert_series_equal(
            summaries.per_block(summaries.cell(categories, "thread", 8), metric),
            summaries.per_block(summaries.cell(texts, "thread", 8), metric),
        )
