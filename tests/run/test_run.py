"""Features of a run: fresh servers, stopping early, resuming, validity."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import running
from sessions import Quiet, plan, record

from harness.errors import HarnessError, UsageError
from harness.plans.plan import Plan
from harness.report import report
from harness.results import store
from harness.run import resume, session
from harness.run.early_stop import Rule
from harness.run.trials import PILOT_WINDOWS
from harness.verdicts import settled
from harness.wire import bounds
from harness.wire.records import PING

pytestmark = pytest.mark.integration


def test_each_trial_records_the_readings_of_the_machine(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for done in session.run(plan(), store.Writer(folder), Quiet()):
        assert done.state == "ok"
        assert done.server_cpu_ms is not None
        assert done.server_cpu_ms > 0
        assert done.server_lag_max_ms is not None
        assert done.client_lag_max_ms is not None
    kept = record(folder)
    assert {arm: facts["uss_bytes"] > 1e6 for arm, facts in kept["arms"].items()} == {"a": True, "b": True}
    assert set(kept["idle"]) == {"a", "b"}
    assert kept["arms"]["a"]["about"]["threadpools"] is not None


@pytest.mark.timed  # a starved client sends fewer
def test_every_trial_has_pings_next_to_its_load(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    session.run(plan(duration_s=0.5), store.Writer(folder), Quiet())
    rows = store.read(folder).requests
    assert rows[rows["phase"] == PING].groupby("trial").size().between(3, 12).all()


def test_without_probes_and_pings_their_readings_are_empty(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for done in session.run(plan(probes=False, ping_per_s=0), store.Writer(folder), Quiet()):
        assert done.server_lag_max_ms is None
        assert done.client_lag_max_ms is None
    assert not (store.read(folder).requests["phase"] == PING).any()


@pytest.mark.timed
def test_a_load_that_is_a_share_of_what_the_arm_can_do_follows_the_arm(tmp_path: Path) -> None:
    """One worker of 20 ms answers 50 a second at most, a batch of two calls on it twice as many."""
    folder = tmp_path / "run"
    arms = [{"name": "thread", "strategy": "thread"}, {"name": "batch", "strategy": "batch"}]
    workload = {"name": "synthetic", "service_ms": 20.0, "io_ms": 0.0}
    shares = {"arrivals": ["own(0.5)"], "own_users": 2, "open_duration_s": 0.6, "open_settle_s": 0.2}
    session.run(plan(arms=arms, workload=workload, concurrency=[], **shares), store.Writer(folder), Quiet())
    found = store.read(folder)
    can = found.record["own_per_s"]
    assert 35 < can["thread"] < 51
    assert can["batch"] > 1.4 * can["thread"]
    trials = found.trials[found.trials["block"] > 0]
    for arm, rate in zip(trials["arm"], trials["rate_per_s"], strict=True):
        assert rate == pytest.approx(can[arm] / 2, abs=0.001)
    assert set(trials["load"]) == {"own(0.5)"}
    assert all(trials["schedule"].str.len() > 0)
    assert (found.trials["block"] == 0).sum() == 2 * PILOT_WINDOWS


def test_fresh_servers_are_other_processes_in_each_trial(tmp_path: Path, finished_once: Path) -> None:
    fresh, resident = tmp_path / "fresh", finished_once
    session.run(plan(fresh=True), store.Writer(fresh), Quiet())
    pids = {
        folder: store.read(folder).requests.groupby("arm", observed=True)["worker_pid"]
        for folder in (fresh, resident)
    }
    assert list(pids[fresh].nunique()) == [2, 2]
    assert all(arm["ready_s"] > 0 for arm in record(fresh)["arms"].values())
    assert list(pids[resident].nunique()) == [1, 1]


def test_all_arms_of_a_block_have_the_same_schedule_hash(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    chosen = plan(concurrency=[], arrivals=["poisson(40)"], open_duration_s=0.3, open_settle_s=0.1)
    trials = session.run(chosen, store.Writer(folder), Quiet())
    by_block = {block: {t.schedule for t in trials if t.block == block} for block in (1, 2)}
    assert all(len(hashes) == 1 for hashes in by_block.values())
    assert by_block[1] != by_block[2]
    assert record(folder)["schedules"]["poisson(40)"] == {str(b): h.pop() for b, h in by_block.items()}


def test_the_self_check_measures_the_client_before_the_first_trial(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    session.run(plan(self_check=True, blocks=1), store.Writer(folder), Quiet())
    found = record(folder)["self_check"]
    assert found["requests_per_s"] > 50
    assert found["dispatch_lag_p99_ms"] >= found["dispatch_lag_p50_ms"] >= 0


# -- resuming ----------------------------------------------------------------------------------------------


def interrupted(folder: Path, after: int = 3, **changes: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        session.run(plan(**changes), store.Writer(folder), Quiet(stop_after=after))


@pytest.fixture(scope="module")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, for reading only."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    session.run(plan(), store.Writer(folder), Quiet())
    return folder


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run interrupted after three of its four trials, for copying only."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    interrupted(folder)
    return folder


@pytest.fixture
def stopped(stopped_once: Path, tmp_path: Path) -> Path:
    """A copy of the interrupted run."""
    return Path(shutil.copytree(stopped_once, tmp_path / "run"))


def test_an_interrupted_run_is_completed_with_the_same_plan(stopped: Path, finished_once: Path) -> None:
    folder, whole = stopped, finished_once
    with (folder / "requests.csv").open("a") as stream:
        stream.write("a,thread,closed(2),2,99,0,measure,1.0")
    chosen, writer, before = resume.reopen(folder)
    session.run(chosen, writer, Quiet(), before)
    ours, theirs = store.read(folder), store.read(whole)
    assert ours.warnings == []
    keys = ["trial", "block", "position", "arm", "load"]
    assert ours.trials[keys].equals(theirs.trials[keys])
    assert record(folder)["state"] == "finished"
    resumed = record(folder)["resumed"][0]
    assert (resumed["after_trial"], resumed["in_block"]) == (3, 2)


def test_an_interrupt_between_two_blocks_interrupts_no_block(tmp_path: Path) -> None:
    interrupted(tmp_path / "run", after=2)
    chosen, writer, before = resume.reopen(tmp_path / "run")
    session.run(chosen, writer, Quiet(), before)
    assert record(tmp_path / "run")["resumed"][0]["in_block"] is None


def test_a_finished_run_is_not_resumed(finished_once: Path) -> None:
    with pytest.raises(HarnessError, match="is finished: 4 trials"):
        resume.reopen(finished_once)


@pytest.mark.parametrize(
    ("key", "value", "difference"),
    [("code", "0123456789ab", "code"), ("cpu", "Another CPU", "Another CPU"), ("python", "3.9.0", "3.9.0")],
)
def test_other_code_or_another_machine_is_refused_with_the_difference(
    stopped: Path, key: str, value: str, difference: str
) -> None:
    folder = stopped
    changed = record(folder)
    changed["environment"][key] = value
    (folder / "run.json").write_text(json.dumps(changed))
    with pytest.raises(
        HarnessError, match=f"cannot be resumed here, because the environment differs: .*{difference}"
    ):
        resume.reopen(folder)


def test_a_plan_changed_in_the_folder_is_refused(stopped: Path) -> None:
    folder = stopped
    changed = record(folder)
    changed["plan"]["arms"] = changed["plan"]["arms"][:1]
    (folder / "run.json").write_text(json.dumps(changed))
    with pytest.raises(HarnessError, match=r"arm 'b'.*no longer in its plan"):
        resume.reopen(folder)


def test_a_plan_given_with_resume_must_be_the_plan_of_the_run(stopped: Path) -> None:
    folder = stopped
    assert resume.reopen(folder, plan())[0] == plan()
    with pytest.raises(
        HarnessError, match=r"differs from the plan of .*: blocks 9 instead of 2, seed 5 instead of 1"
    ):
        resume.reopen(folder, plan(blocks=9, seed=5))


def test_a_replay_whose_file_was_changed_is_refused(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.write_text("\n".join(str(number / 50) for number in range(20)))
    opened: dict[str, Any] = {
        "concurrency": [],
        "arrivals": [f"replay({trace})"],
        "open_settle_s": 0.1,
        "open_duration_s": 0.2,
    }
    interrupted(tmp_path / "run", **opened)
    trace.write_text("\n".join(str(number / 40) for number in range(20)))
    with pytest.raises(HarnessError, match="has changed since"):
        resume.reopen(tmp_path / "run")


def test_a_run_that_is_still_running_is_not_resumed(stopped: Path) -> None:
    _, writer, _ = resume.reopen(stopped)
    with pytest.raises(HarnessError, match="Another execbench is writing to"):
        resume.reopen(stopped)
    writer.close()
    resume.reopen(stopped)[1].close()


def test_idle_cpu_from_before_an_interruption_is_kept(stopped: Path) -> None:
    folder = stopped
    (wall_before,) = {arm["wall_ms"] for arm in [record(folder)["idle"]["a"]]}
    chosen, writer, before = resume.reopen(folder)
    session.run(chosen, writer, Quiet(), before)
    assert record(folder)["idle"]["a"]["wall_ms"] >= wall_before


# -- stopping early ----------------------------------------------------------------------------------------


@pytest.mark.quick
def test_an_impossible_precision_is_refused() -> None:
    one = [{"name": "a", "strategy": "thread"}]
    for changes in ({"arms": one, "blocks": 30}, {"blocks": bounds.FIRST_LOOK - 1}):
        with pytest.raises(UsageError, match="precision needs two arms"):
            plan(precision=0.05, **changes)


def rule_of(chosen: Plan) -> Rule:
    declared = settled.planned(chosen.model_dump(mode="json"))
    assert declared is not None
    return Rule(declared, settled.look)


def test_a_run_stops_at_the_look_at_which_its_verdicts_are_settled(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    arms = [
        {"name": "one", "strategy": "thread", "workers": 1},
        {"name": "four", "strategy": "thread", "workers": 4},
    ]
    sleeps = {"name": "synthetic", "service_ms": 20.0, "io_ms": 0.0, "mode": "sleep"}
    anything = {"foreign_cpu": 100.0, "steal_share": 1.0}  # other tests run beside this one
    load = {"concurrency": [4], "requests": 8, "workload": sleeps, "exclude": anything}
    chosen = plan(arms=arms, until="settled", blocks=20, **load)
    trials = session.run(chosen, store.Writer(folder), Quiet(), rule=rule_of(chosen))
    ended = max(trial.block for trial in trials)
    *before, last = record(folder)["looks"]["looked"]
    assert last == {"blocks": ended, "open": []}
    assert all(one["open"] for one in before)
    notes = " ".join(report.build(store.read(folder)).notes)
    assert ended < 20
    assert f"Stopped after {ended} of at most 20 blocks" in notes


def test_an_interrupted_run_keeps_its_looks_and_stops_at_a_later_one(tmp_path: Path) -> None:
    """The rule says no at 8 blocks; the run is interrupted then, and resumed."""
    folder, seen = tmp_path / "run", []
    chosen = plan(until="settled", blocks=16, requests=4, workload={"name": "synthetic", "service_ms": 1.0})

    def look(run: store.Run) -> tuple[int, list[str]]:
        blocks = int(run.trials["block"].max())
        seen.append(blocks)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return blocks, [] if blocks == 12 else ["a at c = 1"]

    declared = rule_of(chosen).looks
    with pytest.raises(KeyboardInterrupt):
        session.run(chosen, store.Writer(folder), Quiet(), rule=Rule(declared, look))
    chosen, writer, before = resume.reopen(folder)
    session.run(chosen, writer, Quiet(), before, rule=Rule(declared, look))
    assert [one["blocks"] for one in record(folder)["looks"]["looked"]] == [8, 12]
    assert store.read(folder).trials["block"].max() == 12


# -- validity ----------------------------------------------------------------------------------------------


def test_an_arm_limited_by_the_client_keeps_its_trials_and_its_figures_are_bounds(tmp_path: Path) -> None:
    """With a roofline far below the rate sent, as if the client could not send more."""
    chosen = plan(blocks=1, workload={"name": "synthetic", "service_ms": 0.0, "io_ms": 0.0})
    trials = session.run(chosen, store.Writer(tmp_path / "run"), Quiet(), client_limit_per_s=10.0)
    assert {t.state for t in trials} == {"ok"}
    found = store.read(tmp_path / "run")
    found.record["self_check"] = {"requests_per_s": 10.0}
    built = report.build(found)
    assert built.summary["client_limited"].all()
    (warning,) = [text for text in built.warnings if text.startswith("Limited by the client")]
    assert "of the 10 requests/s that it can send" in warning


def test_an_open_window_without_a_request_is_a_failed_trial(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.write_text("0.01\n0.02\n")
    opened: dict[str, Any] = {
        "concurrency": [],
        "arrivals": [f"replay({trace})"],
        "open_settle_s": 1.0,
        "open_duration_s": 1.0,
    }
    trials = session.run(plan(blocks=1, **opened), store.Writer(tmp_path / "run"), Quiet())
    assert {(t.state, t.error) for t in trials} == {("failed", "no request fell into the measured window")}


def test_the_log_of_an_earlier_fresh_server_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "arm.log"
    log.write_text("written before\n")
    with running.serving(log):
        pass
    assert log.read_text().startswith("written before\n")


def test_work_that_the_client_gave_up_ends_before_the_next_arm_is_measured(tmp_path: Path) -> None:
    """Six requests of 0.4 s, given up after 0.1 s, leave 2.4 s of work that nothing can stop."""
    arms = [{"name": "slow", "strategy": "inline"}]
    slow = {"name": "synthetic", "service_ms": 400.0, "io_ms": 0.0}
    chosen = plan(arms=arms, workload=slow, concurrency=[6], timeout_s=0.1, warmup_per_client=0, ping_per_s=0)
    began = time.monotonic()
    trials = session.run(chosen, store.Writer(tmp_path / "run"), Quiet())
    assert time.monotonic() - began > 2 * 2.4
    assert {t.state for t in trials} == {"failed"}
    assert all(t.requests < 30 for t in trials)
