"""The command that a report ends with: run as it stands, it asks for what the run was."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Here
from hypothesis import given
from hypothesis import strategies as st
from outside import TEXTS, often

from harness.plans import again, plan_files
from harness.plans.plan import Plan
from harness.system.printable import one_line

NEEDS_PG = pytest.mark.integration  # its packages are an extra, which make quick has not

Asked = Callable[[str], Any]


@pytest.fixture
def asked(here: Here, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """What a command line asks for; it is not run."""
    found: list[tuple[Any, ...]] = []
    for place in ("run.run_new", "sweep.run_new", "capacity._run"):
        monkeypatch.setattr(f"harness.commands.{place}", lambda *given, **_: found.append(given))
    Path("texts.txt").write_text("a text\n")

    def ask(line: str) -> Any:
        done = here(*shlex.split(line.removeprefix("execbench ")))
        assert done.returncode == 0, done.stderr
        return found.pop()

    return ask


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Workloads of the user's own; in one folder, as Python keeps a module by its name."""
    folder = tmp_path_factory.mktemp("own")
    needed = "def load(): ...\ndef predict(model, items): return items\n"
    (folder / "own_again.py").write_text(needed)
    (folder / "own_io_again.py").write_text(needed + "async def io(result): ...\n")
    return folder


def record(plan: Plan, **more: Any) -> dict[str, Any]:
    return {"plan": plan.model_dump(mode="json"), **more}


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
        "run --rate 30 --arrivals 'burst(20, 0.5)' --cap 50 --transport httpx --fresh --payloads texts.txt",
        "run --url a=http://127.0.0.1:1/ --url b=http://127.0.0.1:2/ --method put --expect-status 201"
        " --url-pid b=11 --url-pid b=12 --exclude-foreign-cpu 0.5"
        " --header 'X-Tenant: a b' --body '{\"q\": \"{text}\"}' --payloads texts.txt --ping-path /ping",
        "sweep --strategy thread --over workers=1,2 --over setup_ms=0,0.5 --workload synthetic --resident",
        "sweep --strategy batch:max_batch=4 --over over=thread,process --workers 2 --fresh --requests 20",
    ],
)
def test_it_asks_for_the_plan_that_was_run(line: str, asked: Asked, own: Path) -> None:
    plan, _ = asked(line.replace("{own}", str(own / "own_again.py")))
    same, _ = asked(again.command(record(plan)))
    more, _ = asked(again.command(record(plan), blocks=77))
    if not line.startswith("run --strategy thread --option"):  # what an arm is called says its options then
        assert same == plan
    assert [arm.chosen for arm in same.arms] == [arm.chosen for arm in plan.arms]
    assert more == same.model_copy(update={"blocks": 77})


@pytest.mark.parametrize("plan", ["smoke", "--strategy thread -c 4"])
def test_of_a_workload_with_io_of_its_own_no_option_of_io_is_repeated(
    plan: str, asked: Asked, own: Path
) -> None:
    """It would be refused: nobody could obey it."""
    wanted, _ = asked(f"run {plan} --workload {own / 'own_io_again.py'}")
    arms = {arm.name: {"about": {"own_io": True}} for arm in wanted.arms}
    same, _ = asked(again.command(record(wanted, arms=arms)))
    assert same == wanted


def test_arms_that_flags_have_changed_are_written_out_with_what_makes_them(asked: Asked) -> None:
    plan, _ = asked("run --strategy thread --strategy inline --workers 2 --reference inline")
    line = again.command(record(plan))
    assert "--strategy thread:workers=2 --strategy inline --reference inline" in line
    same, _ = asked(line)
    assert [(arm.strategy, arm.workers) for arm in same.arms] == [("thread", 2), ("inline", None)]
    assert same.reference_arm.strategy == "inline"


def test_two_arms_of_a_plan_are_named_and_a_reference_that_is_neither_is_not(asked: Asked) -> None:
    plan, _ = asked("run article --io-ms 8")
    line = again.command(record(plan), arms=("thread", "default_pool"), blocks=60)
    assert line == "execbench run article --strategy thread --strategy default_pool --io-ms 8 --blocks 60"
    fewer, _ = asked(line)
    assert [arm.name for arm in fewer.arms] == ["thread", "default_pool"]


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("run --strategy thread --seed 4 -c 3 --duration 1", ["thread", "inline", "process"]),
        ("run article --strategy default_pool -c 3", ["default_pool", "inline", "thread", "process"]),
        ("run thrash --strategy 2-workers-1 -c 3", [arm.name for arm in plan_files.load("thrash").arms]),
    ],
)
def test_strategies_beside_a_lone_one_are_run_as_it_was(line: str, names: list[str], asked: Asked) -> None:
    plan, _ = asked(line)
    more, _ = asked(again.beside(record(plan), plan.arms[0].name, ("inline", "thread", "process")))
    assert set(names) <= {arm.name for arm in more.arms}
    assert (more.seed, more.laws, more.duration_s) == (plan.seed, plan.laws, plan.duration_s)


