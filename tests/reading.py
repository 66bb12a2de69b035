"""Follows a page as a reader would: in an empty folder, from top to bottom."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from conftest import CHECKOUT, Execbench, wait_for
from ports import free_port

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
SAVED_AS = re.compile(r"[Ss]ave (?:this|it) as\s+`([^`\s]+)`:\s*$")
PORT = re.compile(r"(?:127\.0\.0\.1|localhost):(\d{4,5})\b")
COMMITTED = re.compile(r"results/(\d{8}-\d{6}-\S+?)(?=[:/\s]|$)")
OTHER_PROGRAMS = ("cat", "cp", "curl", "head", "ls", "mkdir", "printf", "python", "sed")
NOT_RUN = ("make", "pip", "source")  # their lines need a network or minutes
ENDS_WITHIN_S = 170.0
SERVES_WITHIN_S = 60.0


# flags and models → the folder of the run that was made with them, and how its command ended
Made = dict[tuple[str, ...], tuple[Path, subprocess.CompletedProcess[str]]]


class Step(NamedTuple):
    """What a page asks its reader to do: to save a file, or to run a command."""

    text: str
    file: str = ""


def blocks(page: str, *languages: str) -> Iterator[str]:
    """The fenced blocks of a page in these languages."""
    return (found[2] for found in BLOCK.finditer(page) if found[1] in languages)


def lines(block: str) -> list[str]:
    """The commands of a block, without comments; a line that ends in a backslash goes on in the next."""
    joined = re.sub(r"\\\n\s*", "", block)
    bare = (re.sub(r"(^|\s+)#(\s.*)?$", "", line).strip() for line in joined.splitlines())
    return [line for line in bare if line]


def steps(page: str) -> Iterator[Step]:
    """What the page asks for, in order: files that it says to save, and the lines of its console blocks."""
    begin = 0
    for found in BLOCK.finditer(page):
        if named := SAVED_AS.search(page[begin : found.start()]):
            yield Step(found[2], named[1])
        elif found[1] == "console":
            yield from map(Step, lines(found[2]))
        begin = found.end()


# flag → its value in place of the page's; None for a flag without a value
_ONE_BLOCK = {"--blocks": "1", "--duration": "0.3", "--no-self-check": None}
LESS: dict[str, dict[str, str | None]] = {
    "run": _ONE_BLOCK,
    "sweep": _ONE_BLOCK,
    "load": {"--requests": "20"},
    "capacity": {"--blocks": "2", "--window": "0.5", "--search-window": "0.5", "--no-self-check": None},
}
IN_MINUTES: dict[str, str | None] = {"--minutes": "0.05", "--duration": "0.1", "--no-self-check": None}
QUICK = ("compare", "init", "list", "reference", "report", "schema", "settings")  # run as they are
# the real model: one arm in place of all; one thread of torch, because other tests run at the same time
ON_THE_MODEL: dict[str, str | None] = {
    "--strategy": "thread",
    "--no-twin": None,
    "--blocks": "1",
    "--requests": "8",
    "--concurrency": "2",
    "--torch-threads": "1",
    "--no-self-check": None,
}


def with_less_work(words: Sequence[str]) -> list[str]:
    """The words of an `execbench` command, changed so that it takes seconds."""
    if "--dry-run" in words or words[0] not in LESS:
        return list(words)
    less = _less(words)
    kept, skipped = [], False
    for word in words:
        if skipped:
            skipped = False
        elif word in less:
            skipped = less[word] is not None
        else:
            kept.append(word)
    return [*kept, *(word for pair in less.items() for word in pair if word is not None)]


def _less(words: Sequence[str]) -> dict[str, str | None]:
    less = ON_THE_MODEL if words[:2] == ["run", "article"] else LESS[words[0]]
    if "--minutes" in words:
        less = IN_MINUTES
    if "pgvector" in words:
        less = less | {"--io-rows": "200"}
    if words[0] == "load" and any("replay(" in word for word in words):
        less = {}  # all of a recording is sent
    if words[0] == "load" and "--think" in words:
        less = less | {"--think": "0.05"}
    return less


class Reader:
    """Follows one page in the folder of `execbench`, with free ports in place of the page's."""

    def __init__(self, page: str, execbench: Execbench, made: Made) -> None:
        """`made` is shared by the readers of all pages: runs with the same flags are made once and copied."""
        self.folder = execbench.folder
        self._execbench = execbench
        self._made = made
        self._ports = {port: str(free_port()) for port in dict.fromkeys(PORT.findall(page))}
        self._servers = ExitStack()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *raised: object) -> None:
        self._servers.close()

    def save(self, step: Step) -> None:
        """Save a file of the page."""
        path = self.folder / step.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._with_ports(step.text))

    def run(self, line: str) -> subprocess.CompletedProcess[str] | None:
        """Run a line of the page until it ends; None for a server, which goes on, and for what is not run."""
        line = self._with_ports(line)
        for name in COMMITTED.findall(line):
            self._fetch(name)
        words = shlex.split(line)
        if words[0] in NOT_RUN or (words[0] == "curl" and shutil.which("curl") is None):
            return None
        if words[-1] == "&":
            self._servers.enter_context(self._serving(words[:-1]))
            return None
        if words[0] == "execbench":
            return self._run_execbench(words[1:])
        assert words[0] in OTHER_PROGRAMS, f"cannot run `{line}`: if it needs a network or minutes, use ```sh"
        return self._run_other(line)

    def _run_execbench(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        words, _, file = _parted(words, ">")
        assert words[0].startswith("--") or words[0] in LESS or words[0] in QUICK, (
            f"`execbench {words[0]}` takes minutes: use ```sh"
        )
        done = self._made_once(with_less_work(words))
        if file:
            (self.folder / file[0]).write_text(done.stdout)
        return done

    def _made_once(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a command, or copy the run that another page made with the same flags and model."""
        if words[:2] != ["run", "--workload"] or "--out" not in words:
            return self._execbench(*words, within_s=ENDS_WITHIN_S)
        at = words.index("--out")
        out, model = words[at + 1], self.folder / words[2]
        texts = (path.read_text() for path in (model, self.folder / "texts.txt") if path.is_file())
        key = (*words[:at], *words[at + 2 :], *texts)
        if key not in self._made:
            done = self._execbench(*words, within_s=ENDS_WITHIN_S)
            if done.returncode == 0:
                self._made[key] = (self.folder / out, done)
            return done
        run, done = self._made[key]
        shutil.copytree(run, self.folder / out)
        return done

    def _run_other(self, line: str) -> subprocess.CompletedProcess[str]:
        """Run a line by the shell, with the files of the checkout in reach, as the pages assume."""
        linked = [self.folder / name for name in ("harness", "strategies")]
        for link in linked:
            link.symlink_to(CHECKOUT / link.name)
        try:
            return subprocess.run(
                line, shell=True, cwd=self.folder, env=self._environment(), capture_output=True, text=True
            )
        finally:
            for link in linked:
                link.unlink()

    @contextmanager
    def _serving(self, words: list[str]) -> Iterator[None]:
        """A server of the page, which listens when this begins and has ended when it ends."""
        ports = [word for word in words if word in self._ports.values()]
        port = ports[0] if ports else self._with_ports("127.0.0.1:8000").rpartition(":")[2]
        words = words if ports else [*words, "--port", port]
        if words[0] == "execbench":
            process = self._execbench.start(*words[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        else:
            process = self._started(words)
        try:
            wait_for(lambda: process.poll() is not None or _listens(port), SERVES_WITHIN_S)
            assert process.poll() is None, f"{shlex.join(words)} has ended with {process.returncode}"
            yield
        finally:
            process.terminate()
            process.wait(20)

    def _started(self, words: list[str]) -> subprocess.Popen[str]:
        python = words[1:] if words[0] == "python" else ["-m", *words]
        with (self.folder / "server.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *python],
                cwd=self.folder,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": ""},  # a reader's service knows no checkout
                stdout=log,
                stderr=log,
                text=True,
            )

    def _environment(self) -> Mapping[str, str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "PYTHONPATH": str(CHECKOUT), "MPLBACKEND": "agg"}

    def _fetch(self, name: str) -> None:
        """Copy a run of the repository to the folder, which is a checkout for the reader."""
        run = self.folder / "results" / name
        if (CHECKOUT / "results" / name).is_dir() and not run.exists():
            shutil.copytree(CHECKOUT / "results" / name, run, ignore=shutil.ignore_patterns("logs"))

    def _with_ports(self, text: str) -> str:
        for written, port in self._ports.items():
            text = re.sub(rf"\b{written}\b", port, text)
        return text


def _parted(words: list[str], mark: str) -> tuple[list[str], str, list[str]]:
    """As `str.partition`, of words."""
    if mark not in words:
        return words, "", []
    at = words.index(mark)
    return words[:at], mark, words[at + 1 :]


def _listens(port: str) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", int(port))) == 0
