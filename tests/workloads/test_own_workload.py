"""The user's own workload is found, checked before anything starts, and run like any other."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import running
from conftest import Execbench, Invoke

import strategies
from harness import environment, workloads
from harness.commands import init
from harness.errors import HarnessError, UsageError
from harness.plans import from_flags, plan_files
from harness.results import store
from harness.verdicts import same_work
from harness.wire import arrivals
from harness.wire.load_options import Texts
from harness.wire.options import WorkloadOptions
from harness.wire.records import Outcome
from harness.workloads.io import kinds

SHORT = ("--blocks", "1", "--duration", "0.2", "--no-self-check", "-c", "2")

GOOD = """
__version__ = "7"

class Result:
    def __init__(self, text):
        self.text = text
    def __reduce__(self):
        return Result, (self.text,)

def load():
    return str.upper

def predict(model, items):
    return [Result(model(item)) for item in items]

async def io(result):
    return {"said": result.text}

def payloads(seed):
    for number in range(3):
        yield f"text {seed}-{number}"
"""

Write = Callable[[str], Path]


@pytest.fixture(autouse=True)
def _no_module_stays() -> Iterator[None]:
    """Keep the modules that a test imports from other tests."""
    modules, path = set(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - modules:
        if name.startswith(("own_", "my_workload", "wrong")):
            del sys.modules[name]
    sys.path[:] = path


_numbers = itertools.count()


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file with a unique name, as Python caches modules by name."""

    def write_one(code: str) -> Path:
        path = tmp_path / f"own_{next(_numbers)}.py"
        path.write_text(code)
        return path

    return write_one


def options(path: Path, **more: Any) -> WorkloadOptions:
    return WorkloadOptions.model_validate({"name": str(path), **more})


def refused(name: str) -> str:
    with pytest.raises(UsageError) as caught:
        workloads.check(WorkloadOptions(name=name))
    assert caught.value.hint
    assert str(caught.value.what).count("\n") == 0
    return f"{caught.value.what} {caught.value.hint}"


# -- the template --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ran(shared: Execbench) -> store.Run:
    """A run of the unedited template in a thread and in a process."""
    assert shared("init").returncode == 0
    wanted = ("--strategy", "thread", "--strategy", "process", "--out", "run")
    done = shared("run", "--workload", "my_workload.py", *wanted, *SHORT)
    assert done.returncode == 0, done.stderr
    assert "nan" not in done.stdout
    return store.read(shared.folder / "run")


@pytest.mark.integration
def test_the_template_runs_unedited(ran: store.Run) -> None:
    assert set(ran.trials["arm"]) == {"thread", "process"}
    assert list(ran.trials["state"]) == ["ok", "ok"]
    assert len(ran.requests) > 10
    assert ran.requests["error"].fillna("").eq("").all()


@pytest.mark.integration
def test_the_templates_io_is_awaited_and_its_model_computes(ran: store.Run) -> None:
    assert ran.requests["io_ms"].min() >= 5.0
    assert ran.requests["model_cpu_ms"].median() > 1.0
    assert ran.trials["io_nominal_ms"].isna().all()


@pytest.mark.integration
def test_the_record_identifies_the_users_code(ran: store.Run, shared: Execbench) -> None:
    about = ran.record["arms"]["process"]["about"]
    assert about["model"] == "my_workload.py"
    assert about["version"] == "1"
    assert len(about["source_sha256"]) == 64
    assert about["own_io"] is True
    assert ran.record["plan"]["workload"]["name"] == str(shared.folder / "my_workload.py")


@pytest.mark.integration
def test_init_never_overwrites_a_file(ran: store.Run, shared: Execbench) -> None:
    before = (shared.folder / "my_workload.py").read_text()
    done = shared("init", "my_workload.py")
    assert done.returncode == 2
    assert "already exists" in done.stderr
    assert (shared.folder / "my_workload.py").read_text() == before


@pytest.mark.parametrize("name", ["workload.txt", "my-workload.py", "absent/workload.py"])
def test_init_refuses_names_that_cannot_be_run_or_written(
    invoke: Invoke, execbench: Execbench, name: str
) -> None:
    assert invoke("init", name).returncode in (1, 2)
    assert not list(execbench.folder.iterdir())


