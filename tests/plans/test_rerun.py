"""A run's folder is a plan: `run` and `capacity` repeat the run, unchanged or changed by flags."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from conftest import CHECKOUT, Execbench, Invoke

from harness.plans import plan_files
from harness.plans.plan import Plan
from harness.results import store
from harness.wire.load_options import REVEALED
from harness.wire.records import SCHEMA_VERSION

NEEDS_PG = pytest.mark.integration  # its packages are an extra that `make quick` does not install

Planned = Callable[[str], Any]
RUN = "kept/a-run"


@pytest.fixture
def planned(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> Planned:
    """Returns what a command line would run, without running it."""
    found: list[tuple[Any, ...]] = []
    for place in ("run.run_new", "sweep.run_new", "capacity._run"):
        monkeypatch.setattr(f"harness.commands.{place}", lambda *given, **_: found.append(given))
    Path("texts.txt").write_text("a text\n")

    def ask(line: str) -> Any:
        done = invoke(*shlex.split(line.removeprefix("execbench ")))
        assert done.returncode == 0, done.stderr
        return found.pop()

    return ask


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of user workloads, one for all tests because Python caches modules by name."""
    folder = tmp_path_factory.mktemp("own")
    needed = "def load(): ...\ndef predict(model, items): return items\n"
    (folder / "own_rerun.py").write_text(needed)
    (folder / "own_io_rerun.py").write_text(needed + "async def io(result): ...\n")
    return folder


