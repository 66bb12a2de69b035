"""Charts are checked by what they draw: positions, lengths and words are read back from the figure."""

from __future__ import annotations

import io
import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, PathPatch

from harness.report.charts import io_distribution, published, split, style, timeline

pytestmark = pytest.mark.integration  # drawing takes long

ON_SERVER = ["queue_ms", "model_ms", "resume_ms", "io_ms"]
SERVER_COLUMNS = [*ON_SERVER, "entered_ms", "handler_ms", "outside_ms"]
Chart = Callable[[pd.DataFrame], Figure]
CHARTS_OF_A_RUN: list[Chart] = [timeline.draw, split.draw, io_distribution.draw]


def requests_of(
    arm: str,
    concurrency: int,
    *,
    trial: int = 1,
    count: int = 40,
    phase: str = "measure",
    ok: bool = True,
    queue: float = 20.0,
    model: float = 8.0,
    io_ms: float = 5.0,
) -> pd.DataFrame:
    """Made-up rows of one trial; a request enters every 3 ms, and every duration varies a little."""
    rng = np.random.default_rng(trial)
    rows = pd.DataFrame({"seq": np.arange(count)})
    rows = rows.assign(
        arm=arm, strategy=arm, load=f"closed({concurrency})", block=1, trial=trial, phase=phase
    )
    rows["queue_ms"] = queue * rng.uniform(0.9, 1.1, count)
    rows["model_ms"] = model * rng.uniform(0.9, 1.1, count)
    rows["resume_ms"] = rng.uniform(0.5, 1.5, count)
    rows["io_ms"] = io_ms * rng.uniform(1.0, 1.3, count)
    rows["entered_ms"] = 1_000.0 + 3.0 * rows["seq"]
    rows["sent_ms"] = rows["entered_ms"] - 1.0
    rows["due_ms"] = rows["sent_ms"] - 0.2
    rows["handler_ms"] = rows[ON_SERVER].sum(axis=1)
    rows["done_ms"] = rows["entered_ms"] + rows["handler_ms"] + 0.5
    rows["service_ms"] = rows["done_ms"] - rows["sent_ms"]
    rows["latency_ms"] = rows["done_ms"] - rows["due_ms"]
    rows["outside_ms"] = rows["service_ms"] - rows["handler_ms"]
    rows["route_model_ms"] = rows[ON_SERVER[:3]].sum(axis=1)
    return rows.assign(concurrency=concurrency, io_nominal_ms=5.0, ok=ok, error="" if ok else "timeout")


def frame(*parts: pd.DataFrame) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True)