@pytest.mark.parametrize(
    "said",
    [
        {"settle_s": 1.0},
        {"delta_latency": 0.2},
        {"arms": [{"name": "a", "strategy": "thread", "workload": {"torch_threads": 1}}]},
        {"arms": [{"name": "a", "strategy": "thread"}, {"name": "b", "strategy": "thread"}]},
        {"workload": {"name": "synthetic", "setup_ms": 20.0}},
        {"name": "article"},
    ],
    ids=str,
)
def test_a_file_that_flags_cannot_say_has_no_command(said: dict[str, Any]) -> None:
    mine = {
        "name": "mine",
        "concurrency": [2],
        "duration_s": 0.5,
        "requests_per_user": 5,
        "settle_s": 0.1,
        "arms": [{"name": "thread", "strategy": "thread"}],
    }
    sayable = plan_files.make(mine, source="plan")
    assert again.command(record(sayable)) == "execbench run --strategy thread -c 2"
    assert again.command(record(plan_files.make(mine | said, source="plan"))) == ""
    assert again.command({"plan": None}) == ""


def test_capacity_is_asked_for_with_everything_it_was_told(asked: Asked) -> None:
    plan, objectives, ways, _ = asked(
        "capacity --slo 'p99 < 100 ms' --slo 'errors < 0.1 %' --strategy thread --strategy batch:over=process"
        " --reference batch-over-process --window 3 --search-window 2.5 --blocks 3 --seed 5 --cap 50"
        " --timeout 4 --transport httpx --workload synthetic --server-processes 2 --no-self-check"
    )
    asked_for = {"objectives": [str(one) for one in objectives], **ways._asdict(), "searched": 9}
    line = again.capacity(record(plan, capacity=asked_for), blocks=6)
    again_, objectives_again, ways_again, _ = asked(line)
    assert again_ == plan.model_copy(update={"blocks": 6})
    assert (objectives_again, ways_again) == (objectives, ways._replace(blocks=6))


def test_a_load_is_repeated_with_more_users_and_with_what_it_asked() -> None:
    told = {
        "url": "http://x/",
        "method": "POST",
        "headers": [["X-Tenant", "a"]],
        "body": '{"q": "{text}"}',
        "texts": {"workload": {"payloads": "/tmp/texts.txt"}, "seed": 3},
        "expected_status": 201,
        "timeout_s": 5.0,
        "transport": "aiohttp",
    }
    assert shlex.split(again.load({"plan": None, "load": told}, "http://x/", users=16)) == [
        *("execbench", "load", "http://x/", "-c", "16", "--method", "POST", "--header", "X-Tenant: a"),
        *("--body", '{"q": "{text}"}', "--expect-status", "201"),
        *("--payloads", "/tmp/texts.txt", "--seed", "3", "--timeout", "5"),
    ]
    hidden = {"url": "http://x/", "headers": [["Authorization", "(kept secret)"]]}
    said = shlex.split(again.load({"plan": None, "load": hidden}, "http://x/", users=16))
    assert said[-2:] == ["--header", "Authorization: ${HEADER_AUTHORIZATION}"]


@often
@given(st.lists(TEXTS, min_size=1))
def test_a_shell_reads_back_the_words_or_there_is_no_line(words: list[str]) -> None:
    line = again.shell_line(words)
    assert line == one_line(line)
    assert line == "" or shlex.split(line) == words


@pytest.mark.parametrize("body", ["--help", "$(touch x) `y` !! ~ a;b '\""])
def test_no_value_becomes_an_option_or_another_command(body: str, asked: Asked) -> None:
    plan, _ = asked(f"run --url a=http://127.0.0.1:1/ -c 4 --body {shlex.quote(body)}")
    same, _ = asked(again.command(record(plan)))
    assert same.ask.body == body


@pytest.mark.parametrize("word", ["a\nrm -r x", "\x1b[31m", "a\u202eb", "\t", "\ud800"])
def test_there_is_no_command_for_what_cannot_be_pasted(word: str) -> None:
    assert again.shell_line(["execbench", word]) == ""


def test_an_address_that_would_be_an_option_makes_no_command() -> None:
    assert again.load({}, "http://a.example/", users=2) == "execbench load http://a.example/ -c 2"
    assert again.load({}, "--out=x", users=2) == ""
