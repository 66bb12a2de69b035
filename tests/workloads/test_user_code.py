"""The user's code may print, log, return, consume and raise anything in our server and command line."""

from __future__ import annotations

import gc
import itertools
import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import running
from conftest import Execbench, wait_for
from workloads.test_own_workload import options, posted

from harness import workloads
from harness.client.__main__ import silence_loggers
from harness.commands.terminal import print_json
from harness.errors import HarnessError, UsageError, one_line
from harness.system import streams
from harness.workloads import json_bodies

Write = Callable[[str], Path]
_numbers = itertools.count()


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_one(code: str) -> Path:
        path = tmp_path / f"users_{next(_numbers)}.py"
        path.write_text(code)
        return path

    return write_one


# -- results and answers -------------------------------------------------------------------------------


class Hostile(list[int]):
    def __iter__(self) -> NoReturn:
        raise SystemExit

    __repr__ = __len__ = __iter__


class Mute(Exception):
    def __str__(self) -> NoReturn:
        raise SystemExit


class ArrayLike:
    """As NumPy's arrays and scalars are."""

    def __init__(self, shape: tuple[int, ...], value: object) -> None:
        self.shape = shape
        self._value = value

    def tolist(self) -> object:
        assert self.shape != (10**9,), "a large array must not be looked into"
        return self._value


def recursive() -> list[object]:
    made: list[object] = []
    made.append(made)
    return made


UNSAYABLE: list[Any] = [
    "\udcff",
    {"text": ["caf\udcc3"]},
    {"\ud800": 1},
    b"bytes",
    float("nan"),
    [float("inf")],
    {1, 2},
    10**5000,
    recursive(),
    Hostile([1]),
    {(1, 2): 3},
    object(),
    ArrayLike((2,), [float("nan"), 1.0]),
]


@pytest.mark.parametrize("value", UNSAYABLE, ids=lambda value: type(value).__name__)
def test_a_result_that_json_cannot_express_is_answered_with_ok(value: Any, write: Write) -> None:
    assert json.loads(json_bodies.body(value)) == {"answer": "ok"}
    workload = workloads.create(options(write("def load(): ...\ndef predict(model, items): return items\n")))
    assert workload.answer(value) == "ok"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("ä☃", "ä☃"),
        ({1: None}, {"1": None}),
        ("x" * 5_000, "x" * 5_000),
        (ArrayLike((), 0.5), 0.5),
        ({"v": [ArrayLike((2,), [1, 2])]}, {"v": [[1, 2]]}),
    ],
    ids=["text", "keys", "long", "scalar", "array"],
)
def test_a_result_that_json_can_express_is_the_answer_with_arrays_as_lists(value: Any, said: Any) -> None:
    assert json.loads(json_bodies.body(value)) == {"answer": said}


def test_numpy_values_are_answered_as_numbers_and_lists(write: Write) -> None:
    numpy = pytest.importorskip("numpy")
    said = {"p": numpy.float32(0.5), "n": numpy.int64(3), "is": numpy.bool_(True), "v": numpy.arange(3)}
    assert json.loads(json_bodies.body(said))["answer"] == {"p": 0.5, "n": 3, "is": True, "v": [0, 1, 2]}


def test_a_large_array_is_not_turned_into_a_list_for_a_short_answer() -> None:
    assert json_bodies.as_json(ArrayLike((10**9,), None), longest=1_000) is None


@pytest.mark.parametrize(
    "predict",
    [
        "while items: results.append(items.pop(0))",
        "items.extend(items); results = items[:1]",
        "results = iter(items)",
    ],
)
def test_predict_may_change_its_list_of_items(write: Write, predict: str) -> None:
    path = write(
        f"def load(): ...\ndef predict(model, items):\n    results = []\n    {predict}\n    return results\n"
    )
    sent = ["a"]
    workload = workloads.create(options(path))
    assert workload.predict(workload.load(), sent) == ["a"]
    assert sent == ["a"]