def test_init_leaves_no_partial_file_if_writing_fails(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        init._write(tmp_path / "mine.py", "half \ud800")
    assert not list(tmp_path.iterdir())


def test_init_suggests_the_next_command(invoke: Invoke) -> None:
    done = invoke("init", "own_shown.py")
    assert "execbench run --workload own_shown.py" in done.stdout
    assert "execbench serve thread --workload own_shown.py" in done.stdout


# -- wrong ones: a message and the way out, before anything starts -------------------------------------


PREDICTS = "def load(): ...\ndef predict(model, items): ...\n"
WRONG = {  # message about {path}, a file called {name} → code
    "{name} has no function predict. It should be: def predict(model, items)": "def load(): return 1",
    "{name} has no function predict.": "import io as predict\ndef load(): return 1",
    "{name} has no function load": "load = 1\ndef predict(model, items): return items",
    "load(path), but is called with no argument": "def load(path): ...\ndef predict(model, items): ...",
    "predict(items), but is called with two arguments": "def load(): ...\ndef predict(items): ...",
    "predict in {name} is async": "def load(): ...\nasync def predict(model, items): ...",
    "io in {name} is not async": f"{PREDICTS}def io(result): ...",
    "io(), but is called with one argument": f"{PREDICTS}async def io(): ...",
    "{name} has no function payloads": f"{PREDICTS}payloads = ['a']",
    "payloads in {name} returned 'abc'": f"{PREDICTS}def payloads(seed): return 'abc'",
    "payloads in {name} yielded 1, which is not a text": f"{PREDICTS}def payloads(seed): yield 1",
    "payloads in {name} yielded no text for the seed 0": f"{PREDICTS}def payloads(seed): return []",
    "ZeroDivisionError: division by zero ({path}, line 4)": f"{PREDICTS}def payloads(seed):\n  yield 1 / 0",
    "No module named 'absent_one' ({path}, line 3)": "import math\n\nimport absent_one",
    "SystemExit: not here ({path}, line 2)": "import sys\nsys.exit('not here')",
    "SyntaxError: invalid syntax": "def load(:\n",
}


@pytest.mark.parametrize("said", WRONG)
def test_wrong_functions_are_refused_with_the_right_signature(write: Write, said: str) -> None:
    path = write(WRONG[said])
    assert said.format(name=path.name, path=path) in refused(str(path))


def test_a_module_named_like_an_optional_function_is_not_mistaken_for_it(write: Write) -> None:
    assert workloads.create(options(write(f"import io\n{PREDICTS}"))).io is None


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "There is no file" in refused(str(tmp_path / "absent.py"))


def test_a_missing_module_and_a_failing_import_have_different_messages(tmp_path: Path) -> None:
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "broken.py").write_text("import nothing_of_that_name")
    sys.path.insert(0, str(tmp_path))
    assert "There is no module 'own_package.absent'" in refused("own_package.absent:x")
    assert "own_package.broken:x cannot be imported" in refused("own_package.broken:x")


def test_a_missing_attribute_is_refused_with_the_nearest_name(write: Write) -> None:
    path = write(f"class Model: ...\n{GOOD}")
    assert "has no attribute 'Modle'. Did you mean 'Model'?" in refused(f"{path}:Modle")


def test_a_class_that_needs_arguments_is_refused(write: Write) -> None:
    path = write("class Model:\n    def __init__(self, path): ...\n")
    assert "cannot be instantiated: TypeError" in refused(f"{path}:Model")


@pytest.mark.parametrize("name", ["json.py", "own_with.a_dot.py"])
def test_a_file_whose_module_name_is_taken_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(GOOD)
    assert (
        "Rename your file" in (message := refused(str(tmp_path / name))) or "Rename it to own_with" in message
    )


@pytest.mark.parametrize("name", ["a/b", "a b:c", ".", "x.:y"])
def test_a_name_of_neither_a_file_nor_a_module_is_refused(name: str) -> None:
    assert "neither a Python file nor a module" in refused(name)


def test_a_file_named_without_its_suffix_is_suggested(invoke: Invoke, execbench: Execbench) -> None:
    (execbench.folder / "own_model.py").write_text(GOOD)
    assert "Did you mean 'own_model.py'?" in invoke("run", "--workload", "own_model").stderr


SHOWN = (Path(__file__).parents[2] / "docs" / "howto" / "workload.md").read_text()


@pytest.mark.integration
@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("def load(): return 1", 2),
        ("def load(path): return 1\ndef predict(model, items): return items", 2),
        ("\n" * 11 + "def load(): raise OSError('no weights')\ndef predict(model, items): ...", 1),
    ],
    ids=["missing function", "wrong arity", "raises on load"],
)
def test_error_messages_match_the_documentation(
    execbench: Execbench, invoke: Invoke, code: str, exit_code: int
) -> None:
    (execbench.folder / "my_workload.py").write_text(code)
    run = invoke if exit_code == 2 else execbench  # refused before anything starts
    done = run("run", "--workload", "my_workload.py", "--strategy", "process", *SHORT)
    assert done.returncode == exit_code
    size_and_stage = r"\A(\d+ arms?, .*\n)?(starting servers …\n)?"
    assert re.sub(size_and_stage, "", done.stderr) in SHOWN
    assert "Error (workload)" in done.stderr
    assert not list(execbench.folder.glob("results/*"))


