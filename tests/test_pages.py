"""The commands of the README and of the tutorials and how-to pages work, in order, as a reader runs them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
from conftest import CHECKOUT, watched
from prefork import Prefork
from reading import LESS, Made, Reader, Step, blocks, lines, steps, with_less_work

from harness import cli
from harness.results import store
from harness.system import streams

DOCS = CHECKOUT / "docs"
README = CHECKOUT / "README.md"
FOLLOWED = [README, *sorted(DOCS.glob("tutorials/*.md")), *sorted(DOCS.glob("howto/*.md"))]
HISTORY = {"decisions", "studies", "development"}  # name commands as they were
SHOWN = [README, *sorted(path for path in DOCS.rglob("*.md") if not HISTORY & set(path.parts))]
OF_ITS_OWN_TEST = {"howto/app.md"}  # tests/server/test_own_app.py
# the reader's own service, which a page assumes
SERVICE = """
from fastapi import Body, FastAPI

app = FastAPI()


@app.post("/predict")
def predict(text: str = Body(embed=True)):
    return {"size": len(text)}
"""
BROUGHT = {"README.md": ("app.py", "changed.py")}  # page → files with that service
PREFIX = re.compile(r"^(?:\w+=\S+ +)*(?:\.venv/bin/)?execbench +")


def name_of(page: Path) -> str:
    return page.name if page == README else str(page.relative_to(DOCS))


class Command(NamedTuple):
    """A line of a page, and the files that the page says to save before it."""

    line: str
    files: tuple[Step, ...]


def commands(page: str) -> Iterator[Command]:
    files: list[Step] = []
    for step in steps(page):
        if step.file:
            files.append(step)
        else:
            yield Command(step.text, tuple(files))
            files.clear()


def followed() -> list[Any]:
    """The commands of all pages, in order, each with its page."""
    found = []
    for page in FOLLOWED:
        if name_of(page) not in OF_ITS_OWN_TEST:
            for command in commands(page.read_text()):
                real = re.match(r"execbench run article(?!.*--dry-run)", command.line)
                marks = pytest.mark.model if real else pytest.mark.integration
                found.append(pytest.param(page, command, marks=marks, id=f"{name_of(page)}: {command.line}"))
    return found


@pytest.fixture(scope="module")
def reader_of(
    tmp_path_factory: pytest.TempPathFactory, prefork: Prefork
) -> Iterator[Callable[[Path], Reader]]:
    """The reader of a page: one for all its commands, in a folder that is empty at first."""
    readers: dict[Path, Reader] = {}
    made: Made = {}
    with ExitStack() as stack:

        def found(page: Path) -> Reader:
            if page not in readers:
                execbench = stack.enter_context(watched(tmp_path_factory.mktemp(page.stem), prefork))
                readers[page] = stack.enter_context(Reader(page.read_text(), execbench, made))
                for name in BROUGHT.get(name_of(page), ()):
                    readers[page].save(Step(SERVICE, name))
            return readers[page]

        yield found


@pytest.mark.parametrize(("page", "command"), followed())
def test_every_command_of_a_page_works_in_the_order_of_the_page(
    page: Path, command: Command, reader_of: Callable[[Path], Reader]
) -> None:
    reader = reader_of(page)
    for step in command.files:
        reader.save(step)
    check(command.line, reader)


def check(line: str, reader: Reader) -> None:
    """Run a line. It must succeed, and what it measures must be without errors."""
    before = runs(reader.folder)
    done = reader.run(line)
    if done is None:
        return
    words = line.split()
    judges = words[:2] == ["execbench", "compare"]  # one block is too few for it, and its gate may fail
    assert done.returncode in ((0, 3, 4) if judges else (0,)), f"{line}\n{done.stdout}{done.stderr}"
    if words[:2] == ["execbench", "init"]:
        make_cheaper(reader.folder / "my_workload.py")
    for new in runs(reader.folder) - before:
        if words[0] == "execbench" and words[1] in LESS:
            assert (store.read(new).requests["error"] == "").all(), line
            assert "What to do" in done.stdout or "--json" in words, line


def runs(folder: Path) -> set[Path]:
    return {path.parent for path in folder.glob("results/*/run.json")}


def make_cheaper(workload: Path) -> None:
    """Reduce the sentences of the file to an eighth; test_own_workload.py tests it with all of them."""
    text = workload.read_text()
    assert "itertools.product(_WHO, " in text
    workload.write_text(text.replace("itertools.product(_WHO, ", "itertools.product(_WHO[:1], "))


# -- what is not run -----------------------------------------------------------------------------------


def commands_of(page: Path) -> list[str]:
    return [line for block in blocks(page.read_text(), "sh", "console") for line in lines(block)]


@pytest.mark.parametrize("page", [page for page in SHOWN if commands_of(page)], ids=name_of)
def test_every_command_that_a_page_shows_is_one_that_execbench_accepts(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "reserve_stdout_for_document", lambda: None)  # parsing --json does it
    refused = {line: why for line in commands_of(page) if (why := refusal(line))}
    assert refused == {}


def refusal(line: str) -> str:
    """Why the command line parser does not accept a line; empty if it does, and for other programs."""
    if not PREFIX.match(line):
        return ""
    words = shlex.split(re.split(r"\s(?:[|>&;]|&&|2>)", PREFIX.sub("", line))[0])
    words = [word for word in words if word not in ("--debug", "…")]
    if not words or words[0].startswith("--"):
        return ""
    group: Any = typer.main.get_command(cli.app)
    made = group.get_command(None, words[0])
    if made is None:
        return f"no command {words[0]}"
    try:
        made.make_context(words[0], words[1:])
    except Exception as error:  # noqa: BLE001 - whatever the parser raises is the answer
        return str(error) or type(error).__name__
    return ""


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("execbench run article --blocks 3", ""),
        ("execbench compare results/A --json > a.json", ""),
        ("PGPASSWORD=x .venv/bin/execbench run article --io pgvector", ""),
        ("execbench --debug run", ""),
        ("execbench runs", "no command runs"),
        ("execbench run --bloks 3", "No such option"),
        ("execbench load", "Missing parameter: url"),
        ("uvicorn app:app --nonsense", ""),
    ],
)
def test_a_wrong_command_on_a_page_is_found(line: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "reserve_stdout_for_document", lambda: None)
    found = refusal(line)
    assert why in found
    assert bool(why) == bool(found)


def test_every_target_of_make_that_a_page_names_exists() -> None:
    known = set(re.findall(r"^([a-z-]+):.*##", (CHECKOUT / "Makefile").read_text(), re.M))
    named = {
        target
        for page in SHOWN
        for line in commands_of(page)
        if line.startswith("make ")
        for target in re.findall(r"(?<= )([a-z-]+)(?= |$)", line)
    }
    assert "bench" in named
    assert named <= known


# -- how a page is read --------------------------------------------------------------------------------

PAGE = """# A page

