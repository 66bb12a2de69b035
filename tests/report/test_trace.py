"""The trace of a run, read back: requests nest, lanes do not overlap, and all times are on one axis."""

from __future__ import annotations

import gzip
import itertools
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import made_up
import pandas as pd
import pytest
from committed import run_of
from made_up import Point, sample
from typer.testing import CliRunner

from harness.cli import app
from harness.report import trace
from harness.results import store
from harness.wire.records import Sample

Event = dict[str, Any]
HOSTILE = '</script>\x1b[31m"\u2028' + "x" * 200
MS = 1000  # in microseconds


def run_with(samples: list[Sample], folder: Path, **of_trial: Any) -> store.Run:
    """A run whose trials are those of the samples."""
    firsts = {row.trial: row for row in reversed(samples)}
    trials = [
        made_up.trial(
            trial=number, **{key: getattr(row, key) for key in ("arm", "strategy", "load", "block")}
        )
        for number, row in sorted(firsts.items())
    ]
    frame = made_up.trials_frame(trials).assign(**of_trial)
    return store.Run(folder, {"schema": 5}, made_up.requests_frame(samples), frame, [])


def written(run: store.Run, folder: Path, **options: Any) -> dict[str, Any]:
    trace.write(folder, run, **options)
    document: dict[str, Any] = json.loads(gzip.decompress((folder / trace.NAME).read_bytes()))
    assert_sound(document["traceEvents"])
    return document


def events_of(run: store.Run, folder: Path) -> list[Event]:
    found: list[Event] = written(run, folder)["traceEvents"]
    return found


def named(events: list[Event], name: str, phase: str = "b") -> list[Event]:
    return [event for event in events if (event["name"], event["ph"]) == (name, phase)]


def spans(events: list[Event]) -> dict[str, tuple[int, int]]:
    """Name → begin and end, of async slices that appear once."""
    begins = {event["name"]: event["ts"] for event in events if event["ph"] == "b"}
    return {event["name"]: (begins[event["name"]], event["ts"]) for event in events if event["ph"] == "e"}


def assert_sound(events: list[Event]) -> None:
    """Hold the rules of the Trace Event Format, and those of a time axis with one trial after the other."""
    for event in events:
        assert {"name", "ph", "pid"} <= event.keys()
        assert event["ph"] in "MbeXiC"
        assert event["ph"] == "M" or (type(event["ts"]) is int and event["ts"] >= 0)
    named_pids = {event["pid"] for event in named(events, "process_name", "M")}
    assert {event["pid"] for event in events} == named_pids
    trials = slices_of_trials(events)
    assert_async_slices_nest(events, trials)
    assert_lanes_do_not_overlap(events)
    assert_counters_end_at_zero(events)


def slices_of_trials(events: list[Event]) -> list[Event]:
    return [event for event in events if event["ph"] == "X" and event["pid"] == 1]


def assert_async_slices_nest(events: list[Event], trials: list[Event]) -> None:
    open_slices: dict[tuple[Any, ...], list[Event]] = defaultdict(list)
    seen: set[tuple[Any, ...]] = set()
    for event in events:
        if event["ph"] not in "be":
            continue
        key = event["pid"], event["cat"], event["id2"]["local"]
        if event["ph"] == "b":
            assert open_slices[key] or key not in seen  # an id is of one request only
            seen.add(key)
            assert all(outer["ts"] <= event["ts"] for outer in open_slices[key])
            open_slices[key].append(event)
            continue
        begin = open_slices[key].pop()
        assert begin["name"] == event["name"]
        assert begin["ts"] <= event["ts"]
        for outer in open_slices[key]:
            outer["latest"] = max(outer.get("latest", 0), event["ts"])
        assert event["ts"] >= begin.get("latest", 0)
        assert any(one["ts"] <= begin["ts"] and event["ts"] <= one["ts"] + one["dur"] for one in trials)
    assert not any(open_slices.values())


def assert_lanes_do_not_overlap(events: list[Event]) -> None:
    lanes: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            lanes[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    assert set(lanes) <= {(event["pid"], event["tid"]) for event in named(events, "thread_name", "M")}
    for lane in lanes.values():
        lane.sort()
        assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(lane))


def assert_counters_end_at_zero(events: list[Event]) -> None:
    counts: list[int] = []  # of one trial, whose slice comes before its other events
    for event in events:
        if event["ph"] == "C":
            counts.append(event["args"]["requests"])
            assert counts[-1] >= 0
        if event in slices_of_trials([event]):
            assert counts[-1:] in ([], [0])
            counts = []
    assert counts[-1:] in ([], [0])


# -- requests ------------------------------------------------------------------------------------------


def test_a_request_has_its_parts_at_their_places(tmp_path: Path) -> None:
    late = sample(
        due_ms=10.0, sent_ms=12.0, entered_ms=13.0, queue_ms=2.0, resume_ms=1.0, handler_ms=14.0, done_ms=28.0
    )
    assert spans(events_of(run_with([late], tmp_path), tmp_path)) == {
        "request": (10 * MS, 28 * MS),
        "dispatch lag": (10 * MS, 12 * MS),
        "queue": (13 * MS, 15 * MS),
        "worker": (15 * MS, 21 * MS),
        "way back": (21 * MS, 22 * MS),
        "I/O": (22 * MS, 27 * MS),
        "outside": (27 * MS, 28 * MS),  # there is one before the queue, too
    }