@pytest.mark.integration
@pytest.mark.parametrize(
    ("code", "said", "exit_code"),
    [
        ("def load(): return 1\ndef predict(model): return []\n", "is called with two arguments", 2),
        ("def load(): raise OSError('no weights')\ndef predict(model, items): ...", "line 1).", 1),
        ("def load(): return 1\ndef predict(model, items): return []", "returned 0 results for 1 item", 1),
        ("def load(): return 1\ndef predict(model, items):\n  return model / 0", "line 3).", 1),
    ],
)
def test_a_wrong_workload_gives_one_message_and_leaves_no_files(
    execbench: Execbench, invoke: Invoke, code: str, said: str, exit_code: int
) -> None:
    (execbench.folder / "wrong.py").write_text(code)
    wanted = ("--strategy", "supervised", "--strategy", "inline", "--out", "run")
    run = invoke if exit_code == 2 else execbench  # refused before anything starts
    done = run("run", "--workload", "wrong.py", *wanted, *SHORT)
    assert done.returncode == exit_code
    assert "Error (workload)" in done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (execbench.folder / "run").exists()


@pytest.mark.integration
def test_debug_shows_the_users_traceback(execbench: Execbench) -> None:
    (execbench.folder / "wrong.py").write_text(
        "def load():\n    raise OSError  # here\ndef predict(m, i): ..."
    )
    done = execbench("--debug", "run", "--workload", "wrong.py", "--strategy", "supervised", *SHORT)
    assert "raise OSError  # here" in done.stderr


# -- right ones, in every process ----------------------------------------------------------------------


def posted(url: str, text: str) -> tuple[int, Any]:
    wanted = urllib.request.Request(f"{url}/predict", json.dumps({"text": text}).encode())
    wanted.add_header("content-type", "application/json")
    try:
        with urllib.request.urlopen(wanted) as answer:
            return answer.status, json.load(answer)["answer"]
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["detail"]


ELSEWHERE: list[dict[str, Any]] = [
    {"strategy": "process"},
    {"strategy": "process", "options": {"start_method": "forkserver"}},
    {"strategy": "supervised"},
    {"strategy": "batch", "options": {"over": "process"}},
    {"strategy": "loky"},
    {"strategy": "pebble"},
    {"strategy": "thread", "server_processes": 2},
]


@pytest.mark.integration
@pytest.mark.parametrize("how", ELSEWHERE, ids=str)
def test_instances_of_the_users_classes_return_from_other_processes(
    write: Write, tmp_path: Path, how: dict[str, Any]
) -> None:
    assert strategies.get(how["strategy"]).why_not() is None  # make test installs the extras
    path = write(GOOD)
    with running.serving(tmp_path / "log", workload=options(path), **how) as child:
        assert posted(child.url, "hello") == (200, {"said": "HELLO"})


@pytest.mark.integration
def test_a_class_in_a_neighbouring_package_is_found_and_may_print(
    execbench: Execbench,
) -> None:
    (execbench.folder / "team").mkdir()
    (execbench.folder / "team" / "helper.py").write_text("def twice(text): return text * 2")
    (execbench.folder / "team" / "models.py").write_text(
        "from team.helper import twice\n"
        "class Model:\n"
        "    def load(self): print('loading')\n"
        "    def predict(self, model, items): return [twice(item) for item in items]\n"
        "    def payloads(self, seed): print('payloads'); yield 'x'\n"
    )
    (execbench.folder / "texts.txt").write_text("one\ntwo\n")
    words = ("--workload", "team.models:Model", "--payloads", "texts.txt", "--io-ms", "1")
    done = execbench("run", *words, "--strategy", "batch", "--strategy", "process", "--json", *SHORT)
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)
    (folder,) = (execbench.folder / "results").iterdir()
    found = store.read(folder)
    assert found.record["arms"]["batch"]["about"]["model"] == "team.models:Model"
    assert len(found.record["payloads_sha256"]) == 64
    assert set(found.trials["io_nominal_ms"]) == {1.0}


