"""A long run is read column by column and part by part, with the same figures as a frame of all its rows."""

import io
import math
from typing import Any

import made_up
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from made_reports import ranked, with_own_load
from made_up import Point

from harness.analysis import rows, summaries
from harness.analysis.percentiles import Pool
from harness.analysis.rows import Cells, Rows, in_parts, measured
from harness.report import report
from harness.wire.records import PING

WORLD: made_up.World = {
    ("inline", 1): Point(io_ms=5.2, requests=12),
    ("inline", 8): lambda block: Point(io_ms=20.0 + block / 7, requests=9),
    ("thread", 8): lambda block: Point(queue_ms=20.0 + block / 3, requests=9, failed=block % 3),
    ("batch", 8): Point(requests=1, state="failed"),
}
TABLES = ("summary", "comparisons", "costs", "limits", "io", "checks", "published", "staircase", "ranking")


def tables(part_rows: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return all that a report says and draws of closed and open loads, read in parts of so many rows."""
    monkeypatch.setattr(rows, "PART_ROWS", part_rows)
    built = report.build(with_own_load(ranked(WORLD, blocks=3, claims="article"), "inline"))
    known = {name: getattr(built, name) for name in (*TABLES, "warnings", "notes")}
    return known | {name: drawn(built.chart(name)) for name in ("timeline", "split", "io")}


def drawn(figure: Any) -> str:
    with mpl.rc_context({"svg.hashsalt": "x"}):
        figure.savefig(page := io.StringIO(), format="svg", metadata={"Date": None})
    return page.getvalue()


@pytest.mark.integration  # drawing takes long
def test_parts_of_a_few_rows_give_the_same_report_to_the_last_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, in_parts_ = (tables(part_rows, monkeypatch) for part_rows in (100_000, 80))
    for name, expected in whole.items():
        if isinstance(expected, pd.DataFrame):
            pd.testing.assert_frame_equal(in_parts_[name], expected, check_exact=True)
        else:
            assert in_parts_[name] == expected, name


def with_pings(requests: pd.DataFrame) -> pd.DataFrame:
    pings = requests.iloc[::7].assign(phase=PING)
    return pd.concat([requests, pings]).sort_values("trial", kind="stable", ignore_index=True)


@pytest.mark.parametrize("stall", [False, True])
def test_rows_have_the_columns_that_derive_computes(stall: bool) -> None:
    requests, trials = made_up.run(WORLD, blocks=2)
    requests = with_pings(requests.assign(io_server_ms=2.5 if stall else np.nan))
    expected = summaries.derive(requests, trials)
    found = Rows.of(requests, trials)
    assert len(found) == len(expected)
    pd.testing.assert_frame_equal(
        found.frame(), expected, check_dtype=False, check_categorical=False, check_exact=True
    )
    assert ("io_stall_ms" in found) is stall
    for part in found.parts(["seq", "latency_ms"], most=5):
        assert len(part) <= 5  # some parts have only pings, which do not count
    together = pd.concat(found.parts(["seq", "latency_ms"], most=5), ignore_index=True)
    pd.testing.assert_frame_equal(together, expected[["seq", "latency_ms"]])


def test_cells_of_rows_are_those_of_a_frame() -> None:
    requests, trials = made_up.run(WORLD, blocks=2)
    frame, packed = summaries.derive(requests, trials), Rows.of(requests, trials)
    names = ["seq", "trial", "latency_ms", "ok"]
    for by in (("arm", "load"), ("trial",), ("arm", "concurrency")):
        of_frame, of_rows = Cells(frame, by), Cells(packed, by)
        assert list(of_rows) == list(of_frame)
        for key in of_frame:
            pd.testing.assert_frame_equal(of_rows.select(key, names), of_frame.select(key, names))
    assert Cells(packed).select(("nobody", "closed(1)"), names).empty


def test_requests_without_a_trial_and_those_of_the_pilot_are_left_out() -> None:
    requests, trials = made_up.run({("inline", 1): Point()}, blocks=3)
    trials = trials[trials["trial"] != 3].assign(block=[0, 1])
    assert set(Rows.of(requests, trials).frame()["trial"]) == {2}
    assert set(Rows.of(requests, trials, pilot=True).frame()["trial"]) == {1, 2}
    assert [len(part) for part in in_parts(measured(Rows.of(requests, trials)), ["seq"])] == [4]


@pytest.mark.parametrize("sizes", [(1, 1), (16, 16), (5, 0, 12), (40, 3, 77, 16)])
def test_a_percentile_of_weighted_blocks_is_that_of_the_repeated_values(sizes: tuple[int, ...]) -> None:
    random = np.random.default_rng(sum(sizes))
    blocks = [np.append(random.integers(0, 9, max(0, size - 1)) / 7, [np.inf] * (size > 0)) for size in sizes]
    weights = random.integers(0, 4, (50, len(sizes)))
    for percent in (0, 5, 50, 95, 99, 100):
        found = Pool(blocks).percentiles(percent, weights)
        for row, value in zip(weights, found, strict=True):
            pool = np.sort(
                np.concatenate([np.tile(block, times) for block, times in zip(blocks, row, strict=True)])
            )
            expected = np.nan if not len(pool) else _linear(pool, percent)
            assert value == expected or (np.isnan(value) and np.isnan(expected))


def _linear(ordered: Any, percent: float) -> float:
    place = (len(ordered) - 1) * percent / 100
    below, above = ordered[int(np.floor(place))], ordered[int(np.ceil(place))]
    return float(below if below == above else below + (above - below) * (place % 1))


# -- what is known of the model's time -----------------------------------------------------------------


def test_one_time_for_the_model_is_the_whole_stage_unless_a_worker_gave_it() -> None:
    """A worker on another host gives its own time; queue and way back cannot be known."""
    unknown: dict[str, Any] = {"queue_ms": None, "resume_ms": None}
    samples = [
        made_up.sample(),
        made_up.sample(arm="plain", worker_pid=None, **unknown),
        made_up.sample(arm="away", worker_pid=7, **unknown),
    ]
    frame = summaries.derive(made_up.requests_frame(samples), made_up.trials_frame([made_up.trial()]))
    whole = dict(zip(frame["arm"], frame["route_model_ms"], strict=True))
    assert (whole["inline"], whole["plain"]) == (6.0, 6.0)
    assert math.isnan(whole["away"])
    assert list(frame["model_ms"]) == [6.0, 6.0, 6.0]
    assert (summaries.unsplit_arms(frame), summaries.arms_elsewhere(frame)) == (["plain"], ["away"])