def test_a_request_says_what_it_was(tmp_path: Path) -> None:
    (event,) = named(events_of(run_with([sample(seq=7, batch_size=4)], tmp_path), tmp_path), "request")
    assert event["args"] == {"seq": 7, "phase": "measure", "status": 200, "batch_size": 4}


def test_a_failed_request_is_marked_and_named(tmp_path: Path) -> None:
    nothing = dict.fromkeys(
        ("entered_ms", "queue_ms", "model_ms", "resume_ms", "io_ms", "handler_ms", "status", "worker_pid")
    )
    failed = sample(error="timeout", batch_size=None, **nothing)
    (event,) = named(events_of(run_with([sample(seq=1), failed], tmp_path), tmp_path), "failed request")
    assert event["cname"] == "bad"
    assert event["args"] == {"seq": 0, "phase": "measure", "error": "timeout"}


def test_a_server_without_timings_has_requests_only(tmp_path: Path) -> None:
    nothing = dict.fromkeys(
        ("entered_ms", "queue_ms", "model_ms", "resume_ms", "io_ms", "handler_ms", "worker_pid")
    )
    events = events_of(run_with([sample(seq=seq, **nothing) for seq in range(3)], tmp_path), tmp_path)
    assert {event["name"] for event in events if event["ph"] == "b"} == {"request"}
    assert [event["name"] for event in events if event["ph"] == "X"] == ["block 1, closed(1), inline"]


def test_one_time_for_the_model_is_not_called_worker(tmp_path: Path) -> None:
    one = sample(queue_ms=None, resume_ms=None, worker_pid=None)
    found = spans(events_of(run_with([one], tmp_path), tmp_path))
    assert found["model"] == (500, 6500)
    assert "worker" not in found


@pytest.mark.parametrize("entered_ms", [-9e5, 9e5])
def test_parts_of_another_clock_stay_within_their_request(tmp_path: Path, entered_ms: float) -> None:
    rows = [sample(seq=seq, entered_ms=entered_ms) for seq in range(3)]
    rows += [sample(seq=3, due_ms=5.0, sent_ms=-9.0, done_ms=-7.0), sample(seq=4, sent_ms=99.0)]
    assert len(named(events_of(run_with(rows, tmp_path), tmp_path), "request")) == 5


# -- workers, stalls, trials ---------------------------------------------------------------------------


def test_requests_of_a_batch_share_a_slice(tmp_path: Path) -> None:
    batch = [
        sample(seq=seq, batch_size=3, entered_ms=seq, queue_ms=5.0 - seq, worker_pid=42) for seq in range(3)
    ]
    alone = sample(seq=3, due_ms=12.0, sent_ms=12.0, done_ms=24.0, entered_ms=12.5, worker_pid=42)
    events = events_of(run_with([*batch, alone], tmp_path), tmp_path)
    calls = [event for event in events if event["ph"] == "X" and event["pid"] != 1]
    assert [(one["name"], one["ts"], one["dur"], one["args"]["requests"]) for one in calls] == [
        ("batch of 3", 5 * MS, 6 * MS, [0, 1, 2]),
        ("model", 12_500, 6 * MS, [3]),
    ]
    assert [event["args"]["name"] for event in named(events, "thread_name", "M")] == ["trials", "worker 42"]


def test_threads_of_one_process_that_overlap_have_lanes_of_their_own(tmp_path: Path) -> None:
    rows = [sample(seq=seq, worker_pid=42) for seq in range(3)]
    events = events_of(run_with(rows, tmp_path), tmp_path)
    lanes = [event["args"]["name"] for event in named(events, "thread_name", "M")]
    assert lanes == ["trials", "worker 42", "worker 42, thread 2", "worker 42, thread 3"]


def test_a_ping_that_waits_is_a_stall_and_no_request(tmp_path: Path) -> None:
    nothing = dict.fromkeys(
        ("entered_ms", "queue_ms", "model_ms", "resume_ms", "io_ms", "handler_ms", "worker_pid")
    )
    pings = [
        sample(seq=seq, phase="ping", done_ms=done, **nothing)
        for seq, done in enumerate((9.9, 25.0), start=1)
    ]
    events = events_of(run_with([sample(), *pings], tmp_path), tmp_path)
    (stall,) = [event for event in events if event["ph"] == "i"]
    assert (stall["name"], stall["s"], stall["ts"]) == ("loop stall", "p", 0)
    assert stall["args"]["ping_ms"] == 25.0
    assert "longer than 10 ms" in stall["args"]["because"]
    assert len(named(events, "request")) == 1
    assert max(event["args"]["requests"] for event in events if event["ph"] == "C") == 1


