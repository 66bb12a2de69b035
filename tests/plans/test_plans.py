"""Plans: errors name the key that is wrong, and a plan gives the same trials every time."""

import itertools
from pathlib import Path
from typing import Any

import pytest

import strategies
from harness.errors import UsageError
from harness.plans import from_flags, plan_files, size
from harness.plans.from_flags import Flags
from harness.plans.plan import Plan
from harness.wire.arrivals import closed

MINIMAL: dict[str, Any] = {
    "name": "p",
    "arms": [{"name": "a", "strategy": "thread"}],
    "concurrency": [1],
    "requests": 5,
}


def arm(strategy: str = "thread", **keys: object) -> dict[str, object]:
    return {"name": "a", "strategy": strategy, **keys}


def make(**changes: object) -> Plan:
    return plan_files.make({**MINIMAL, **changes}, source="plan")


@pytest.mark.parametrize("name", plan_files.names())
def test_every_built_in_plan_is_valid_and_has_a_summary(name: str) -> None:
    plan = plan_files.load(name)
    assert plan.name == name
    assert plan.summary


def test_the_article_plan_matches_the_articles_scenario() -> None:
    plan = plan_files.load("article")
    assert {arm.strategy for arm in plan.arms} == {"inline", "thread", "process", "default_pool"}
    assert plan.concurrency == (1, 2, 4, 8)
    assert plan.blocks >= 10
    assert plan.route == "GET /"
    assert plan.workload.io_ms == 5
    assert {arm.strategy for arm in plan.arms if arm.io_per_model} == {"inline", "process"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"request": 5}, "request: there is no such key"),
        ({"workload": {"nam": "embed"}}, "workload.nam: there is no such key"),
        ({"concurrency": [0]}, "concurrency.0: must be greater than 0"),
        ({"requests": 0}, "requests: must be greater than 0"),
        ({"concurrency": []}, "give concurrency .closed loop. or arrivals .open loop., or both"),
        ({"arrivals": ["poison(5)"]}, r"arrivals\.0: 'poison\(5\)' is not an arrival law"),
        ({"arrivals": ["poisson(-5)"]}, r"arrivals\.0: .*the rate must be from 0\.001 to 20000, not -5"),
        ({"arrivals": ["closed(5)"]}, "give a closed loop with concurrency"),
        ({"arrivals": ["poisson(5)", "poisson(5.0)"]}, r"duplicate load poisson\(5\)"),
        ({"reference": "b"}, "reference: there is no arm 'b'"),
        ({"precision": 3}, "precision: "),
        ({"exclude": {"steal": 1}}, "exclude.steal: there is no such key"),
        ({"arms": []}, "arms: "),
        ({"requests": None}, "give requests or duration_s"),
        ({"concurrency": [2, 2]}, r"duplicate load closed\(2\)"),
        ({"arms": MINIMAL["arms"] * 2}, "duplicate arm a"),
        (
            {"arms": [{"name": "a", "strategy": "thread", "io_per_model": 1.0}]},
            "the pilot needs one that does not",
        ),
        ({"arms": [{"name": "../a", "strategy": "thread"}]}, r"arms\.0\.name"),
        ({"arms": [{"name": "a", "strategy": "tread"}]}, "no strategy 'tread'"),
        ({"arms": [{"name": "a", "strategy": "inline", "workers": 2}]}, "takes no option 'workers'"),
        ({"workload": {"name": "embd"}}, "no workload 'embd'"),
        ({"workload": {"name": "embed", "service_ms": 5}}, "does not take the option service_ms"),
        ({"workload": {"name": "synthetic", "model": "x"}}, "does not take the option model"),
        ({"route": "GET /elsewhere"}, "route: "),
        (
            {"arms": [arm(options={"max_btch": 8})]},
            r"options: there is no option 'max_btch'; did you mean 'max_b",
        ),
        ({"arms": [arm(workers=1, options={"workers": 8})]}, "arms.0: workers is set twice"),
        (
            {"arms": [arm("batch", options={"max_batch": 0})]},
            "options.max_batch: must be greater than or equal to 1",
        ),
        ({"arms": [arm("batch", options={"max_batch": "many"})]}, "options"),
        (
            {"arms": [arm("batch", options={"over": "batch"})]},
            "over must name the strategy that runs the batches",
        ),
        ({"arms": [arm(options={"max_batch": 8})]}, "thread.*takes no option 'max_batch'"),
        ({"arms": [arm("batch", options={"spares": 1})]}, "batch.*takes no option 'spares'"),
        ({"arms": [arm("interpreters")]}, "no strategy 'interpreters'"),
        ({"arms": [arm("executor")]}, "has no executor"),
        ({"arms": [arm(server_processes=0)]}, "server_processes"),
        ({"arms": [arm(workload={"service_ms": 5})]}, "does not take the option service_ms"),
        ({"arms": [arm(workload={"name": "synthetic"})]}, "The workload of arm 'a' is not its plan's"),
        ({"arms": [arm(workload={"backend": "tf"})]}, "The workload of arm 'a': backend"),
        ({"concurrency": [], "arrivals": ["poisson(5)"], "think": 0.5}, "think: only the users of a closed"),
        ({"think": "normal(1)"}, r"think: 'normal\(1\)' is not a think time; examples: 0\.5, exp"),
        ({"arrivals": ["own(0)"]}, "the share of the arm's own throughput must be from 0.01"),
    ],
)
def test_an_invalid_plan_is_refused_with_the_invalid_key(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        make(**changes)
    assert caught.value.exit_code == 2


def test_the_error_for_an_unknown_plan_suggests_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="no plan 'artcle'") as caught:
        plan_files.load("artcle")
    assert "'article'" in caught.value.hint