Save this as `app.py`:

```python
PORT = 8020
```

```console
execbench init      # a comment
execbench run \\
    --blocks 24
uvicorn app:app --port 8020 &
```

```sh
execbench check
```

```python
shown = "only"
```
"""


def test_a_page_is_read_as_files_to_save_and_lines_to_run() -> None:
    assert list(steps(PAGE)) == [
        Step("PORT = 8020\n", "app.py"),
        Step("execbench init"),
        Step("execbench run --blocks 24"),
        Step("uvicorn app:app --port 8020 &"),
    ]


@pytest.mark.parametrize(
    ("line", "less"),
    [
        ("run --blocks 24 -c 4", "run -c 4 --blocks 1 --duration 0.3 --no-self-check"),
        ("run smoke --blocks 24 --dry-run", "run smoke --blocks 24 --dry-run"),
        ("sweep --minutes 10 -c 4", "sweep -c 4 --minutes 0.05 --duration 0.1 --no-self-check"),
        ("load http://a/ --think 2 --requests 900", "load http://a/ --requests 20 --think 0.05"),
        ("load http://a/ --arrivals replay(a.jsonl)", "load http://a/ --arrivals replay(a.jsonl)"),
        ("report results/mine --full", "report results/mine --full"),
    ],
)
def test_commands_of_pages_are_run_with_less_work(line: str, less: str) -> None:
    assert with_less_work(line.split()) == less.split()
