"""The ranking: arms in order of what they answer, with the reason, the price, and one honest sentence."""

from __future__ import annotations

import functools
import io
import json
from pathlib import Path

import made_up
import pandas as pd
import pytest
from made_reports import ARM, DIES, closed, open_trial, opened, ranked, run_of, with_limits, with_own_load
from made_up import Point
from rich.console import Console, RenderableType

from harness.commands.ranking_tables import ranked as ranked_as_table
from harness.report import export, ranking, report
from harness.results import store

pytestmark = pytest.mark.integration  # a whole report each: it takes long

WORLD: made_up.World = {
    ("thread", 1): Point(model_ms=10.0),
    ("thread", 8): Point(model_ms=10.0, queue_ms=70.0),
    ("batch", 1): Point(model_ms=10.0),
    ("batch", 8): Point(model_ms=18.0, outside_ms=4.0),
    ("process", 1): Point(model_ms=12.0),
    ("process", 8): Point(model_ms=12.0, queue_ms=84.0),
}


def built(run: store.Run) -> report.Report:
    return report.build(run)


@functools.cache
def usual() -> report.Report:
    return built(ranked(WORLD))


def table(run: store.Run | None = None) -> pd.DataFrame:
    found = (built(run) if run else usual()).ranking
    assert found is not None
    return found.set_index("arm")


# -- the order


def test_arms_stand_in_order_of_what_they_answer_at_the_most_users_with_interval_and_verdict() -> None:
    found = table()
    assert list(found.index) == ["batch", "thread", "process"]
    assert list(found["rank"]) == [1, 2, 3]
    assert set(found["load"]) == {"closed(8)"}
    assert list(found["verdict"]) == ["faster", "reference", "slower"]
    assert found.loc["batch", "ratio"] == pytest.approx(86 / 27)
    assert found["low"].loc["batch"] <= found["ratio"].loc["batch"] <= found["high"].loc["batch"]


def test_each_arm_has_a_lone_users_latency_and_its_ratio_to_the_references() -> None:
    found = table()
    assert set(found["lone_load"]) == {"closed(1)"}
    assert found.loc["process", "lone_latency_ms"] == 18.0
    assert found.loc["process", "lone_ratio"] == pytest.approx(18 / 16)


def test_each_arm_has_its_latency_at_the_highest_own_load() -> None:
    found = table(with_own_load(with_own_load(ranked(WORLD), "thread"), "thread", 0.5))
    assert set(found["own_load"]) == {"own(0.8)"}
    assert found.loc["thread", "own_latency_p50_ms"] == pytest.approx(10.0)
    assert pd.isna(found["own_latency_p50_ms"].loc["batch"])


def test_without_an_own_load_there_is_no_figure_for_it() -> None:
    assert set(table()["own_load"]) == {""}


def test_a_figure_under_an_invalid_load_is_not_printed_but_the_word() -> None:
    """Requests that the client sent late say little about the arm; its other figures remain valid."""
    run = with_own_load(with_own_load(ranked(WORLD), "thread"), "batch")
    late = (run.requests["arm"] == "batch") & (run.requests["load"] == "own(0.8)")
    run.requests.loc[late, "due_ms"] = run.requests.loc[late, "sent_ms"] - 40.0
    report_of_it = built(run)
    found = report_of_it.ranking.set_index("arm")
    assert dict(found["invalid"]) == {"batch": "own(0.8)", "thread": "", "process": ""}
    lines = {line.split()[1]: line for line in printed(ranked_as_table(report_of_it.ranking)) if "(" in line}
    assert lines["batch"].endswith(" invalid")
    assert "296.3" in lines["batch"]
    assert lines["thread"].endswith(" 10.0")
    assert all("invalid" not in lines[arm] for arm in ("thread", "process"))


def printed(part: RenderableType) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    with console.capture() as captured:
        console.print(part)
    return [line.rstrip() for line in captured.get().splitlines()]


def test_an_arm_that_lost_trials_is_ranked_last_with_that_reason() -> None:
    dying = {**WORLD, ("batch", 8): lambda block: Point(state="ok" if block < 7 else "failed")}
    found = table(ranked(dying))
    assert list(found.index) == ["thread", "process", "batch"]
    assert found["because"].loc["batch"].endswith("; 6 of its trials do not count")


def test_the_twin_and_arms_that_do_other_work_have_no_place() -> None:
    run = ranked(
        {**WORLD, ("thread-twin", 8): Point(), ("scaled", 8): Point(), ("other", 8): Point()}, twin=True
    )
    run.record["plan"]["arms"] = [
        {"name": name, **ARM} for name in ("thread", "batch", "process", "other", "thread-twin")
    ]
    run.record["plan"]["arms"].append({"name": "scaled", "io_per_model": 0.8})
    run.record["arms"]["thread"]["about"] = {"model": "one"}
    run.record["arms"]["other"]["about"] = {"model": "another"}
    assert sorted(table(run).index) == ["batch", "process", "thread"]


