"""A workload of the user's own: found, checked before anything starts, and run like any other."""

from __future__ import annotations

import asyncio
import itertools
import json
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
from conftest import Execbench, Here

import strategies
from harness import environment, workloads
from harness.commands import init
from harness.errors import HarnessError, UsageError
from harness.plans import from_flags, plan_files
from harness.results import store
from harness.verdicts import same_work
from harness.wire import arrivals
from harness.wire.options import Texts, WorkloadOptions
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
    """What a test imports is no other test's."""
    modules, path = set(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - modules:
        if name.startswith(("own_", "my_workload", "wrong")):
            del sys.modules[name]
    sys.path[:] = path


_numbers = itertools.count()


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file with a name of its own: Python keeps modules by name."""

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
    """What `execbench init` writes, not edited, run in a thread and in a process."""
    assert shared("init").returncode == 0
    wanted = ("--strategy", "thread", "--strategy", "process", "--out", "run")
    done = shared("run", "--workload", "my_workload.py", *wanted, *SHORT)
    assert done.returncode == 0, done.stderr
    assert "nan" not in done.stdout
    return store.read(shared.folder / "run")


@pytest.mark.integration
def test_what_init_writes_runs_without_an_edit(ran: store.Run) -> None:
    assert set(ran.trials["arm"]) == {"thread", "process"}
    assert list(ran.trials["state"]) == ["ok", "ok"]
    assert len(ran.requests) > 10
    assert ran.requests["error"].fillna("").eq("").all()


@pytest.mark.integration
def test_its_io_is_awaited_and_its_model_computes(ran: store.Run) -> None:
    assert ran.requests["io_ms"].min() >= 5.0
    assert ran.requests["model_cpu_ms"].median() > 1.0
    assert ran.trials["io_nominal_ms"].isna().all()


@pytest.mark.integration
def test_the_record_says_which_code_it_was(ran: store.Run, shared: Execbench) -> None:
    about = ran.record["arms"]["process"]["about"]
    assert about["model"] == "my_workload.py"
    assert about["version"] == "1"
    assert len(about["source_sha256"]) == 64
    assert about["own_io"] is True
    assert ran.record["plan"]["workload"]["name"] == str(shared.folder / "my_workload.py")


@pytest.mark.integration
def test_init_never_writes_over_a_file(ran: store.Run, shared: Execbench) -> None:
    before = (shared.folder / "my_workload.py").read_text()
    done = shared("init", "my_workload.py")
    assert done.returncode == 2
    assert "is there already" in done.stderr
    assert (shared.folder / "my_workload.py").read_text() == before


@pytest.mark.parametrize("name", ["workload.txt", "my-workload.py", "absent/workload.py"])
def test_init_refuses_what_could_not_be_run_or_written(here: Here, execbench: Execbench, name: str) -> None:
    assert here("init", name).returncode in (1, 2)
    assert not list(execbench.folder.iterdir())


def test_init_leaves_no_half_a_file_where_it_cannot_write_all(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        init._write(tmp_path / "mine.py", "half \ud800")
    assert not list(tmp_path.iterdir())


def test_init_says_what_to_try(here: Here) -> None:
    done = here("init", "own_shown.py")
    assert "execbench run --workload own_shown.py" in done.stdout
    assert "execbench serve thread --workload own_shown.py" in done.stdout


# -- wrong ones: a message and the way out, before anything starts -------------------------------------


PREDICTS = "def load(): ...\ndef predict(model, items): ...\n"
WRONG = {  # what is said of {path}, whose name is {name} → code
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
def test_code_of_another_shape_is_refused_and_told_what_it_should_be(write: Write, said: str) -> None:
    path = write(WRONG[said])
    assert said.format(name=path.name, path=path) in refused(str(path))


def test_a_module_called_like_an_optional_function_is_not_taken_for_it(write: Write) -> None:
    assert workloads.create(options(write(f"import io\n{PREDICTS}"))).io is None


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "There is no file" in refused(str(tmp_path / "absent.py"))


def test_a_module_that_is_not_there_is_told_from_one_that_cannot_be_imported(tmp_path: Path) -> None:
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "broken.py").write_text("import nothing_of_that_name")
    sys.path.insert(0, str(tmp_path))
    assert "There is no module 'own_package.absent'" in refused("own_package.absent:x")
    assert "own_package.broken:x cannot be imported" in refused("own_package.broken:x")


def test_an_attribute_that_is_not_there_is_refused_with_the_nearest(write: Write) -> None:
    path = write(f"class Model: ...\n{GOOD}")
    assert "has no attribute 'Modle'. Did you mean 'Model'?" in refused(f"{path}:Modle")


def test_a_class_that_wants_arguments_is_refused(write: Write) -> None:
    path = write("class Model:\n    def __init__(self, path): ...\n")
    assert "cannot be instantiated: TypeError" in refused(f"{path}:Model")


@pytest.mark.parametrize("name", ["json.py", "own_with.a_dot.py"])
def test_a_file_that_python_could_not_tell_from_another_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(GOOD)
    assert (
        "Rename your file" in (message := refused(str(tmp_path / name))) or "Rename it to own_with" in message
    )


@pytest.mark.parametrize("name", ["a/b", "a b:c", ".", "x.:y"])
def test_what_names_neither_a_file_nor_a_module_is_refused(name: str) -> None:
    assert "neither a Python file nor a module" in refused(name)


def test_a_file_named_without_its_suffix_is_guessed(here: Here, execbench: Execbench) -> None:
    (execbench.folder / "own_model.py").write_text(GOOD)
    assert "Did you mean 'own_model.py'?" in here("run", "--workload", "own_model").stderr


SHOWN = (Path(__file__).parents[2] / "docs" / "own-workload.md").read_text()


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
def test_three_wrong_ones_are_told_as_the_page_shows(
    execbench: Execbench, here: Here, code: str, exit_code: int
) -> None:
    (execbench.folder / "my_workload.py").write_text(code)
    run = here if exit_code == 2 else execbench  # refused before anything starts
    done = run("run", "--workload", "my_workload.py", "--strategy", "process", *SHORT)
    assert done.returncode == exit_code
    assert done.stderr.removeprefix("starting servers …\n") in SHOWN
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
def test_a_wrong_workload_is_one_message_and_nothing_is_left(
    execbench: Execbench, here: Here, code: str, said: str, exit_code: int
) -> None:
    (execbench.folder / "wrong.py").write_text(code)
    wanted = ("--strategy", "supervised", "--strategy", "inline", "--out", "run")
    run = here if exit_code == 2 else execbench  # refused before anything starts
    done = run("run", "--workload", "wrong.py", *wanted, *SHORT)
    assert done.returncode == exit_code
    assert "Error (workload)" in done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (execbench.folder / "run").exists()


@pytest.mark.integration
def test_with_debug_their_own_traceback_is_shown(execbench: Execbench) -> None:
    (execbench.folder / "wrong.py").write_text(
        "def load():\n    raise OSError  # here\ndef predict(m, i): ..."
    )
    done = execbench("--debug", "run", "--workload", "wrong.py", "--strategy", "supervised", *SHORT)
    assert "raise OSError  # here" in done.stderr


# -- right ones, in every process ----------------------------------------------------------------------


def asked(url: str, text: str) -> tuple[int, Any]:
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
def test_results_of_their_own_class_come_back_from_other_processes(
    write: Write, tmp_path: Path, how: dict[str, Any]
) -> None:
    assert strategies.get(how["strategy"]).why_not() is None  # make test installs the extras
    path = write(GOOD)
    with running.serving(tmp_path / "log", workload=options(path), **how) as child:
        assert asked(child.url, "hello") == (200, {"said": "HELLO"})


@pytest.mark.integration
def test_a_class_in_a_package_beside_is_found_and_may_print_what_it_likes(
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
def test_a_wrong_number_of_results_fails_and_never_answers_with_anothers(
    write: Write, tmp_path: Path
) -> None:
    path = write(
        "def load(): return 1\n"
        "def predict(model, items): return [item.upper() for item in items if item != 'lost']\n"
    )
    sent = ["a", "lost", "b", "c", "lost", "d"] * 4
    served = running.serving(tmp_path / "log", strategy="batch", workload=options(path))
    with served as child, ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(asked, itertools.repeat(child.url), sent))
    for text, (status, said) in zip(sent, answers, strict=True):
        if text == "lost":
            assert (status, "returned 0 results for 1 item" in said) == (500, True)
        else:
            assert (status, said) == (200, text.upper())


@pytest.mark.parametrize(
    ("result", "answer"),
    [("short", "short"), ({"a": [1]}, {"a": [1]}), ("x" * 2_000, "ok"), (float("nan"), "ok"), (b"", "ok")],
)
def test_the_answer_is_the_result_where_json_can_say_it_in_short(
    write: Write, result: Any, answer: Any
) -> None:
    assert workloads.create(options(write(GOOD))).answer(result) == answer


def test_a_large_result_takes_no_time_of_the_event_loop(write: Write) -> None:
    workload = workloads.create(options(write(GOOD)))
    looked_at = []

    class Counted(list[float]):
        def __iter__(self) -> Iterator[float]:
            for number in super().__iter__():
                looked_at.append(number)
                yield number

    assert workload.answer(Counted([0.125] * 100_000)) == "ok"
    assert len(looked_at) < 1_000


def test_their_io_is_awaited_and_its_value_is_the_answer(write: Write) -> None:
    chosen = options(write(GOOD))
    workload = workloads.create(chosen)

    async def found() -> Any:
        async with kinds.opened(workload, chosen) as ask:
            return (await ask(workload.predict(workload.load(), ["x"])[0])).value

    assert asyncio.run(found()) == {"said": "X"}


def test_without_io_of_its_own_or_a_flag_nothing_is_awaited(write: Write) -> None:
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
def test_io_that_was_asked_for_is_awaited(write: Write, asked_for: dict[str, Any]) -> None:
    assert options(write(PREDICTS), **asked_for).io_ms == 5.0


@pytest.mark.parametrize("name", workloads.NAMES)
def test_the_built_in_workloads_keep_the_articles_io(name: str) -> None:
    assert WorkloadOptions(name=name).io_ms == 5.0


def test_a_plan_lends_its_io_to_a_workload_of_ones_own_and_flags_alone_lend_none(write: Write) -> None:
    said = from_flags.Flags(workload={"name": str(write(PREDICTS))})
    assert from_flags.from_flags(said).workload.io_ms == 0.0
    assert from_flags.override(plan_files.load("article"), said).workload.io_ms == 5.0
    arm = from_flags.from_flags(said).arms[0].model_copy(update={"workload": {"torch_threads": 1}})
    assert arm.own_workload(from_flags.from_flags(said).workload).io_ms == 0.0


def test_an_io_that_would_not_be_awaited_is_refused(write: Write) -> None:
    with pytest.raises(UsageError, match="has its own io function, so io_ms would have no effect"):
        workloads.check(options(write(GOOD), io_ms=3.0))


def test_a_plans_io_gives_way_to_theirs_but_cannot_be_scaled(write: Write) -> None:
    smoke = plan_files.load("smoke")
    with_io, without = write(GOOD), write(GOOD.replace("async def io", "async def no_io"))
    own = from_flags.override(smoke, from_flags.Flags(workload={"name": str(with_io)}))
    assert "io_ms" not in own.workload.model_fields_set
    kept = from_flags.override(smoke, from_flags.Flags(workload={"name": str(without)}))
    assert kept.workload.io_ms == smoke.workload.io_ms
    with pytest.raises(UsageError, match="scales the awaited I/O"):
        from_flags.override(plan_files.load("article"), from_flags.Flags(workload={"name": str(with_io)}))


@pytest.mark.integration
def test_a_thread_budget_stands_before_their_code_is_imported(write: Write, tmp_path: Path) -> None:
    code = "import os\nSEEN = os.environ.get('OMP_NUM_THREADS')\n"
    path = write(f"{code}def load(): ...\ndef predict(model, items): return [SEEN for _ in items]\n")
    with running.serving(tmp_path / "log", workload=options(path, torch_threads=3)) as child:
        assert asked(child.url, "x") == (200, "3")


def test_a_plan_of_their_own_can_name_it_and_is_not_resumed_with_other_code_or_texts(
    here: Here, write: Write, tmp_path: Path
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
        assert said in here("run", "--resume", str(tmp_path / said)).stderr
        touched.write_text(touched.read_text().removesuffix("\n# or so\n"))


def test_code_that_differs_is_other_work() -> None:
    def record(sha256: str) -> dict[str, Any]:
        return {"arms": {"x": {"about": {"model": "my_workload.py", "source_sha256": sha256}}}}

    assert same_work.obstacles((record("a"), "x"), (record("a"), "x")) == []
    assert same_work.obstacles((record("a"), "x"), (record("b"), "x")) == ["source_sha256: a and b"]


# -- texts of their own --------------------------------------------------------------------------------


def texts(path: Path, seed: int, count: int) -> list[str]:
    return list(itertools.islice(workloads.texts(options(path), seed), count))


def test_texts_that_end_begin_again(write: Write) -> None:
    assert texts(write(GOOD), seed=4, count=4) == ["text 4-0", "text 4-1", "text 4-2", "text 4-0"]


def test_without_texts_of_their_own_questions_are_asked(write: Write) -> None:
    path = write("def load(): ...\ndef predict(model, items): ...")
    assert texts(path, 1, 30) == list(itertools.islice(workloads.texts(WorkloadOptions(), 1), 30))
    assert workloads.create(options(path)).warmup_item == "How big is London"


def test_the_model_is_warmed_up_with_a_text_of_its_own(write: Write, tmp_path: Path) -> None:
    path, file = write(GOOD), tmp_path / "texts.txt"
    file.write_text("first of the file\n")
    assert workloads.create(options(path)).warmup_item == "text 0-0"
    assert workloads.create(options(path, payloads=str(file))).warmup_item == "first of the file"


def loaded_with(path: Path, url: str, **load: Any) -> Outcome:
    chosen = Texts(workload=options(path), seed=1)
    return running.fire(f"{url}/predict", method="POST", texts=chosen, requests=12, **load)


@pytest.mark.integration
def test_what_their_code_prints_does_not_get_between_load_generator_and_run(
    write: Write, tmp_path: Path
) -> None:
    path = write(
        f"import os\nos.system('echo at import')\n{GOOD}    print('in the midst')\n    yield 'last'\n"
    )
    with running.serving(tmp_path / "log", workload=options(path)) as child:
        assert Counter(shot.status for shot in loaded_with(path, child.url, concurrency=2).shots).keys() == {
            200
        }


@pytest.mark.integration
@pytest.mark.parametrize("load", [{"concurrency": 2}, {"arrivals": arrivals.parse("constant(50)")}], ids=str)
def test_texts_that_fail_in_mid_run_end_it_with_one_message(
    write: Write, tmp_path: Path, load: dict[str, Any]
) -> None:
    path = write(GOOD.replace('text {seed}-{number}"', '{1 / (5 - seed - number)}"').replace("(3)", "(9)"))
    said = rf"ZeroDivisionError: .* \(.*{path.name}, line 21\)"
    with (
        running.serving(tmp_path / "log", workload=options(path)) as child,
        pytest.raises(HarnessError, match=said),
    ):
        loaded_with(path, child.url, **load)