def test_the_error_for_a_plan_file_that_is_not_toml_gives_the_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "x\n')
    with pytest.raises(UsageError, match=r"is not TOML: .*line 1"):
        plan_files.load(str(path))


def test_a_users_plan_file_is_read_like_a_built_in_plan(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\nconcurrency = [3]\nduration_s = 1\n[[arms]]\nname = "t"\nstrategy = "thread"'
    )
    assert plan_files.load(str(path)).concurrency == (3,)


def test_each_block_has_every_arm_at_every_load_once_in_its_own_order() -> None:
    plan = plan_files.load("article")
    cells = list(plan.cells())
    orders = []
    for block in range(1, plan.blocks + 1):
        order = [(cell.arm.name, cell.law) for cell in cells if cell.block == block]
        assert len(order) == len(set(order)) == len(plan.every_arm) * len(plan.laws)
        orders.append(tuple(order))
    assert len(set(orders)) == plan.blocks


def test_the_seed_determines_the_order_of_trials() -> None:
    plan = plan_files.load("article")
    other = from_flags.override(plan, Flags(plan={"seed": 2}))
    assert list(plan.cells()) == list(plan.cells())
    assert list(plan.cells()) != list(other.cells())


def test_all_arms_of_a_block_get_the_same_texts_and_blocks_differ() -> None:
    plan = make(blocks=2)
    first, again = (plan.load_options("http://127.0.0.1:1", closed(1), block=1).texts for _ in range(2))
    other = plan.load_options("http://127.0.0.1:1", closed(1), block=2).texts
    assert first == again != other


def test_all_arms_of_a_block_get_the_same_arrivals_and_blocks_differ() -> None:
    plan = make(arrivals=["poisson(50)"], blocks=2)
    (law,) = plan.arrivals
    first, again, other = (plan.load_options("", law, block).schedule for block in (1, 1, 2))
    assert first == again != other
    assert len(first) == 12


def test_only_closed_loops_think_and_the_size_counts_their_pauses() -> None:
    plan = make(arrivals=["poisson(50)"], think=0.5, new_connections=True)
    closed_loop, open_loop = (plan.load_options("", law, 1) for law in plan.laws)
    assert (str(closed_loop.think), open_loop.think) == ("fixed(0.5)", None)
    assert closed_loop.new_connections
    assert open_loop.new_connections
    assert Plan.model_validate(plan.model_dump(mode="json")) == plan
    # two warm-ups and five requests of a user who pauses 60 s
    thinking, usual = (size.of_plan(make(blocks=1, **more)).seconds for more in ({"think": 60}, {}))
    assert thinking - usual == pytest.approx(420, abs=1)


def test_a_plan_of_open_loops_alone_needs_no_window_for_the_closed_loops_of_its_pilots() -> None:
    plan = make(concurrency=[], requests=None, arrivals=["own(0.8)"], open_duration_s=7.0)
    assert plan.load_options("", closed(32), block=0).duration_s == 7.0


@pytest.fixture
def recording(tmp_path: Path) -> str:
    path = tmp_path / "recorded.jsonl"
    path.write_text('{"at_s": 0, "text": "a"}\n{"at_s": 1, "text": "b"}\n')
    return f"replay({path})"