def test_results_that_never_end_are_refused(write: Write) -> None:
    path = write("import itertools\ndef load(): ...\ndef predict(model, items): return itertools.count()\n")
    with pytest.raises(HarnessError, match="returned too many results for 1 item"):
        workloads.create(options(path)).load()


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo \x1b[31m \ud800 three"), "ValueError: one two [31m three"),
        (Mute(), "Mute: (its message cannot be shown: SystemExit)"),
        (KeyError(), "KeyError"),
    ],
)
def test_any_exception_becomes_one_printable_line(error: Exception, line: str) -> None:
    assert one_line(error) == line
    assert len(one_line(ValueError("x" * 10**6))) <= 2_000


# -- the server ----------------------------------------------------------------------------------------

# silences logging in several ways, and prints bytes that are not UTF-8
DIFFICULT = """
import asyncio, logging, logging.config, os, sys
logging.config.dictConfig({"version": 1, "handlers": {"c": {"class": "logging.NullHandler"}},
                           "root": {"level": "CRITICAL", "handlers": ["c"]}})
logging.disable()
sys.stderr = open(os.devnull, "w")

class Mute(Exception):
    def __str__(self): raise ZeroDivisionError

def load(): return None

def predict(model, items):
    os.write(1, b"Gr\\xf6\\xdfe \\x00 without a newline")
    results = []
    while items:
        results.append(items.pop())
        if results[-1] == "bad": raise RuntimeError("tokenizer\\ngave up \\ud800")
        if results[-1] == "mute": raise Mute
        if results[-1] == "stop": next(iter(()))
    return results

async def io(result):
    if result == "io": raise KeyError("no such row")
    if result == "io-exit": raise SystemExit("no more rows")
    if result == "io-cancelled": raise asyncio.CancelledError("gave up")
    return {"text": "\\udcff"} if result == "surrogate" else result
"""