def without_timings(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(**dict.fromkeys(SERVER_COLUMNS, np.nan))


def two_arms() -> pd.DataFrame:
    return frame(
        requests_of("inline", 1, trial=1, queue=0.1),
        requests_of("thread", 1, trial=2, queue=0.5),
        requests_of("inline", 4, trial=3, queue=0.1, io_ms=30.0),
        requests_of("thread", 4, trial=4, queue=24.0),
    )


def many_requests() -> pd.DataFrame:
    """20,000 rows: eight arms under four loads."""
    return frame(
        *(
            requests_of(f"arm_number_{arm}", concurrency, trial=10 * concurrency + arm, count=625)
            for concurrency in (1, 8, 32, 64)
            for arm in range(8)
        )
    )


def published_tables() -> pd.DataFrame:
    measured = {"model_p5_ms": 7.0, "model_p50_ms": 8.0, "model_p95_ms": 9.0}
    measured |= {"io_p5_ms": 6.0, "io_p50_ms": 31.0, "io_p95_ms": 56.0}
    first: dict[str, Any] = {"table": "T2", "arm": "inline", "load_text": "eight at once", "concurrency": 8}
    first |= {"published_model_ms": [6.0, 5.0, 11.0], "published_io_ms": [47.0, 41.0, 35.0, 12.0]}
    other: dict[str, Any] = {"table": "T4", "arm": "process", "load_text": "concurrent", "concurrency": 8}
    other |= {"published_model_ms": [7.0, 8.0], "published_io_ms": [5.0, 4.0]}
    return pd.DataFrame([first | measured, other | dict.fromkeys(measured, np.nan)])


def panels(fig: Figure) -> list[Axes]:
    return [ax for ax in fig.axes if ax.get_visible()]


def words(fig: Figure) -> str:
    said = [text.get_text() for text in fig.texts]
    for ax in panels(fig):
        labels = [ax.xaxis.label, *ax.get_yticklabels(), *ax.get_xticklabels()]
        said += [text.get_text() for text in (*ax.texts, *labels)]
        said += [ax.get_title(loc) for loc in ("left", "center", "right")]
    return "\n".join(said)


def bars_of_burst(ax: Axes) -> dict[str, np.ndarray]:
    """Stretch's label → array of (begin, end) per request, from top to bottom."""
    drawn = {}
    for patch in ax.patches:
        assert isinstance(patch, PathPatch)
        x = np.asarray(patch.get_path().vertices)[:, 0].reshape(-1, 5)[:, :4]
        drawn[str(patch.get_label())] = np.stack([x.min(axis=1), x.max(axis=1)], axis=1)
    return drawn


def stack(fig: Figure, panel: int) -> dict[str, dict[str, float]]:
    """Arm → stretch's label → length of its bar."""
    ax = panels(fig)[panel]
    names = [label.get_text() for label in panels(fig)[0].get_yticklabels()]  # shared by all panels
    lengths: dict[str, dict[str, float]] = {name: {} for name in names}
    for bars in ax.containers:
        assert isinstance(bars, BarContainer)
        for bar in bars.patches:
            row = round(bar.get_y() + bar.get_height() / 2)
            lengths[names[row]][str(bars.get_label())] = bar.get_width()
    return lengths


def xs(line: Line2D) -> np.ndarray:
    return np.asarray(line.get_xdata())


def ys(line: Line2D) -> np.ndarray:
    return np.asarray(line.get_ydata())


def corners(patch: Patch) -> np.ndarray:
    return np.asarray(patch.get_path().vertices)


def marked(fig: Figure) -> list[float]:
    """Where the first panel has lines of two points."""
    return [xs(line)[0] for line in panels(fig)[0].lines if len(xs(line)) == 2]


def settings() -> dict[str, Any]:
    """matplotlib's settings but the backend: to read that one would load pyplot."""
    return {name: mpl.rcParams[name] for name in mpl.rcParams if name != "backend"}


def saved(fig: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    fig.savefig(buffer, format=kind)
    return buffer.getvalue()


# --- time-line ---


def test_segments_of_the_timeline_are_contiguous_and_add_up_to_the_time_on_the_server() -> None:
    derived = two_arms()
    for ax in panels(timeline.draw(derived)):
        bars = bars_of_burst(ax)
        queue, model, back, io_wait = (bars[label] for label in ("queue", "worker", "way back", "I/O"))
        for earlier, later in ((queue, model), (model, back), (back, io_wait)):
            np.testing.assert_allclose(earlier[:, 1], later[:, 0])
        rows = derived[(derived["arm"] == ax.get_title("left")) & (derived["concurrency"] == 4)]
        shown = io_wait[:, 1] - queue[:, 0]
        assert set(shown.round(6)) <= set(rows["handler_ms"].round(6))


def test_the_timeline_puts_each_segment_at_its_real_time_since_the_first_entry() -> None:
    rows = requests_of("thread", 4, count=8)
    bars = bars_of_burst(panels(timeline.draw(rows))[0])
    origin = rows["entered_ms"].iloc[0]
    np.testing.assert_allclose(bars["queue"][:, 0], rows["entered_ms"] - origin)
    np.testing.assert_allclose(bars["worker"][:, 0], rows["entered_ms"] + rows["queue_ms"] - origin)
    np.testing.assert_allclose(bars["I/O"][:, 1], rows["entered_ms"] + rows["handler_ms"] - origin)


def test_a_burst_is_2c_requests_of_the_highest_concurrency() -> None:
    fig = timeline.draw(two_arms())
    assert "closed loop, c = 4" in words(fig)
    assert [len(bars_of_burst(ax)["worker"]) for ax in panels(fig)] == [8, 8]


def test_a_burst_is_from_the_trial_nearest_the_arms_median_and_names_it() -> None:
    slow, usual, fast = (
        requests_of("thread", 4, trial=trial, queue=queue)
        for trial, queue in ((11, 90.0), (12, 30.0), (13, 2.0))
    )
    fig = timeline.draw(frame(slow, usual, fast))
    assert panels(fig)[0].get_title("right") == "trial 12"


def test_a_burst_begins_where_the_server_was_idle_if_it_was() -> None:
    rows = requests_of("inline", 4, count=40, queue=0.0, io_ms=30.0)
    later = rows["seq"] >= 17  # a pause in the server before the eighteenth request
    rows.loc[later, ["entered_ms", "sent_ms", "due_ms", "done_ms"]] += 500.0
    bars = bars_of_burst(panels(timeline.draw(rows))[0])
    assert bars["worker"].max() < 100
    drawn_model = bars["worker"][0, 1] - bars["worker"][0, 0]
    assert drawn_model == pytest.approx(rows.loc[17, "model_ms"])


def test_the_timeline_has_one_scale_for_all_arms() -> None:
    first, second = panels(timeline.draw(two_arms()))
    assert first.get_xlim() == second.get_xlim()


def test_an_arm_without_server_timings_is_one_bar_from_sent_to_answered() -> None:
    blind = without_timings(requests_of("foreign", 4, count=8))
    fig = timeline.draw(frame(requests_of("thread", 4), blind))
    bars = bars_of_burst(panels(fig)[1])
    assert list(bars) == [style.UNSPLIT.label]
    lengths = bars[style.UNSPLIT.label][:, 1] - bars[style.UNSPLIT.label][:, 0]
    np.testing.assert_allclose(lengths, blind["service_ms"])


# --- split ---


def test_stacked_lengths_are_the_means_that_pandas_computes_and_the_total_is_written() -> None:
    derived = two_arms()
    fig = split.draw(derived)
    for panel, concurrency in enumerate((1, 4)):
        rows = derived[derived["concurrency"] == concurrency]
        for arm, drawn in stack(fig, panel).items():
            means = rows[rows["arm"] == arm].mean(numeric_only=True)
            for part in style.STRETCHES:
                assert drawn[part.label] == pytest.approx(means[part.column])
            assert sum(drawn.values()) == pytest.approx(means["service_ms"])
            assert f"{means['service_ms']:.1f}" in words(fig)


def test_the_split_states_that_it_stacks_means() -> None:
    assert "parts add up to a mean and not to a median" in words(split.draw(two_arms()))


def test_an_arm_without_server_timings_stacks_nothing_and_shows_its_whole() -> None:
    blind = without_timings(requests_of("foreign", 4))
    fig = split.draw(frame(requests_of("thread", 4), blind))
    assert stack(fig, 0)["foreign"] == {style.UNSPLIT.label: pytest.approx(blind["service_ms"].mean())}


def test_an_arm_that_did_not_run_under_a_load_is_labelled_and_not_drawn_as_zero() -> None:
    fig = split.draw(frame(requests_of("inline", 1), requests_of("thread", 1), requests_of("thread", 8)))
    assert stack(fig, 1)["inline"] == {}
    assert "not measured" in words(fig)


# --- I/O distribution ---


def test_the_io_distribution_marks_each_arms_own_median_at_concurrency_one() -> None:
    derived = two_arms()
    fig = io_distribution.draw(derived)
    alone = derived[(derived["arm"] == "inline") & (derived["concurrency"] == 1)]
    assert any(x == pytest.approx(alone["io_ms"].median()) for x in marked(fig))
    assert "own median at c = 1" in words(fig)


def test_without_concurrency_1_nominal_is_the_configured_io() -> None:
    fig = io_distribution.draw(requests_of("thread", 8))
    assert 5.0 in marked(fig)
    assert "Nominal: the I/O that was asked for." in words(fig)


def test_an_unknown_nominal_io_is_not_drawn() -> None:
    fig = io_distribution.draw(requests_of("thread", 8).assign(io_nominal_ms=math.nan))
    assert 5.0 not in marked(fig)
    assert "Nominal: unknown, because c = 1 was not run." in words(fig)


@pytest.mark.parametrize(("count", "is_shown"), [(63, False), (64, True)])
def test_a_p95_is_shown_only_from_64_requests_on(count: int, is_shown: bool) -> None:
    assert ("p95" in words(io_distribution.draw(requests_of("thread", 8, count=count)))) is is_shown


def test_an_arm_without_server_timings_keeps_its_row_in_the_io_distribution() -> None:
    blind = without_timings(requests_of("foreign", 4))
    fig = io_distribution.draw(frame(requests_of("thread", 4), blind))
    assert "foreign" in words(fig)
    assert "no server timings" in words(fig)


# --- published ---


def test_published_points_are_in_their_order_next_to_our_median() -> None:
    model, io_task = panels(published.draw(published_tables()))
    assert (model.get_title("left"), io_task.get_title("left")) == ("Model", "io task")
    points, bar, median = io_task.lines[:3]
    assert list(ys(points)) == [47.0, 41.0, 35.0, 12.0]
    assert (np.diff(xs(points)) > 0).all()
    assert (list(ys(bar)), list(ys(median))) == ([6.0, 56.0], [31.0])
    assert xs(points)[-1] < xs(median)[0]


def test_a_table_that_was_not_measured_is_marked() -> None:
    assert words(published.draw(published_tables())).count("not\nmeasured") == 2


# --- all of them ---


@pytest.mark.parametrize("chart", CHARTS_OF_A_RUN)
def test_failed_and_warm_up_rows_change_nothing_but_the_count_of_failures(chart: Chart) -> None:
    spoilt = frame(
        two_arms(),
        requests_of("thread", 4, trial=4, ok=False, model=900.0, io_ms=900.0, count=3),
        requests_of("thread", 4, trial=4, phase="warmup", model=900.0, io_ms=900.0),
        requests_of("thread", 64, trial=5, phase="cooldown"),
    )
    clean, dirty = chart(two_arms()), chart(spoilt)
    assert words(dirty) == words(clean).replace("; 0 failed requests", "; 3 failed requests")
    for one, other in zip(panels(clean), panels(dirty), strict=True):
        assert one.get_xlim() == other.get_xlim()
        for patch, same in zip(one.patches, other.patches, strict=True):
            np.testing.assert_allclose(
                np.asarray(patch.get_path().vertices), np.asarray(same.get_path().vertices)
            )
            np.testing.assert_allclose(patch.get_extents().bounds, same.get_extents().bounds)


@pytest.mark.parametrize("chart", CHARTS_OF_A_RUN)
def test_arms_are_in_the_order_of_their_categories_if_there_is_one(chart: Chart) -> None:
    derived = two_arms()
    derived["arm"] = pd.Categorical(derived["arm"], ["process", "thread", "inline"])
    said = words(chart(derived))
    assert said.index("thread") < said.index("inline")
    assert "process" not in said


@pytest.mark.parametrize("chart", CHARTS_OF_A_RUN)
@pytest.mark.parametrize(
    "derived",
    [pd.DataFrame(), two_arms().iloc[:0], two_arms().assign(ok=False), two_arms().assign(phase="warmup")],
    ids=["nothing at all", "no rows", "only failures", "only warm-up"],
)
def test_without_anything_to_draw_a_sentence_gives_the_reason(chart: Chart, derived: pd.DataFrame) -> None:
    fig = chart(derived)
    assert panels(fig) == []
    assert words(fig).startswith("No ")
    assert "answer" in words(fig)


def test_no_published_table_is_a_sentence_too() -> None:
    assert "No published figures" in words(published.draw(pd.DataFrame()))


@pytest.mark.parametrize("chart", CHARTS_OF_A_RUN)
def test_a_run_of_servers_without_any_timings_can_be_drawn(chart: Chart) -> None:
    assert saved(chart(without_timings(two_arms())), "png")


@pytest.mark.parametrize("chart", CHARTS_OF_A_RUN)
def test_one_arm_at_concurrency_one_can_be_drawn(chart: Chart) -> None:
    assert saved(chart(requests_of("inline", 1, count=2)), "png")


@pytest.mark.parametrize("chart", CHARTS_OF_A_RUN)
def test_an_open_loop_is_named_by_its_law(chart: Chart) -> None:
    fig = chart(requests_of("thread", 0).assign(load="poisson(40/s)"))
    assert "poisson(40/s)" in words(fig)


@pytest.mark.integration  # takes long
@pytest.mark.parametrize("chart", CHARTS_OF_A_RUN)
def test_eight_arms_and_20_000_requests_make_a_png_and_an_svg_below_300_kb(chart: Chart) -> None:
    fig = chart(many_requests())
    assert saved(fig, "png").startswith(b"\x89PNG")
    svg = saved(fig, "svg")
    assert b"<svg" in svg
    assert len(svg) < 300_000


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_published_tables_can_be_saved(kind: str) -> None:
    assert saved(published.draw(published_tables()), kind)


def test_stretches_differ_in_lightness_so_that_they_survive_grey_printing() -> None:
    red_green_blue = [[int(part.colour[i : i + 2], 16) for i in (1, 3, 5)] for part in style.STRETCHES]
    grey = np.sort(np.array(red_green_blue) @ [0.299, 0.587, 0.114])
    assert np.diff(grey).min() > 15


def test_neither_the_frame_nor_global_settings_are_changed() -> None:
    derived, before = two_arms(), settings()
    copy = derived.copy(deep=True)
    for chart in CHARTS_OF_A_RUN:
        chart(derived)
    pd.testing.assert_frame_equal(derived, copy)
    assert settings() == before


@pytest.mark.integration
def test_pyplot_is_never_loaded() -> None:
    script = (
        "import sys, io, pandas; from harness.report.charts import timeline; "
        "timeline.draw(pandas.DataFrame()).savefig(io.BytesIO(), format='svg'); "
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