def test_only_a_replay_sends_recorded_texts(recording: str) -> None:
    plan = make(arrivals=[recording])
    drawn, recorded = (plan.load_options("", law, 1) for law in plan.laws)
    assert drawn.texts is not None
    assert recorded.texts is not None
    assert drawn.texts.recording is None
    assert f"replay({recorded.texts.recording})" == recording
    assert (recorded.method, recorded.url) == ("POST", "/predict")


def test_recorded_texts_that_no_request_would_send_are_refused(recording: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="route: GET / sends no texts, but replay"):
        make(arrivals=[recording], route="GET /")
    (tmp_path / "texts.txt").write_text("a\n")
    payloads = {"workload": {"payloads": str(tmp_path / "texts.txt")}}
    make(arrivals=[recording], **payloads)  # the closed loop sends them
    with pytest.raises(UsageError, match=r"payloads: replay.* has its own texts"):
        make(concurrency=[], arrivals=[recording], **payloads)
    with pytest.raises(UsageError, match="the place of a recorded text"):
        make(arrivals=[recording], arms=[{"name": "a", "url": "http://127.0.0.1:1/"}], ask={"body": "{}"})


def test_a_block_runs_all_arms_of_one_load_before_the_next_load() -> None:
    cells = [cell for cell in plan_files.load("article").cells() if cell.block == 1]
    laws = [law for law, _ in itertools.groupby(cell.law for cell in cells)]
    assert len(laws) == len(set(laws)) == 4


def test_requests_without_a_closed_loop_are_refused() -> None:
    with pytest.raises(UsageError, match="--requests counts the requests of a closed loop"):
        from_flags.from_flags(Flags(plan={"arrivals": ("poisson(5)",), "requests": 5}))


def test_a_twin_repeats_the_reference_arm_in_every_block() -> None:
    arms = [{"name": "a", "strategy": "thread"}, {"name": "b", "strategy": "inline"}]
    plan = make(arms=arms, reference="b", twin=True)
    assert plan.every_arm[-1] == plan.arms[1].model_copy(update={"name": "b-twin"})
    assert {cell.arm.name for cell in plan.cells()} == {"a", "b", "b-twin"}


def test_windows_of_open_loads_are_longer_than_those_of_closed_loads() -> None:
    plan = make(arrivals=["constant(9)"], requests_per_user=5, requests=None, duration_s=0.5)
    closed_load, open_load = (plan.load_options("", law, 1) for law in plan.laws)
    assert (closed_load.requests, closed_load.duration_s) == (5, 0.5)
    assert (open_load.requests, open_load.duration_s, open_load.settle_s) == (None, 20.0, 3.0)


def test_loads_given_as_flags_replace_the_plans_loads() -> None:
    article = plan_files.load("article")
    changed = from_flags.override(article, Flags(plan={"arrivals": ("poisson(30)",), "duration_s": 5}))
    assert [str(law) for law in changed.laws] == ["poisson(30)"]
    assert changed.open_duration_s == 5


def test_the_first_arm_is_the_reference_when_the_plans_reference_is_filtered_out() -> None:
    left = from_flags.override(plan_files.load("article"), Flags(strategies=("thread", "process")))
    assert left.reference_arm.name == "thread"


def test_a_plan_is_unchanged_by_a_round_trip_through_json() -> None:
    plan = make(arrivals=["burst(3, 0.5)"], twin=True, precision=0.03)
    assert plan_files.restore(plan.model_dump(mode="json")) == plan


def test_without_a_plan_the_four_strategies_run_at_c_8() -> None:
    plan = from_flags.from_flags(Flags())
    assert [arm.strategy for arm in plan.arms] == ["inline", "thread", "process", "default_pool"]
    assert plan.concurrency == (8,)


def test_flags_override_only_their_own_keys_of_the_plan() -> None:
    plan = plan_files.load("article")
    changed = from_flags.override(
        plan,
        Flags(
            strategies=("inline",),
            plan={"concurrency": (4,), "requests": 7, "blocks": 1},
            workload={"torch_threads": 1},
        ),
    )
    assert {arm.name for arm in changed.arms} == {"inline", "inline-scaled-io"}
    assert (changed.concurrency, changed.requests, changed.blocks) == ((4,), 7, 1)
    assert (changed.workload.torch_threads, changed.workload.io_ms) == (1, 5.0)
    assert (changed.route, changed.claims) == (plan.route, plan.claims)