@pytest.mark.integration
def test_a_server_answers_with_the_reason_whatever_the_users_code_does(write: Write, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running.serving(log, workload=options(write(DIFFICULT))) as child:
        assert posted(child.url, "good") == (200, "good")
        assert posted(child.url, "surrogate") == (200, "ok")
        assert posted(child.url, "bad") == (500, "RuntimeError: tokenizer gave up")
        assert posted(child.url, "mute") == (500, "Mute: (its message cannot be shown: ZeroDivisionError)")
        assert posted(child.url, "stop") == (500, "RuntimeError: StopIteration")
        assert posted(child.url, "io") == (500, "KeyError: 'no such row'")
        assert posted(child.url, "io-exit") == (500, "RuntimeError: SystemExit: no more rows")
        assert posted(child.url, "io-cancelled") == (500, "RuntimeError: CancelledError: gave up")
        assert posted(child.url, "good") == (200, "good")
    said = log.read_text(errors="replace")
    assert "answered 500: RuntimeError: tokenizer gave up\n" in said
    assert "answered 500: KeyError: 'no such row'\n" in said


@pytest.mark.integration
def test_a_failed_start_is_reported_even_if_stderr_was_replaced(write: Write, tmp_path: Path) -> None:
    path = write(
        "import os, sys\n"
        "def load():\n    sys.stderr = open(os.devnull, 'w')\n    raise OSError('no weights')\n"
        "def predict(model, items): return items\n"
    )
    with (
        pytest.raises(HarnessError, match="raised OSError: no weights"),
        running.serving(tmp_path / "log", "inline", workload=options(path)),
    ):
        pytest.fail("it is ready")


def test_a_text_that_utf_8_cannot_encode_is_refused(write: Write) -> None:
    code = "def load(): ...\ndef predict(model, items): return items\n"
    path = write(code + "def payloads(seed): yield from ['a', 'caf\\udce9']\n")
    texts = workloads.create(options(path)).payloads(1)
    assert next(texts) == "a"
    with pytest.raises(UsageError, match=r"yielded 'caf\\udce9', which cannot be encoded in UTF-8"):
        next(texts)


LATER = """
import pathlib, sys
def load():
    sys.path.insert(0, str(pathlib.Path(__file__).parent / "vendored"))
    import their_types
    return their_types
def predict(model, items): return [model.Label(text) if text {test} "late" else text for text in items]
def payloads(seed): yield "first"
"""


@pytest.fixture
def vendored(tmp_path: Path) -> None:
    (tmp_path / "vendored").mkdir()
    (tmp_path / "vendored" / "their_types.py").write_text(
        "class Label:\n    def __init__(self, name): self.name = name\n"
    )


@pytest.mark.integration
@pytest.mark.usefixtures("vendored")
def test_a_result_that_the_server_cannot_unpickle_fails_the_start_with_one_message(
    write: Write, tmp_path: Path
) -> None:
    path = write(LATER.format(test="!="))
    with (
        pytest.raises(
            HarnessError, match=r"cannot be unpickled.*ModuleNotFoundError: .*their_types"
        ) as raised,
        running.serving(tmp_path / "log", "process", workload=options(path)),
    ):
        pytest.fail("it is ready")
    assert (raised.value.stage, raised.value.exit_code) == ("workload", 1)


@pytest.mark.integration
@pytest.mark.usefixtures("vendored")
def test_a_later_result_that_cannot_be_unpickled_fails_only_its_request(write: Write, tmp_path: Path) -> None:
    path = write(LATER.format(test="=="))
    with running.serving(tmp_path / "log", "process", workload=options(path)) as child:
        status, detail = posted(child.url, "late")
        assert (status, "No module named 'their_types'" in detail) == (500, True)
        assert posted(child.url, "next") == (200, "next")


# -- the command line ----------------------------------------------------------------------------------

PRINTS = """
import atexit, os, subprocess, sys, threading, warnings
os.system("echo from a shell")
os.write(1, b"from C\\n")
subprocess.run(["echo", "from a child"])
print("from Python")
print("to the first stdout", file=sys.__stdout__)
warnings.warn("a warning")
thread = threading.Thread(target=print, args=("from a thread",))
thread.start()
thread.join()
atexit.register(print, "at exit")
atexit.register(os.write, 1, b"at exit, from C")
def load(): ...
def predict(model, items): return items
"""


@pytest.mark.integration
def test_stdout_is_one_json_document_whatever_the_users_code_prints(execbench: Execbench) -> None:
    (execbench.folder / "prints.py").write_text(PRINTS)
    words = ("--workload", "prints.py", "--strategy", "inline", "-c", "1", "--requests", "3", "--blocks", "1")
    done = execbench("run", *words, "--no-self-check", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)
    assert "from a child" in done.stderr


def test_a_replaced_stdout_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    streams.reserve_stdout_for_document()
    print_json({"a": 1})
    assert json.loads(capsys.readouterr().out) == {"a": 1}


def test_the_users_root_logger_gets_no_line_per_request(monkeypatch: pytest.MonkeyPatch) -> None:
    libraries = [logging.getLogger(name) for name in ("httpx", "httpcore", "aiohttp", "asyncio")]
    before = [library.level for library in libraries]
    monkeypatch.setattr(logging.root, "level", logging.DEBUG)
    try:
        silence_loggers()
        assert not any(library.isEnabledFor(logging.INFO) for library in libraries)
        assert not logging.getLogger("httpcore.connection").isEnabledFor(logging.DEBUG)
    finally:
        for library, level in zip(libraries, before, strict=True):
            library.setLevel(level)


def test_streams_wrapped_by_the_users_code_stay_open(write: Write) -> None:
    path = write(
        "import io, sys\n"
        "sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding='utf-8')\n"
        "sys.stderr = io.TextIOWrapper(sys.stderr.buffer, encoding='utf-8')\n"
        "def load(): ...\ndef predict(model, items): return items\n"
    )
    workloads.create(options(path)).load()
    gc.collect()
    sys.stderr.write("still open\n")
    assert not sys.stderr.buffer.closed


@pytest.mark.integration
def test_serve_shows_bytes_that_are_not_text_and_continues(execbench: Execbench) -> None:
    (execbench.folder / "difficult.py").write_text(DIFFICULT)
    log = execbench.folder / "shown"
    with log.open("wb") as shown:
        process = execbench.start(
            "serve",
            "inline",
            "--workload",
            "difficult.py",
            "--port",
            "0",
            stderr=shown,
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        (url,) = re.findall(r"http://[0-9.:]+", process.stdout.readline())
        assert posted(url, "good") == (200, "good")
        wait_for(lambda: "Gr\ufffd\ufffde \x00 without" in log.read_text(errors="strict"), 10)
        assert posted(url, "good") == (200, "good")
        assert process.poll() is None
        process.terminate()
        process.wait(20)