def test_trials_follow_the_wall_clock_unless_it_goes_back(tmp_path: Path) -> None:
    rows = [sample(trial=trial, block=trial) for trial in (1, 2, 3, 4)]
    clock = ["2026-01-01T00:00:00.000Z", "2026-01-01T00:00:05.000Z", "2025-12-31T23:00:00Z", ""]
    events = events_of(run_with(rows, tmp_path, started_at=clock), tmp_path)
    assert [one["ts"] for one in slices_of_trials(events)] == [0, 5_000 * MS, 5_012 * MS, 5_024 * MS]


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    events = events_of(run_with([sample(arm=HOSTILE, error=HOSTILE, status=500)], tmp_path), tmp_path)
    assert named(events, "process_name", "M")[1]["args"]["name"] == HOSTILE


# -- long runs -----------------------------------------------------------------------------------------


def sizes(*requests_of_blocks: int, first: int = 0) -> pd.DataFrame:
    """Two trials a block, each with half of its requests; block 0 is the pilot."""
    rows = [(block, count // 2) for block, count in enumerate(requests_of_blocks, start=first) for _ in "ab"]
    return pd.DataFrame(rows, columns=["block", "requests"]).assign(trial=range(1, len(rows) + 1))


def test_all_trials_are_shown_if_they_fit() -> None:
    assert trace.select(sizes(10, 10, 10), most=30) == ([1, 2, 3, 4, 5, 6], None, "")


def test_of_a_long_run_whole_blocks_are_shown_that_are_spread_evenly() -> None:
    chosen = trace.select(sizes(10, *[10] * 9), most=30)
    assert chosen.trials == [3, 4, 11, 12, 19, 20]  # blocks 1, 5 and 9
    assert chosen.left_out == ("The trace has 3 of 9 blocks, spread evenly over the run: 30 of 100 requests.")


def test_a_block_that_is_too_large_is_cut() -> None:
    chosen = trace.select(sizes(100, first=1), most=30)
    assert chosen == (
        [1, 2],
        15,
        "The trace has the first requests of each trial of block 1: 30 of 100 requests.",
    )


def test_a_cut_trace_is_sound_and_says_what_it_lacks(tmp_path: Path) -> None:
    requests, trials = made_up.run({("inline", 2): Point(requests=50)}, blocks=1)
    run = store.Run(tmp_path, {"schema": 5}, requests, trials, [])
    document = written(run, tmp_path, most=20)
    assert len(named(document["traceEvents"], "request")) == 20
    assert document["otherData"]["left_out"].endswith("20 of 104 requests.")
    first = (tmp_path / trace.NAME).read_bytes()
    written(run, tmp_path, most=20)
    assert (tmp_path / trace.NAME).read_bytes() == first


# -- of a real run -------------------------------------------------------------------------------------


@pytest.mark.integration  # slow: reads a whole run, and runs git
def test_a_committed_run_has_a_sound_trace(tmp_path: Path) -> None:
    whole = store.read(run_of("beyond"))
    trials = whole.trials[
        (whole.trials["block"] == 3) & whole.trials["arm"].isin(["inline", "batch", "thread"])
    ]
    run = whole._replace(trials=trials[trials["load"] == "closed(32)"])
    events = events_of(run, tmp_path)
    assert len(named(events, "request")) > 100
    assert any(event["name"].startswith("batch of ") for event in events)
    assert any(event["ph"] == "i" for event in events)  # inline blocks its event loop
    for name in ("queue", "worker", "I/O", "outside"):
        assert named(events, name), name


def test_the_command_says_where_the_trace_is_and_where_to_open_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    requests, trials = made_up.run({("inline", 1): Point(), ("thread", 1): Point()})
    store.Writer(folder).write_record({"state": "finished", "plan": None, "arms": {}})
    requests.to_csv(folder / "requests.csv", index=False)
    trials.to_csv(folder / "trials.csv", index=False)

    def show(shown: Path, **options: object) -> None:
        assert (shown / trace.NAME).exists()  # so that the page can link to it
        sys.stdout.write(json.dumps(options))

    monkeypatch.setattr("harness.commands.report.show", show)
    done = CliRunner().invoke(app, ["report", str(folder), "--trace", "--json"])
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["as_json"]  # nothing else is on stdout
    assert done.stderr.splitlines() == [
        f"Trace: {folder / trace.NAME} (0.0 MB)",
        'Open it at https://ui.perfetto.dev with "Open trace file".',
    ]
    assert_sound(json.loads(gzip.decompress((folder / trace.NAME).read_bytes()))["traceEvents"])
    refused = CliRunner().invoke(app, ["report", str(folder), "--trace", "--reference", "thread"])
    assert refused.exit_code == 2
    assert "--trace writes a file" in refused.stderr


def test_the_parts_of_a_request_whose_worker_was_on_another_host_are_not_drawn(tmp_path: Path) -> None:
    away = sample(queue_ms=None, resume_ms=None, worker_pid=7)
    found = events_of(run_with([away], tmp_path), tmp_path)
    assert not {"queue", "worker", "way back", "I/O", "model"} & spans(found).keys()
    assert "request" in spans(found)