@pytest.mark.integration
def test_a_wrong_number_of_results_fails_instead_of_giving_wrong_answers(
    write: Write, tmp_path: Path
) -> None:
    path = write(
        "def load(): return 1\n"
        "def predict(model, items): return [item.upper() for item in items if item != 'lost']\n"
    )
    sent = ["a", "lost", "b", "c", "lost", "d"] * 4
    served = running.serving(tmp_path / "log", strategy="batch", workload=options(path))
    with served as child, ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(posted, itertools.repeat(child.url), sent))
    for text, (status, said) in zip(sent, answers, strict=True):
        if text == "lost":
            assert (status, "returned 0 results for 1 item" in said) == (500, True)
        else:
            assert (status, said) == (200, text.upper())


@pytest.mark.parametrize(
    ("result", "answer"),
    [("short", "short"), ({"a": [1]}, {"a": [1]}), ("x" * 2_000, "ok"), (float("nan"), "ok"), (b"", "ok")],
)
def test_the_answer_is_the_result_if_json_can_express_it_briefly(
    write: Write, result: Any, answer: Any
) -> None:
    assert workloads.create(options(write(GOOD))).answer(result) == answer


def test_a_large_result_does_not_block_the_event_loop(write: Write) -> None:
    workload = workloads.create(options(write(GOOD)))
    looked_at = []

    class Counted(list[float]):
        def __iter__(self) -> Iterator[float]:
            for number in super().__iter__():
                looked_at.append(number)
                yield number

    assert workload.answer(Counted([0.125] * 100_000)) == "ok"
    assert len(looked_at) < 1_000


def test_the_users_io_is_awaited_and_returns_the_answer(write: Write) -> None:
    chosen = options(write(GOOD))
    workload = workloads.create(chosen)

    async def found() -> Any:
        async with kinds.opened(workload, chosen) as ask:
            return (await ask(workload.predict(workload.load(), ["x"])[0])).value

    assert asyncio.run(found()) == {"said": "X"}


def test_without_own_io_or_a_flag_nothing_is_awaited(write: Write) -> None:
    chosen = options(write(PREDICTS))
    assert (chosen.io, chosen.io_ms) == ("sleep", 0.0)
    assert "io_ms" not in chosen.model_fields_set
    assert WorkloadOptions.model_validate_json(chosen.model_dump_json()) == chosen
    assert WorkloadOptions(name="package.module:Model").io_ms == 0.0

    async def others_had_their_turn() -> bool:
        turns: list[bool] = []
        async with kinds.opened(workloads.create(chosen), chosen) as ask:
            asyncio.get_running_loop().call_soon(turns.append, True)
            await ask("a result")
        return bool(turns)

    assert not asyncio.run(others_had_their_turn())


@pytest.mark.parametrize(
    "asked_for", [{"io_ms": 5.0}, {"io": "sleep"}, {"io": "sleep:5ms"}, {"io": "socket"}]
)
def test_io_set_by_a_flag_is_awaited(write: Write, asked_for: dict[str, Any]) -> None:
    assert options(write(PREDICTS), **asked_for).io_ms == 5.0


@pytest.mark.parametrize("name", workloads.NAMES)
def test_the_built_in_workloads_keep_the_articles_io(name: str) -> None:
    assert WorkloadOptions(name=name).io_ms == 5.0


def test_a_plans_io_applies_to_the_users_workload_but_defaults_do_not(write: Write) -> None:
    said = from_flags.Flags(workload={"name": str(write(PREDICTS))})
    assert from_flags.from_flags(said).workload.io_ms == 0.0
    assert from_flags.override(plan_files.load("article"), said).workload.io_ms == 5.0
    arm = from_flags.from_flags(said).arms[0].model_copy(update={"workload": {"torch_threads": 1}})
    assert arm.own_workload(from_flags.from_flags(said).workload).io_ms == 0.0


def test_an_io_option_without_effect_is_refused(write: Write) -> None:
    with pytest.raises(UsageError, match="has its own io function, so io_ms would have no effect"):
        workloads.check(options(write(GOOD), io_ms=3.0))


def test_the_users_io_replaces_a_plans_io_but_cannot_be_scaled(write: Write) -> None:
    smoke = plan_files.load("smoke")
    with_io, without = write(GOOD), write(GOOD.replace("async def io", "async def no_io"))
    own = from_flags.override(smoke, from_flags.Flags(workload={"name": str(with_io)}))
    assert "io_ms" not in own.workload.model_fields_set
    kept = from_flags.override(smoke, from_flags.Flags(workload={"name": str(without)}))
    assert kept.workload.io_ms == smoke.workload.io_ms
    with pytest.raises(UsageError, match="scales the I/O, and the workload has its own I/O"):
        from_flags.override(plan_files.load("article"), from_flags.Flags(workload={"name": str(with_io)}))