def test_a_run_of_open_loads_alone_has_no_order() -> None:
    run = opened(*(open_trial(number) for number in range(1, 9)), ranking=True)
    found = report.build(run)
    assert found.ranking.empty
    assert found.conclusion == ""


# -- why


def test_the_reason_is_the_part_that_shrank_most_and_the_one_that_grew_most() -> None:
    found = table()["because"]
    assert found["batch"] == "waits 70 ms less in the queue, but spends 8.0 ms more in the worker"
    assert found["process"] == "waits 14 ms more in the queue"


def test_for_the_reference_the_reason_is_its_largest_part() -> None:
    assert table()["because"]["thread"] == "waits 70 of 86 ms in the queue"


def test_small_changes_are_summed_up_as_such() -> None:
    alike = {("thread", 8): Point(queue_ms=70.0), ("other", 8): Point(queue_ms=71.0)}
    assert table(ranked(alike))["because"]["other"] == "has no part that differs by 5 % of the latency"


def test_answers_without_timings_have_no_reason() -> None:
    run = ranked(WORLD)
    parts = ["queue_ms", "model_ms", "resume_ms", "io_ms", "handler_ms"]
    run.requests[parts] = float("nan")
    assert set(table(run)["because"]) == {""}


def test_requests_of_a_call_are_counted_by_call_and_not_by_request() -> None:
    """A batch of 6 and two lone requests are three calls for eight requests, however many were in the six."""
    run = ranked(WORLD)
    its = run.requests["arm"] == "batch"
    run.requests.loc[its, "batch_size"] = [1 if number % 4 == 0 else 6 for number in range(its.sum())]
    found = table(run)
    assert found.loc["batch", "requests_per_call"] == pytest.approx(8 / 3)
    assert found["because"].loc["batch"].endswith("; a model call carries 2.7 requests")
    assert "call" not in found["because"].loc["thread"]


# -- what it costs, and the sentence


def test_each_arm_has_its_costs() -> None:
    run = with_limits(ranked(WORLD), "batch")
    run.trials["server_cpu_ms"] = 144.0  # a trial of 8 users has 48 requests, warm-up and all
    run.record["arms"]["batch"]["uss_bytes"] = 512e6
    found = table(run).loc["batch"]
    assert (found["memory_uss_mb"], found["cpu_ms_per_request"]) == (512.0, 3.0)
    assert found["efficiency"] == pytest.approx((8 / 27) / (8 / 18))
    assert found["when_worker_dies"] == DIES


def test_the_sentence_gives_the_arm_its_ratio_the_reason_and_the_costs() -> None:
    run = with_limits(ranked(WORLD), "batch")
    run.trials["server_cpu_ms"] = 144.0
    assert built(run).conclusion == (
        "batch answers 296 requests/s at c = 8, 3.19 times [3.19, 3.19] the requests/s of thread (faster), "
        "because a request waits 70 ms less in the queue, but spends 8.0 ms more in the worker. It reaches "
        "67 % of the model limit. It costs 300 MB of memory and 3.0 ms of CPU per request. "
        f"When a worker dies, {DIES}."
    )


def test_without_a_difference_no_cause_is_named() -> None:
    """The reference fails too often to be taken, and no arm differs from it."""
    noisy = {
        ("thread", 8): lambda block: Point(queue_ms=70.0 + 20 * (block % 2), failed=1),
        ("other", 8): lambda block: Point(queue_ms=70.0 + 20 * ((block + 1) % 2), model_ms=5.0),
    }
    said = built(ranked(noisy)).conclusion
    assert said.startswith("other answers")
    assert "inconclusive" in said
    assert "because" not in said


def test_a_reference_that_is_taken_is_described_by_its_largest_part() -> None:
    said = built(ranked(WORLD, reference="batch")).conclusion
    assert said.startswith(
        "batch answers 296 requests/s at c = 8: a request spends 18 of 27 ms in the worker."
    )


def test_the_sentence_of_an_older_run_leaves_out_what_was_not_recorded() -> None:
    run = ranked(WORLD)
    run.record["arms"] = {}
    assert built(run).conclusion.endswith("spends 8.0 ms more in the worker.")


def test_nothing_answered_is_nothing_to_conclude() -> None:
    assert built(ranked({("thread", 8): Point(failed=32)})).conclusion == ""


# -- files


def test_the_ranking_is_written_as_csv_and_json(tmp_path: Path) -> None:
    found = built(ranked(WORLD, folder=tmp_path))
    export.write(found)
    assert list(pd.read_csv(tmp_path / "ranking.csv").columns) == ranking.COLUMNS
    document = json.loads(json.dumps(export.as_json(found), allow_nan=False))
    assert [row["arm"] for row in document["ranking"]] == ["batch", "thread", "process"]
    assert document["conclusion"] == found.conclusion


def test_a_run_of_a_plan_without_ranking_has_no_ranking() -> None:
    found = report.build(closed(WORLD))
    assert found.ranking.empty
    assert export.as_json(found)["ranking"] == []


def test_a_run_without_arms_has_an_empty_ranking() -> None:
    found = report.build(run_of(*made_up.run({}), ranking=True))
    assert found.ranking.empty