def keep(plan: Plan | dict[str, Any] | None, folder: str = RUN, **more: Any) -> None:
    """Write a run's folder that has only the record of the plan."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    message = plan.model_dump(mode="json") if isinstance(plan, Plan) else plan
    record = {"schema": SCHEMA_VERSION, "state": "finished", "plan": message, **more}
    (Path(folder) / "run.json").write_text(json.dumps(record))


def revealed(plan: Plan) -> dict[str, Any]:
    return plan.model_dump(context=REVEALED)


def refused(invoke: Invoke, *words: str) -> str:
    """Return the message of the usage error."""
    done = invoke(*words)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.startswith(("Error (plan): ", "Error (workload): "))
    return done.stderr


# -- the same plan ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "run article",
        pytest.param("run article --io pgvector -c 32 --workers 2", marks=NEEDS_PG),
        "run article --io socket:7ms --blocks 8 --torch-threads 1",
        "run article --strategy thread --strategy process --no-twin --reference process --seed 0",
        "run thrash --precision 3% --duration 3 --arrivals 'own(0.8)' --pin --no-self-check",
        "run smoke --requests 30 --inject queue=5 --inject io=0.25 --server-processes 2 --io-ms 0",
        "run smoke --workload embed --resident --limit",
        "run --strategy thread --strategy batch:over=process -c 1 -c 16 --duration 2 --timeout 3 --twin",
        "run --strategy thread --option switch_interval_ms=0.5 --workload synthetic --service-ms 0",
        "run --strategy thread --workload {own} -c 4",
        "run --strategy thread --workload {own} -c 4 --io-ms 5",
        "run --strategy thread --workload {own} -c 4 --io socket",
        "run smoke --workload {own} --io-ms 0",
        "run smoke --workload {own}",
        "run smoke --workload {own_io}",
        "run --strategy thread -c 4 --workload {own_io}",
        "run --rate 30 --arrivals 'burst(20, 0.5)' --cap 50 --transport httpx --fresh --payloads texts.txt",
        "run --url a=http://127.0.0.1:1/ --url b=http://127.0.0.1:2/ --method put --expect-status 201"
        " --url-pid b=11 --url-pid b=12 --exclude-foreign-cpu 0.5"
        " --header 'X-Tenant: a b' --body '{\"q\": \"{text}\"}' --payloads texts.txt --ping-path /ping",
        "run --url a=http://127.0.0.1:1/ -c 4 --body --help",
        "run --url a=http://127.0.0.1:1/ -c 4 --body '$(touch x) `y` !! ~ a;b'",
        "sweep --strategy thread --over workers=1,2 --over setup_ms=0,0.5 --workload synthetic --resident",
        "sweep --strategy batch:max_batch=4 --over over=thread,process --workers 2 --fresh --requests 20",
        "sweep --over io=sleep:1ms,socket:2ms --workload synthetic --service-ms 1",
    ],
)
def test_a_run_is_repeated_with_its_plan(line: str, planned: Planned, own: Path) -> None:
    line = line.replace("{own}", str(own / "own_rerun.py")).replace("{own_io}", str(own / "own_io_rerun.py"))
    plan, _ = planned(line)
    keep(plan)
    same, out = planned(f"run {RUN}")
    assert (same, out) == (plan, None)
    more, _ = planned(f"run {RUN}/ --blocks 77")
    assert more == plan.model_copy(update={"blocks": 77})
    keep(more)
    assert planned(f"run {RUN}")[0] == more


OWN_PLAN: dict[str, Any] = {
    "name": "mine",
    "summary": "of my own",
    "concurrency": [2],
    "arrivals": ["constant(5)", "own(0.5)"],
    "duration_s": 0.5,
    "settle_s": 1.0,
    "open_every": 3,
    "blocks": 12,
    "delta_latency": 0.2,
    "exclude": {"steal_share": 0.5},
    "notes": ["a note"],
    "ranking": True,
    "workload": {"name": "synthetic", "setup_ms": 20.0, "io": "socket", "io_ms": 2.5},
    "arms": [
        {"name": "a", "strategy": "thread", "workers": 2, "workload": {"service_ms": 3.0}},
        {"name": "b", "strategy": "thread", "inject": {"queue_ms": 1.0}, "instrumented": False},
        {"name": "scaled", "strategy": "batch", "options": {"over": "process"}, "io_per_model": 0.5},
        {"name": "waits", "strategy": "inline", "workload": {"io": "sleep"}},
    ],
    "reference": "b",
}


def test_a_run_of_a_plan_file_is_repeated_even_if_the_file_is_gone(planned: Planned) -> None:
    plan = plan_files.make(OWN_PLAN, source="plan")
    keep(plan)
    assert planned(f"run {RUN}")[0] == plan
    assert planned(f"run {RUN} --seed 3")[0] == plan.model_copy(update={"seed": 3})
    two, _ = planned(f"run {RUN} --strategy b --strategy waits -c 7")
    assert [arm.name for arm in two.arms] == ["b", "waits"]
    assert (two.concurrency, two.arrivals, two.reference) == ((7,), (), "b")
    assert two.arms == (plan.arms[1], plan.arms[3])


def test_a_users_workload_is_found_by_its_recorded_name(planned: Planned, invoke: Invoke) -> None:
    Path("rerun_here.py").write_text("def load(): ...\ndef predict(model, items): return items\n")
    plan, _ = planned("run --strategy thread --workload rerun_here.py")
    data = plan.model_dump(mode="json")
    data["workload"]["name"] = "rerun_here.py"  # older versions recorded the name as it was given
    keep(data)
    assert planned(f"run {RUN}")[0] == plan
    data["workload"]["name"] = "/gone/rerun_here.py"
    keep(data)
    assert "/gone/rerun_here.py" in refused(invoke, "run", RUN)
    assert planned(f"run {RUN} --workload synthetic")[0].workload.name == "synthetic"


PACKAGES = {
    **{"ray": "ray", "dask": "distributed", "uvloop": "uvloop", "pgvector": "asyncpg"},
    **{"onnx": "onnxruntime", "openvino": "openvino", "openvino-bf16": "openvino"},
}


def packages_of(plan: dict[str, Any]) -> list[str]:
    """The packages of extras that the arms and the I/O of a recorded plan need."""
    used = {plan["workload"].get("io"), plan["workload"].get("backend")}
    for arm in plan["arms"]:
        used |= {arm["strategy"], arm.get("event_loop"), (arm.get("workload") or {}).get("backend")}
    return [package for what, package in PACKAGES.items() if what in used]


@pytest.mark.parametrize(
    "folder", sorted(path.parent.name for path in CHECKOUT.glob("results/*/run.json")), ids=str
)
def test_the_committed_runs_can_be_run_again(folder: str, invoke: Invoke) -> None:
    place = CHECKOUT / "results" / folder
    recorded = json.loads((place / "run.json").read_text())
    if absent := [package for package in packages_of(recorded["plan"]) if find_spec(package) is None]:
        # `make quick` has no extras; with them, as in `make test`, no run is skipped
        pytest.skip(f"the run needs {', '.join(absent)}, which is not installed")
    done = invoke("run", str(place), "--dry-run", "--json")
    if any(arm.get("python") for arm in recorded["plan"]["arms"]):  # environments that are not here
        assert done.returncode == 2
        assert "/envs/old/bin/python, does not exist" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    missing = shown["plan"]["left_out"]
    here = [arm for arm in recorded["plan"]["arms"] if arm["name"] not in missing]
    assert shown["arms"][: len(here)] == [arm["name"] for arm in here]
    assert all(arm["command"] for arm in recorded["plan"]["arms"] if arm not in here)
    if "capacity" in recorded:
        assert (shown["plan"]["name"], shown["loads"], shown["blocks"]) == ("flags", ["closed(8)"], 24)
    else:
        assert shown["blocks"] == recorded["plan"]["blocks"]


@pytest.mark.integration
def test_repeating_a_run_writes_a_new_folder_and_leaves_the_old_one(execbench: Execbench) -> None:
    plan = (
        'name = "mine"\nconcurrency = [1, 2]\nduration_s = 0.1\nblocks = 1\nself_check = false\n'
        '[workload]\nname = "synthetic"\nservice_ms = 2.0\nio_ms = 1.0\n'
        '[[arms]]\nname = "one"\nstrategy = "thread"\nworkers = 1\n'
        '[[arms]]\nname = "two"\nstrategy = "thread"\nworkers = 2\n'
    )
    (execbench.folder / "mine.toml").write_text(plan)
    assert execbench("run", "mine.toml", "--out", "first").returncode == 0
    before = {path: path.read_bytes() for path in (execbench.folder / "first").rglob("*") if path.is_file()}
    (execbench.folder / "mine.toml").unlink()
    done = execbench("run", "first", "--blocks", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(path.read_bytes() == was for path, was in before.items())
    (new,) = (execbench.folder / "results").iterdir()
    first, second = store.read(execbench.folder / "first"), store.read(new)
    assert second.record["plan"] == {**first.record["plan"], "blocks": 2}
    for column in ("arm", "load"):
        assert set(second.trials[column]) == set(first.trials[column])
    assert len(second.trials) == 2 * len(first.trials) == 8
    assert f"Next: execbench run results/{new.name} --blocks " in (new / "advice.txt").read_text()


# -- which arms ------------------------------------------------------------------------------------------


def names(plan: Plan) -> list[str]:
    return [arm.name for arm in plan.arms]


@pytest.mark.parametrize(
    ("strategies", "arms"),
    [
        (("thread", "default_pool"), ["thread", "default_pool"]),
        (("inline",), ["inline"]),  # and not inline-scaled-io, which has the same strategy
        (("process", "thread"), ["thread", "process"]),  # in the plan's order
        (("thread", "batch", "batch:over=process"), ["thread", "batch", "batch-over-process"]),
        (("supervised", "anyio_limiter"), ["supervised", "anyio_limiter"]),
    ],
)
def test_strategy_keeps_arms_of_that_name_and_adds_new_ones(
    strategies: tuple[str, ...], arms: list[str], planned: Planned
) -> None:
    keep(planned("run article --io-ms 8")[0])
    chosen = " ".join(f"--strategy {name}" for name in strategies)
    plan, _ = planned(f"run {RUN} {chosen} --blocks 60")
    assert names(plan) == arms
    assert (plan.blocks, plan.workload.io_ms, plan.twin) == (60, 8.0, True)
    assert plan.reference == ("inline" if "inline" in arms else None)


def test_a_strategy_that_is_not_an_arms_name_selects_every_arm_with_it(planned: Planned) -> None:
    keep(planned("run thrash")[0])
    every = names(plan_files.load("thrash"))
    assert names(planned(f"run {RUN} --strategy process")[0]) == every
    assert names(planned(f"run {RUN} --strategy 2-workers-1 --strategy process")[0]) == every
    assert names(planned(f"run {RUN} --strategy 2-workers-1 --strategy inline")[0]) == [
        "2-workers-1",
        "inline",
    ]


def test_an_added_arm_gets_the_defaults_and_not_the_options_of_other_arms(planned: Planned) -> None:
    keep(planned("run --strategy thread --workers 2 --inject queue=5 -c 3 --seed 4")[0])
    plan, _ = planned(f"run {RUN} --strategy thread --strategy process:workers=3 --strategy supervised")
    assert [(arm.name, arm.chosen.workers, arm.inject.queue_ms) for arm in plan.arms] == [
        ("thread", 2, 5.0),
        ("process-workers-3", 3, 0.0),
        ("supervised", None, 0.0),
    ]
    assert (plan.seed, str(plan.laws[0])) == (4, "closed(3)")


def test_the_error_for_an_unknown_strategy_suggests_the_nearest_name(
    planned: Planned, invoke: Invoke
) -> None:
    keep(planned("run --strategy thread")[0])
    assert "Did you mean 'process'?" in refused(invoke, "run", RUN, "--strategy", "proces")


def test_flags_change_a_repeated_plan_as_they_change_a_built_in_one(planned: Planned) -> None:
    keep(planned("run article")[0])
    for flags in ("--workers 2", "--io socket:3ms", "--workload synthetic", "-c 3 --requests 7", "--fresh"):
        assert planned(f"run {RUN} {flags}")[0].arms == planned(f"run article {flags}")[0].arms
        assert planned(f"run {RUN} {flags}")[0].laws == planned(f"run article {flags}")[0].laws
        assert planned(f"run {RUN} {flags}")[0].claims == planned(f"run article {flags}")[0].claims


# -- sweeps ----------------------------------------------------------------------------------------------

SWEEP = "sweep --strategy process --strategy inline --over workers=1,2 --workload synthetic"


def test_selected_settings_of_a_sweep_become_a_plan_of_these_arms(planned: Planned) -> None:
    sweep, _ = planned(SWEEP)
    keep(sweep)
    plan, _ = planned(f"run {RUN} --strategy process-workers-2 --strategy batch --blocks 24")
    assert names(plan) == ["process-workers-2", "batch"]
    assert (plan.sweep, plan.arms[0]) == (None, sweep.arms[1])


def test_a_flag_cannot_set_an_option_that_the_sweep_varied(planned: Planned, invoke: Invoke) -> None:
    keep(planned(SWEEP)[0])
    for more in ((), ("--strategy", "process-workers-1")):
        message = refused(invoke, "run", RUN, "--workers", "3", *more)
        assert "workers is both set and swept over." in message


# -- secrets ---------------------------------------------------------------------------------------------


def test_a_secret_header_that_was_not_recorded_must_be_given_again(
    planned: Planned, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "t0p")
    plan, _ = planned(
        "run --url a=http://127.0.0.1:1/ --url b=http://127.0.0.1:2/ -c 4 --header 'X-Tenant: a' "
        "--header 'Authorization: Bearer s3cret' --header 'X-Key: ${TOKEN}'"
    )
    keep(plan)
    assert "s3cret" not in Path(RUN, "run.json").read_text()
    message = refused(invoke, "run", RUN, "--header", "X-Tenant: b")
    assert "The value of the header Authorization is secret and was not kept with the run." in message
    assert "Give it again: --header 'Authorization: …'" in message
    same, _ = planned(f"run {RUN} --header 'authorization: Bearer s3cret'")
    assert dict(same.ask.headers) == {
        "X-Tenant": "a",
        "X-Key": "${TOKEN}",
        "authorization": "Bearer s3cret",
    }
    assert revealed(same) | {"ask": None} == revealed(plan) | {"ask": None}
    other, _ = planned(f"run {RUN} --header 'Authorization: Bearer ${{TOKEN}}' --header 'x-tenant: b'")
    assert dict(other.ask.headers)["x-tenant"] == "b"
    assert len(other.ask.headers) == 3
    assert "not kept" in refused(invoke, "capacity", RUN, "--slo", "p99 < 9 ms")


def test_url_flags_replace_the_recorded_addresses(planned: Planned) -> None:
    keep(planned("run --url a=http://127.0.0.1:1/ -c 4 --method put")[0])
    plan, _ = planned(f"run {RUN} --url b=http://127.0.0.1:2/")
    assert [(arm.name, arm.url) for arm in plan.arms] == [("b", "http://127.0.0.1:2/")]
    assert plan.ask.method == "PUT"


# -- capacity --------------------------------------------------------------------------------------------

CAPACITY = (
    "capacity --slo 'p99 < 100 ms' --slo 'errors < 0.1 %' --strategy thread --strategy batch:over=process"
    " --reference batch-over-process --window 3 --search-window 2.5 --blocks 3 --seed 5 --cap 50"
    " --timeout 4 --transport httpx --workload synthetic --server-processes 2 --no-self-check"
)


def keep_capacity(planned: Planned) -> tuple[Plan, Any, Any]:
    plan, objectives, ways, _ = planned(CAPACITY)
    kept = {"objectives": [str(one) for one in objectives], **ways.model_dump(), "searched": 9}
    keep(plan, capacity=kept)
    return plan, objectives, ways


def test_a_capacity_run_is_repeated_with_its_objectives_windows_and_blocks(planned: Planned) -> None:
    plan, objectives, ways = keep_capacity(planned)
    assert planned(f"capacity {RUN}")[:3] == (plan, objectives, ways)
    more, _, ways_then, _ = planned(f"capacity {RUN} --blocks 6")
    assert more == plan.model_copy(update={"blocks": 6})
    assert ways_then == ways.model_copy(update={"blocks": 6})


def test_flags_replace_the_recorded_options_of_a_capacity_run(planned: Planned) -> None:
    plan, _, ways = keep_capacity(planned)
    other, objectives, ways_then, _ = planned(
        f"capacity {RUN} --slo 'p95 < 9 ms' --window 7 --seed 6 --strategy thread --strategy inline"
    )
    assert [str(one) for one in objectives] == ["p95 latency < 9 ms"]
    assert ways_then == ways.model_copy(update={"window_s": 7.0, "seed": 6})
    assert (names(other), other.open_duration_s) == (["thread", "inline"], 7.0)
    assert other.arms[0] == plan.arms[0]


def test_run_repeats_the_servers_of_a_capacity_run(planned: Planned) -> None:
    """Loads, windows and blocks are the defaults of `run`: those of the capacity search do not apply."""
    capacity, _, _ = keep_capacity(planned)
    plan, _ = planned(f"run {RUN}")
    assert (plan.arms, plan.workload, plan.cap) == (capacity.arms, capacity.workload, 50)
    assert (plan.name, plan.blocks, [str(law) for law in plan.laws]) == ("flags", 24, ["closed(8)"])
    assert plan.open_duration_s != capacity.open_duration_s
    assert planned(f"run {RUN} -c 2 --blocks 7")[0] == plan.model_copy(
        update={"concurrency": (2,), "blocks": 7}
    )


def test_capacity_repeats_the_servers_of_a_plain_run(planned: Planned, invoke: Invoke) -> None:
    keep(planned("run article --precision 3% --limit --seed 3 --arrivals 'own(0.8)' --torch-threads 1")[0])
    plan, _, ways, _ = planned(f"capacity {RUN} --slo 'p99 < 100 ms' --strategy thread --strategy process")
    assert (plan.name, names(plan), plan.reference) == ("capacity", ["thread", "process"], None)
    assert (plan.twin, plan.precision, plan.limit, plan.claims) == (False, None, False, None)
    assert (plan.workload.torch_threads, plan.route, plan.seed) == (1, "GET /", 3)
    assert (ways.blocks, ways.seed, plan.blocks, plan.open_duration_s) == (12, 3, 12, 20.0)
    done = invoke("capacity", RUN)
    assert done.returncode == 2
    assert "No objective is given." in done.stderr


# -- folders without a plan ------------------------------------------------------------------------------


def test_a_run_of_execbench_load_is_refused_because_it_has_no_plan(invoke: Invoke) -> None:
    keep(None, load={"url": "http://127.0.0.1:1/x"})
    for command in ("run", "capacity"):
        message = refused(invoke, command, RUN)
        assert "is a run of `execbench load`, which has no plan." in message
        assert "`execbench load http://127.0.0.1:1/x`" in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "a-run is not a run of execbench: The file kept/a-run/run.json cannot be read: No such file"),
        ("{", "is not JSON"),
        ("[]", "has no valid key `schema`"),
        ('{"schema": 1}', "has layout 1, but this execbench reads layouts 2 to"),
        ('{"schema": 99}', "has layout 99"),
        ('{"schema": 4, "plan": {"arms": []}}', "is damaged: plan.arms"),
    ],
)
def test_a_folder_that_is_not_a_run_or_is_damaged_is_refused(
    text: str | None, message: str, invoke: Invoke
) -> None:
    Path(RUN).mkdir(parents=True)
    if text is not None:
        Path(RUN, "run.json").write_text(text)
    for command in ("run", "capacity"):
        assert message in refused(invoke, command, RUN)


def test_an_unknown_key_in_a_recorded_plan_is_named(planned: Planned, invoke: Invoke) -> None:
    plan, _ = planned("run --strategy thread")
    keep(plan.model_dump(mode="json") | {"warp": 9})
    message = refused(invoke, "run", RUN)
    assert "The recorded plan cannot be read: warp: there is no such key" in message


def test_keys_that_an_older_version_did_not_record_get_their_defaults(
    planned: Planned,
) -> None:
    plan, _ = planned("run --strategy thread -c 3 --workload synthetic")
    data = plan.model_dump(mode="json")
    for key in ("sweep", "ask", "notes", "ranking", "limit_s", "open_every", "claims"):
        del data[key]
    del data["workload"]["io"], data["workload"]["payloads"], data["arms"][0]["options"]
    keep(data, schema=2)
    assert planned(f"run {RUN}")[0] == plan


def test_a_built_in_plan_takes_precedence_over_a_folder_of_that_name(planned: Planned) -> None:
    keep(planned("run --strategy thread")[0], folder="smoke")
    assert planned("run smoke")[0].name == "smoke"
    assert planned("run ./smoke")[0].name == "flags"


def test_resume_accepts_the_runs_folder_as_its_plan(invoke: Invoke, tmp_path: Path) -> None:
    (reference, *_) = sorted(path.parent for path in CHECKOUT.glob("results/*-article/run.json"))
    shutil.copytree(reference, tmp_path / "again")
    done = invoke("run", "again", "--resume", "again", "--blocks", "30")
    assert done.returncode == 1
    assert "again is finished" in done.stderr