def test_a_duration_replaces_the_plans_number_of_requests() -> None:
    changed = from_flags.override(plan_files.load("article"), Flags(plan={"duration_s": 0.5}))
    assert (changed.requests, changed.duration_s) == (None, 0.5)


def test_another_workload_starts_from_its_defaults_but_keeps_the_io() -> None:
    changed = from_flags.override(plan_files.load("smoke"), Flags(workload={"name": "embed"}))
    assert changed.workload.name == "embed"
    assert changed.workload.io_ms == 5.0


def test_workers_apply_only_to_strategies_that_take_them() -> None:
    plan = from_flags.from_flags(Flags(options={"workers": 3}))
    assert {arm.name: arm.chosen.workers for arm in plan.arms} == {
        "inline": None,
        "thread": 3,
        "process": 3,
        "default_pool": None,
    }


def test_workers_are_refused_if_no_strategy_takes_them() -> None:
    with pytest.raises(UsageError, match="takes the option 'workers'"):
        from_flags.from_flags(Flags(strategies=("inline",), options={"workers": 3}))


def test_options_apply_only_to_strategies_that_take_them() -> None:
    chosen = Flags(strategies=("thread", "batch"), options={"max_batch": "4"}, arm={"server_processes": 2})
    plan = from_flags.from_flags(chosen)
    assert {arm.name: arm.options for arm in plan.arms} == {"thread": {}, "batch": {"max_batch": 4}}
    assert [arm.server_processes for arm in plan.arms] == [2, 2]
    with pytest.raises(UsageError, match="takes the option 'timeout_s'") as caught:
        from_flags.from_flags(Flags(strategies=("thread",), options={"timeout_s": "1"}))
    assert "supervised" in caught.value.hint


def test_an_arm_is_named_after_the_strategy_and_the_options_given_with_it() -> None:
    strategies = (
        "thread",
        "thread:workers=2,switch_interval_ms=0.5",
        "executor:concurrent.futures:ThreadPoolExecutor",
    )
    plain, switching, own = from_flags.from_flags(Flags(strategies=strategies)).arms
    assert (plain.name, plain.options) == ("thread", {})
    assert switching.options == {"workers": 2, "switch_interval_ms": 0.5}
    assert switching.name == "thread-workers-2-switch_interval_ms-0.5"
    assert own.strategy == "executor"
    assert own.chosen.factory == "concurrent.futures:ThreadPoolExecutor"
    for wrong in ("thread:workers=", "thread:=2"):
        with pytest.raises(UsageError, match="is not KEY=VALUE"):
            from_flags.from_flags(Flags(strategies=(wrong,)))


def test_workload_options_of_an_arm_apply_to_that_arm_only() -> None:
    one, other = arm(workload={"torch_threads": 1}), arm() | {"name": "b"}
    plan = make(workload={"io_ms": 7.0}, arms=[one, other])
    workloads = [arm.server_options(plan.workload).workload for arm in plan.arms]
    assert [(w.torch_threads, w.io_ms) for w in workloads] == [(1, 7.0), (None, 7.0)]


def test_arms_can_be_selected_by_name() -> None:
    chosen = from_flags.override(plan_files.load("beyond"), Flags(strategies=("batch-2-processes", "inline")))
    assert [arm.name for arm in chosen.arms] == ["inline", "batch-2-processes"]


def test_open_loads_can_be_limited_to_some_blocks() -> None:
    plan = make(arrivals=["own(0.8)"], open_every=2, blocks=4)
    with_open = {cell.block for cell in plan.cells() if cell.law.is_open}
    assert with_open == {1, 3}
    assert {cell.block for cell in plan.cells() if not cell.law.is_open} == {1, 2, 3, 4}


def test_selecting_a_strategy_that_is_not_in_the_plan_is_refused_with_a_list() -> None:
    narrow = make()
    with pytest.raises(UsageError, match="no arm or strategy 'process'") as caught:
        from_flags.override(narrow, Flags(strategies=("process",)))
    assert "thread" in caught.value.hint


def test_scaled_io_depends_only_on_the_model_time() -> None:
    plan = plan_files.load("article")
    arm = next(arm for arm in plan.arms if arm.io_per_model)
    assert arm.server_options(plan.workload, lone_model_ms=12.2).workload.io_ms == 10.0


