"""The advice: every branch of it, on made-up tables."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from pathlib import Path
from typing import Any

import made_up
import numpy as np
import pandas as pd
import pytest
from made_reports import closed, open_trial, opened
from made_up import Point
from rich.console import Console

from harness.commands import tables
from harness.report import advice, choice, export, ranking, report
from harness.report.advice import Advice
from harness.results import store
from harness.verdicts import admissible
from harness.verdicts.metrics import Rules

AGAIN = "execbench run results/run"
THREAD = Point(model_ms=10.0, queue_ms=70.0)
ALONE = Point(model_ms=10.0)
BATCHES: made_up.World = {
    ("thread", 1): ALONE,
    ("thread", 8): THREAD,
    ("batch", 1): ALONE,
    ("batch", 8): Point(model_ms=20.0, outside_ms=4.0),
}


def jittered(point: Point, seed: int) -> Any:
    """The point with blocks that differ by some percent."""
    wobble = np.random.default_rng(seed).normal(1, 0.06, 100)
    return lambda block: Point(**{**vars(point), "model_ms": point.model_ms * float(wobble[block])})


def of(world: made_up.World, **said: Any) -> Advice:
    return advised(closed(world, **said))


def advised(run: store.Run) -> Advice:
    return report.build(run).advised


def text(said: Advice) -> str:
    return "\n".join(advice.printed_lines(said))


# -- which arm to take


def test_it_names_the_arm_the_ratio_with_interval_the_load_the_parts_that_change_and_the_costs() -> None:
    run = closed(BATCHES, name="article")
    run.record["plan"]["arms"][1] |= {"strategy": "batch", "workers": 2, "options": {"over": "process"}}
    run.record["arms"] = {"thread": {"uss_bytes": 300e6}, "batch": {"uss_bytes": 450e6}}
    said = advised(run)
    assert said.take == "batch"
    assert said.lines[0] == (
        "Take batch (--strategy batch:workers=2,over=process): at c = 8 expect 276 requests/s and a median "
        "latency of 29 ms, 2.97 times [2.97, 2.97] the requests/s of thread (93 requests/s and a median "
        "latency of 86 ms)."
    )
    assert (
        said.lines[1] == "Compared with thread, a request waits 70 ms less in the queue, "
        "but spends 10 ms more in the worker."
    )
    assert "It costs 450 MB of memory (thread: 300)." in said.lines
    assert (said.load, said.metric) == ("closed(8)", "throughput_per_s")
    assert (said.unsettled, said.equivalent, said.fastest) == ((), (), "batch")
    assert (said.ratio, said.low, said.high) == pytest.approx((86 / 29,) * 3)


def test_the_reference_stays_if_blocks_do_not_separate_it_and_the_advice_gives_the_blocks_needed() -> None:
    world = {("thread", 8): jittered(Point(), 1), ("process", 8): jittered(Point(model_ms=5.9), 2)}
    said = of(world, blocks=8, name="article")
    assert said.take == "thread"
    assert said.lines[0].startswith("Stay with thread: at c = 8 it gives")
    assert "; 8 blocks show no arm to be better." in said.lines[0]
    forecast = re.search(
        r"8 blocks do not separate thread from process; "
        r"an interval of ±3 % against process would need (\d+) to (\d+) blocks\.",
        text(said),
    )
    assert forecast is not None
    assert said.command == f"{AGAIN} --blocks {forecast[2]}"


def test_an_equivalent_arm_is_named_and_gets_no_forecast_of_blocks() -> None:
    said = of({("thread", 8): Point(), ("process", 8): Point(model_ms=5.9), ("slow", 8): THREAD})
    assert said.take == "thread"
    assert (said.equivalent, said.unsettled, said.command) == (("process",), (), "")
    assert said.lines[0].endswith("process is equivalent within 3 %.")
    assert "blocks" not in text(said)


def test_the_reference_stays_if_it_is_the_best_and_the_next_best_is_named() -> None:
    said = of(BATCHES, reference="batch")
    assert said.take == "batch"
    assert (
        "no arm is better; the next best, thread, has 0.34 times [0.34, 0.34] the requests/s of batch."
        in (said.lines[0])
    )


@pytest.mark.parametrize("reference", ["inline", "thread"])
def test_the_best_arm_that_leaves_the_loop_free_is_taken_and_a_faster_one_that_blocks_it_is_named(
    reference: str,
) -> None:
    world = {("inline", 1): Point(), ("inline", 8): Point(io_ms=20.0), ("thread", 8): Point(queue_ms=60.0)}
    said = of(world, reference=reference)
    assert (said.take, said.fastest) == ("thread", "inline")
    assert ("and the event loop stays free." in said.lines[0]) == (reference == "inline")
    assert said.lines[1] == (
        "inline has 2.67 times [2.67, 2.67] the requests/s of thread, but blocks the event loop (its I/O "
        "takes 20.0 ms instead of 5.0): take it only if the service does nothing but this route."
    )


def test_if_every_arm_blocks_the_loop_the_best_is_taken_and_the_advice_mentions_it() -> None:
    world = {(arm, users): Point(io_ms=io) for arm in "ab" for users, io in ((1, 5.0), (8, 60.0))}
    said = of(world)
    assert said.take == "a"
    assert "a blocks the event loop (its I/O takes 60.0 ms instead of 5.0)" in text(said)


def test_an_arm_that_the_client_limits_is_taken_with_its_figures_as_bounds() -> None:
    run = closed(BATCHES)
    run.record["self_check"] = {"requests_per_s": 500.0}  # batch sends 276 of them, thread 93
    said = advised(run)
    assert said.take == "batch"
    assert "at c = 8 expect at least 276 requests/s and a median latency of at most 29 ms" in said.lines[0]
    assert "at least 2.97 times [2.97, 2.97] the requests/s of thread" in said.lines[0]
    other = closed({**BATCHES, ("other", 8): Point(model_ms=21.0, outside_ms=4.0)})
    other.record["self_check"] = {"requests_per_s": 500.0}
    assert advised(other).unsettled == ("other",)


def test_the_advice_names_medians_and_means_as_such() -> None:
    uneven: made_up.World = {
        ("thread", 8): THREAD,
        ("batch", 8): lambda block: Point(model_ms=20.0 if block < 5 else 29.0),
    }
    run = closed(uneven)
    assert "(The figures are medians; the ratio is a mean over blocks.)" in advised(run).lines[0]
    assert "(The figures are medians" not in of(BATCHES).lines[0]


def test_a_slow_ping_shows_that_the_loop_is_blocked_if_the_io_does_not() -> None:
    costs = pd.DataFrame({"arm": ["a", "b"], "load": "closed(8)", "ping_p50_ms": [80.0, 2.0]})
    summary = pd.DataFrame({"arm": ["a", "b"], "load": "closed(8)", "concurrency": 8, "io_p50_ms": np.nan})
    side = admissible.admit(closed(BATCHES)).side
    empty = pd.DataFrame()
    found = choice.Inputs(ranking.Tables(empty, summary, empty, costs, empty), {}, "a", side, Rules(), "")
    assert choice.stalls(found, "a", "closed(8)") == "a route without a model takes 80 ms"
    assert choice.stalls(found, "b", "closed(8)") == ""


@pytest.mark.parametrize(
    ("own_ms", "ping_ms", "said"),
    [
        (58.0, 40.0, ""),  # the database is slow
        (4.0, 2.0, ""),  # a connection is waited for: a route without I/O is quick
        (4.0, 8.0, "its I/O takes 60.0 ms instead of 5.0, of which the database or service itself takes 4.0"),
        (
            4.0,
            np.nan,
            "its I/O takes 60.0 ms instead of 5.0, of which the database or service itself takes 4.0",
        ),
        (np.nan, 2.0, "its I/O takes 60.0 ms instead of 5.0"),
    ],
)
def test_what_the_other_side_of_the_io_took_itself_is_not_the_loops(
    own_ms: float, ping_ms: float, said: str
) -> None:
    loads = ["closed(1)", "closed(8)"]
    costs = pd.DataFrame({"arm": "a", "load": loads, "ping_p50_ms": [1.0, ping_ms]})
    io = {"io_p50_ms": [5.0, 60.0], "io_server_p50_ms": [4.0, own_ms]}
    summary = pd.DataFrame({"arm": "a", "load": loads, "concurrency": [1, 8], **io})
    side = admissible.admit(closed(BATCHES)).side
    empty = pd.DataFrame()
    found = choice.Inputs(ranking.Tables(empty, summary, empty, costs, empty), {}, "a", side, Rules(), "")
    assert choice.stalls(found, "a", "closed(8)") == said


def test_among_equals_the_arm_that_loses_least_under_other_loads_is_taken() -> None:
    world = {
        ("thread", 1): Point(),
        ("thread", 8): THREAD,
        ("slow-alone", 1): Point(model_ms=30.0),
        ("slow-alone", 8): jittered(Point(model_ms=9.9), 1),
        ("quick-alone", 1): Point(),
        ("quick-alone", 8): jittered(Point(model_ms=10.0), 2),
    }
    assert of(world).take == "quick-alone"


def test_another_load_that_changes_the_order_is_named() -> None:
    said = of({**BATCHES, ("batch", 1): Point(model_ms=25.0)})
    assert "Other loads change this: at c = 1 thread is better (median 16 ms instead of 31 ms)" in text(said)
    assert "at c = 1 batch is slower than thread" in text(said)


def test_medians_that_differ_are_not_written_alike() -> None:
    said = of({**BATCHES, ("thread", 1): Point(model_ms=10.0), ("batch", 1): Point(model_ms=10.4)})
    assert "(median 16.0 ms instead of 16.4 ms)" in text(said)


def two_arms_at(load: str) -> store.Run:
    trials = []
    for number in range(16):
        trial, samples = open_trial(number + 1, arm=("thread", "process")[number % 2], load=load)
        block = number // 2 + 1
        moved = [dataclasses.replace(sample, block=block) for sample in samples]
        trials.append((dataclasses.replace(trial, block=block), moved))
    return opened(*trials, reference="thread", own_users=32)


def test_open_loads_are_judged_by_the_median_latency() -> None:
    said = advised(two_arms_at("poisson(50)"))
    assert said.metric == "latency_ms"
    assert said.lines[0].startswith("Stay with thread: at poisson(50)")


def test_no_arm_is_advised_if_each_has_a_load_of_its_own() -> None:
    said = advised(two_arms_at("own(0.8)"))
    assert said.take == ""
    assert said.lines[0] == "No strategy is advised: own(0.8) is another load for each arm."
    assert said.command.endswith(" -c 32")


# -- what would change it


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        (
            Point(io_ms=50.0, io_nominal_ms=50.0),
            "a shorter I/O, now 88 % of a request; compared with it, where the model runs",
        ),
        (
            Point(model_ms=50.0),
            "a faster model call, now 89 % of a request; with I/O much longer than 5.0 ms the arms differ",
        ),
        (THREAD, "more calls at once or a faster backend, because 81 % of a request is waiting for a worker"),
    ],
)
def test_the_dominating_part_determines_what_would_change_the_advice(point: Point, expected: str) -> None:
    assert f"What would change this: {expected}" in text(of({("thread", 8): point, ("other", 8): point}))


def test_a_full_machine_needs_cores_and_a_backend_that_was_run_is_not_suggested() -> None:
    run = closed(BATCHES)
    run = run._replace(
        trials=run.trials.assign(server_cpu_ms=1800.0, window_start_ms=0.0, window_end_ms=1000.0)
    )
    run.record["environment"] = {"usable_cores": 2}
    built = report.build(run)
    busy = built.costs["cpu_ms_per_request"].notna().all()
    assert busy
    said = text(built.advised)
    assert "more cores or a model call that costs less CPU" in said
    assert "so more workers alone will not help." in said
    run.record["arms"] = {arm: {"about": {"backend": arm}} for arm in ("thread", "batch")}
    assert "more cores. Server and load generator keep" in text(advised(run))


# -- when there is none


def test_without_good_answers_the_advice_states_it() -> None:
    assert of({}).lines == (
        "No advice: no trial got good answers. The servers' logs are in the run's folder.",
    )


def test_a_noisy_session_gives_no_advice_but_a_command() -> None:
    world = {**BATCHES, ("thread-twin", 8): Point(model_ms=20.0, queue_ms=70.0)}
    said = of(world, twin=True, name="beyond", blocks=12, arms=["thread", "batch"])
    assert said.take == ""
    assert said.lines[0].startswith(
        "No strategy is advised: the session is too noisy to tell a faster arm from a lucky one"
    )
    assert said.command == f"{AGAIN} --blocks 48"


def test_one_arm_and_its_twin_give_nothing_to_compare() -> None:
    run = closed(
        {("thread", 8): THREAD, ("thread-twin", 8): THREAD}, twin=True, name="flags", concurrency=[8]
    )
    run.record["plan"]["arms"] = [{"name": "thread", "strategy": "thread", "io_per_model": None}]
    said = advised(run)
    assert said.lines[0] == "Only thread was run, so this run cannot say which strategy is best."
    assert said.lines[1] == "At c = 8 a request waits 70 of 86 ms in the queue."
    assert said.command == f"{AGAIN} --strategy thread --strategy inline --strategy process"


def test_the_advice_for_an_external_server_names_the_dominating_part_and_proposes_more_users() -> None:
    run = closed({("server", 8): THREAD}, blocks=1)
    run.record.update(plan=None, load={"url": "http://127.0.0.1:1/"})
    said = advised(run)
    assert "At c = 8 a request waits 70 of 86 ms in the queue." in said.lines
    assert said.command == "execbench load http://127.0.0.1:1/ -c 16"


def test_the_next_command_for_external_servers_reads_a_secret_from_the_environment() -> None:
    run = closed({("mine", 8): jittered(Point(), 1), ("yours", 8): jittered(Point(model_ms=5.9), 2)})
    for arm in run.record["plan"]["arms"]:
        arm |= {"strategy": "url", "url": f"http://127.0.0.1:1/{arm['name']}"}
    assert re.fullmatch(rf"{AGAIN} --blocks \d+", advised(run).command)
    run.record["plan"]["ask"] = {"headers": [["X-Tenant", "a"], ["Cookie", "(kept secret)"]]}
    assert f"{AGAIN} --header 'Cookie: ${{HEADER_COOKIE}}' --blocks " in advised(run).command


def test_the_next_command_for_one_external_server_has_more_users() -> None:
    run = closed({("mine", 8): THREAD})
    run.record["plan"]["arms"][0] |= {"strategy": "url", "url": "http://127.0.0.1:1/"}
    assert advised(run).command == f"{AGAIN} -c 16"


def test_the_next_command_runs_only_the_two_arms_that_more_blocks_may_separate() -> None:
    world = {("thread", 8): jittered(Point(), 1), ("process", 8): jittered(Point(model_ms=5.9), 2)}
    said = of({**world, ("slow", 8): THREAD}, blocks=8)
    assert said.command.startswith(f"{AGAIN} --strategy thread --strategy process --blocks ")


def test_too_few_blocks_give_no_advice() -> None:
    said = of(BATCHES, blocks=3, name="beyond")
    assert said.lines == (
        "No strategy is advised: 3 blocks cannot show a difference (run at least 6, better 24).",
    )
    assert said.command == f"{AGAIN} --blocks 24"


def test_an_arm_that_lost_trials_or_failed_requests_is_not_considered_and_the_reason_is_given() -> None:
    dying = {**BATCHES, ("batch", 8): lambda block: Point(state="ok" if block < 7 else "failed")}
    failing = {**BATCHES, ("batch", 8): Point(failed=3)}
    assert "Not considered: batch lost 2 of its trials." in of(dying).lines
    assert "Not considered: 9 % of the requests to batch failed." in of(failing).lines
    assert {of(dying).take, of(failing).take} == {"thread"}


def test_if_the_reference_lost_trials_an_arm_is_taken_without_a_ratio() -> None:
    said = of({**BATCHES, ("thread", 8): lambda block: Point(state="ok" if block < 7 else "failed")})
    assert said.take == "batch"
    assert "(thread, the reference, has no complete figures to compare with)" in said.lines[0]


def test_no_arm_is_taken_if_every_arm_lost_trials() -> None:
    died = {place: (lambda block: Point(state="ok" if block < 7 else "failed")) for place in BATCHES}
    said = of(died, name="beyond")
    assert said.lines[0] == "No strategy is advised: at c = 8 no arm gave good answers in every trial."
    assert said.command == AGAIN


def test_external_servers_without_timings_are_judged_by_latency_and_throughput_alone() -> None:
    run = closed(BATCHES)
    parts = [
        "entered_ms",
        "queue_ms",
        "model_ms",
        "model_cpu_ms",
        "resume_ms",
        "io_ms",
        "handler_ms",
        "batch_size",
    ]
    run = run._replace(rows=run.requests.assign(strategy="", **dict.fromkeys(parts, np.nan)))
    run = run._replace(trials=run.trials.assign(strategy="", io_nominal_ms=np.nan))
    said = advised(run)
    assert said.take == "batch"
    assert "nan" not in text(said).lower()
    assert "worker" not in text(said)


# -- how it is shown


@pytest.mark.integration  # takes long
def test_it_never_takes_more_than_eight_lines_and_ends_the_report_in_terminal_json_and_folder(
    tmp_path: Path,
) -> None:
    run = closed(BATCHES)._replace(folder=tmp_path)
    built = report.build(run)
    assert len(advice.printed_lines(built.advised)) <= advice.MOST_LINES
    export.write(built)
    assert (tmp_path / "advice.txt").read_text().splitlines() == advice.printed_lines(built.advised)
    console = Console(width=80, record=True, file=io.StringIO())
    for part in tables.render(built):
        console.print(part)
    printed = " ".join(console.export_text().split())
    assert printed.index("What to do") > printed.index("Each arm against thread")
    assert built.advised.lines[0] in printed.replace(" - ", " ")
    data = json.loads(json.dumps(export.as_json(built), allow_nan=False))
    assert data["advice"] == list(built.advised.lines)
    assert data["advised"]["take"] == "batch"