@pytest.mark.integration
def test_the_thread_limit_is_set_before_the_users_code_is_imported(write: Write, tmp_path: Path) -> None:
    code = "import os\nSEEN = os.environ.get('OMP_NUM_THREADS')\n"
    path = write(f"{code}def load(): ...\ndef predict(model, items): return [SEEN for _ in items]\n")
    with running.serving(tmp_path / "log", workload=options(path, torch_threads=3)) as child:
        assert posted(child.url, "x") == (200, "3")


def test_a_plan_can_name_the_users_workload_and_is_not_resumed_with_other_code_or_texts(
    invoke: Invoke, write: Write, tmp_path: Path
) -> None:
    path, file = write(GOOD), tmp_path / "texts.txt"
    file.write_text("a\n")
    plan = plan_files.make(
        {
            "name": "mine",
            "concurrency": [1],
            "requests": 1,
            "arms": [{"name": "a", "strategy": "inline"}],
            "workload": {"name": str(path), "payloads": str(file)},
        },
        source="plan",
    )
    about = {"source_sha256": workloads.source_sha256(plan.workload)}
    record = {
        "plan": plan.model_dump(mode="json"),
        "environment": environment.collect(),
        "payloads_sha256": workloads.payloads_sha256(plan.workload),
        "arms": {"a": {"about": about}},
    }
    for touched, said in ((path, f"The workload {path} is not what"), (file, f"The file of texts {file} is")):
        store.Writer(tmp_path / said).write_record(record)
        touched.write_text(f"{touched.read_text()}\n# or so\n")
        assert said in invoke("run", "--resume", str(tmp_path / said)).stderr
        touched.write_text(touched.read_text().removesuffix("\n# or so\n"))


def test_runs_with_different_code_are_not_compared() -> None:
    def record(sha256: str) -> dict[str, Any]:
        return {"arms": {"x": {"about": {"model": "my_workload.py", "source_sha256": sha256}}}}

    assert same_work.obstacles((record("a"), "x"), (record("a"), "x")) == []
    assert same_work.obstacles((record("a"), "x"), (record("b"), "x")) == ["source_sha256: a and b"]


# -- texts of their own --------------------------------------------------------------------------------


def texts(path: Path, seed: int, count: int) -> list[str]:
    return list(itertools.islice(workloads.texts(options(path), seed), count))


def test_texts_that_end_are_repeated(write: Write) -> None:
    assert texts(write(GOOD), seed=4, count=4) == ["text 4-0", "text 4-1", "text 4-2", "text 4-0"]


def test_without_the_users_texts_made_up_questions_are_sent(write: Write) -> None:
    path = write("def load(): ...\ndef predict(model, items): ...")
    assert texts(path, 1, 30) == list(itertools.islice(workloads.texts(WorkloadOptions(), 1), 30))
    assert workloads.create(options(path)).warmup_item == "How big is London"


def test_the_model_is_warmed_up_with_one_of_its_texts(write: Write, tmp_path: Path) -> None:
    path, file = write(GOOD), tmp_path / "texts.txt"
    file.write_text("first of the file\n")
    assert workloads.create(options(path)).warmup_item == "text 0-0"
    assert workloads.create(options(path, payloads=str(file))).warmup_item == "first of the file"


def loaded_with(path: Path, url: str, **load: Any) -> Outcome:
    chosen = Texts(workload=options(path), seed=1)
    return running.fire(f"{url}/predict", method="POST", texts=chosen, requests=12, **load)


@pytest.mark.integration
def test_prints_of_the_users_code_do_not_disturb_the_load_generator(write: Write, tmp_path: Path) -> None:
    path = write(
        f"import os\nos.system('echo at import')\n{GOOD}    print('in the midst')\n    yield 'last'\n"
    )
    with running.serving(tmp_path / "log", workload=options(path)) as child:
        assert Counter(shot.status for shot in loaded_with(path, child.url, concurrency=2).shots).keys() == {
            200
        }


@pytest.mark.integration
@pytest.mark.parametrize("load", [{"concurrency": 2}, {"arrivals": arrivals.parse("constant(50)")}], ids=str)
def test_texts_that_fail_during_a_run_end_it_with_one_message(
    write: Write, tmp_path: Path, load: dict[str, Any]
) -> None:
    path = write(GOOD.replace('text {seed}-{number}"', '{1 / (5 - seed - number)}"').replace("(3)", "(9)"))
    said = rf"ZeroDivisionError: .* \(.*{path.name}, line 21\)"
    with (
        running.serving(tmp_path / "log", workload=options(path)) as child,
        pytest.raises(HarnessError, match=said),
    ):
        loaded_with(path, child.url, **load)