@pytest.mark.parametrize(
    "flags",
    [
        Flags(options={"workers": 4}),
        Flags(arm={"inject": {"queue_ms": 5.0}}),
        Flags(workload={"io_ms": 50.0}),
        Flags(workload={"name": "synthetic"}),
        Flags(workload={"backend": "onnx"}),
        Flags(options={"switch_interval_ms": "0.5"}),
        Flags(arm={"server_processes": 2}),
    ],
)
def test_the_articles_claims_are_judged_only_on_its_scenario(flags: Flags) -> None:
    assert from_flags.override(plan_files.load("article"), flags).claims is None


def test_limit_and_ranking_are_off_by_default() -> None:
    assert (make().limit, make().ranking) == (False, False)
    assert make(ranking=True).ranking
    assert from_flags.from_flags(Flags(plan={"limit": True})).limit
    assert not from_flags.override(make(limit=True), Flags(plan={"limit": False})).limit


def test_batch_treats_a_dead_worker_as_the_strategy_under_it_does() -> None:
    arms = [
        {"name": "pool", "strategy": "process"},
        {"name": "batches", "strategy": "batch", "options": {"over": "process"}},
        {"name": "threads", "strategy": "batch"},
    ]
    pool, batches, threads = (arm.when_worker_dies for arm in make(arms=arms).arms)
    assert batches == pool
    assert threads != pool


def test_the_commands_of_a_plan_alone_need_no_limit_of_our_model() -> None:
    both = Flags(strategies=("thread",), commands=("node=node app.js {port}",), plan={"limit": True})
    plan = from_flags.from_flags(both)
    only = from_flags.override(plan, Flags(strategies=("node",)))
    assert plan.limit
    assert [arm.name for arm in only.arms] == ["node"]
    assert not only.limit


# -- arms that are left out ----------------------------------------------------------------------------

TWO_BACKENDS: dict[str, Any] = {
    "name": "p",
    "skip_missing": True,
    "limit": True,
    "workload": {"name": "embed"},
    "arms": [
        {"name": "f32", "strategy": "thread", "workload": {"backend": "openvino"}},
        {"name": "bf16", "strategy": "thread", "workload": {"backend": "openvino-bf16"}},
    ],
    "concurrency": [1],
    "requests": 1,
}


@pytest.fixture
def old_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text("flags : fpu")
    monkeypatch.setattr("harness.workloads.embed._CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr("harness.workloads.embed.find_spec", lambda name: object())  # nothing is missing


@pytest.mark.usefixtures("old_processor")
def test_an_arm_that_the_processor_cannot_run_is_left_out_and_that_is_no_failure() -> None:
    made = plan_files.make(TWO_BACKENDS, source="plan")
    assert [arm.name for arm in made.arms] == ["f32"]
    assert made.left_out == {}  # what is in there makes the run fail at its end
    assert made.notes == ("Left out: bf16, as this processor has no instructions for bfloat16.",)


@pytest.mark.usefixtures("old_processor")
def test_an_arm_that_was_left_out_cannot_be_selected_and_the_message_says_why() -> None:
    made = plan_files.make(TWO_BACKENDS, source="plan")
    with pytest.raises(UsageError, match=r"cannot be started: this processor has no .* for bfloat16\."):
        from_flags.override(made, Flags(strategies=("bf16",)))


def test_a_missing_backend_does_not_matter_if_other_arms_are_selected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The run with the selected arms does not fail at its end for one that nobody asked for."""
    arms = [*TWO_BACKENDS["arms"], {"name": "torch", "strategy": "thread"}]
    monkeypatch.setattr("harness.workloads.embed.find_spec", lambda name: None)
    made = plan_files.make({**TWO_BACKENDS, "arms": arms}, source="plan")
    assert set(made.left_out) == {"f32", "bf16"}
    chosen = from_flags.override(made, Flags(strategies=("torch",)))
    assert (chosen.left_out, chosen.notes) == ({}, ())


def test_a_missing_package_of_a_strategy_leaves_its_arm_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strategies.get("ray"), "why_not", lambda: "ray is not installed")
    made = plan_files.load("cluster")
    assert made.left_out["ray"] == "ray is not installed"
    assert "process" in [arm.name for arm in made.arms]


def test_a_plan_of_which_only_commands_are_left_has_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    command = {"name": "other", "command": "python -m http.server {port}"}
    arms = [TWO_BACKENDS["arms"][0], command]
    monkeypatch.setattr("harness.workloads.embed.find_spec", lambda name: None)
    made = plan_files.make({**TWO_BACKENDS, "arms": arms}, source="plan")
    assert [arm.name for arm in made.arms] == ["other"]
    assert not made.limit
