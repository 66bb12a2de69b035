"""The peers: their services, their requirements, and how their environments are made."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import CHECKOUT, Invoke

from harness.commands import peers as command
from harness.errors import HarnessError
from harness.evidence.peers import answers, environments
from harness.evidence.peers.environments import SOURCES, Environment, make_all
from harness.plans import filled_command

PEERS = environments.names()
OFFLINE = ("--no-index",)


def pins(path: Path) -> dict[str, str]:
    """The exact versions in a file of requirements, and in the files that it includes."""
    found: dict[str, str] = {}
    for line in path.read_text().splitlines():
        if line.startswith("-r "):
            found |= pins(path.parent / line.removeprefix("-r "))
        elif line and not line.startswith("#"):
            name, exactly, version = line.partition("==")
            assert exactly, f"{path}: {line}"
            found[name] = version
    return found


def test_the_peers_are_the_folders_with_a_service() -> None:
    assert PEERS == ["bentoml", "litserve", "mosec", "ray_serve"]
    assert all((SOURCES / name / "service.py").is_file() for name in PEERS)


@pytest.mark.parametrize("name", PEERS)
def test_a_service_runs_the_model_in_the_versions_of_our_own_app(name: str) -> None:
    ours = pins(CHECKOUT / "constraints.txt")
    theirs = pins(SOURCES / name / environments.REQUIREMENTS)
    assert {"torch", "transformers", "sentence-transformers", "tokenizers", "numpy"} < theirs.keys()
    assert {key: version for key, version in theirs.items() if key in ours} == {
        key: version for key, version in ours.items() if key in theirs
    }
    assert theirs["torch"] == "2.13.0"
    assert len(theirs) == len(pins(SOURCES / "model.txt")) + 1  # the framework


@pytest.mark.parametrize("name", PEERS)
def test_a_service_is_valid_python_that_listens_on_loopback_or_leaves_that_to_its_command(name: str) -> None:
    source = (SOURCES / name / "service.py").read_text()
    compile(source, name, "exec")
    assert "127.0.0.1" in source
    assert "0.0.0.0" not in source
    assert len(source.splitlines()) < 80


# -- making environments ---------------------------------------------------------------------------------


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """One peer that needs what does not exist, and one that needs nothing."""
    folder = tmp_path / "sources"
    for name, needs in (("a", "no-such-package==1.0\n"), ("b", "")):
        (folder / name).mkdir(parents=True)
        (folder / name / environments.REQUIREMENTS).write_text(needs)
    return folder


@pytest.mark.integration
def test_an_environment_that_cannot_be_made_is_reported_and_the_others_are_made(
    sources: Path, tmp_path: Path
) -> None:
    folder, told = tmp_path / "made", list[str]()
    results = list(make_all(environments.names(sources), told.append, folder, sources, OFFLINE))
    assert [(one.name, one.state) for one in results] == [("a", "failed"), ("b", "made")]
    assert "no-such-package==1.0" in results[0].why
    assert len(results[0].why.splitlines()) <= environments.TAIL_LINES
    assert results[0].why in environments.log_of("a", folder).read_text()
    assert told == ["1/2: a", "2/2: b"]

    (sources / "a" / environments.REQUIREMENTS).write_text("")  # mended
    again = list(make_all(["a", "b"], told.append, folder, sources, OFFLINE))
    assert [one.state for one in again] == ["made", "there"]


def pretend_made(name: str, folder: Path, sources: Path, stamp: str) -> None:
    python = folder / name / "bin" / "python"
    python.parent.mkdir(parents=True, exist_ok=True)
    python.touch()
    (folder / name / environments.STAMP).write_text(stamp)


def test_an_environment_is_ready_until_requirements_change_or_its_python_is_gone(
    sources: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "made"
    assert not environments.is_ready("a", folder, sources)
    pretend_made("a", folder, sources, environments.stamp_of(sources / "a"))
    assert environments.is_ready("a", folder, sources)

    (sources / "shared.txt").write_text("# of all peers\n")
    assert not environments.is_ready("a", folder, sources)
    pretend_made("a", folder, sources, environments.stamp_of(sources / "a"))
    assert environments.is_ready("a", folder, sources)
    (folder / "a" / "bin" / "python").unlink()
    assert not environments.is_ready("a", folder, sources)


def test_the_command_names_what_failed_and_says_that_the_others_run(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(wanted: list[str], tell: Any) -> Iterator[Environment]:
        for name in wanted:
            tell(name)
            yield (
                Environment(name, "failed", 3.0, "no wheel")
                if name == "mosec"
                else Environment(name, "made", 41.0)
            )

    monkeypatch.setattr(environments, "make_all", made)
    done = invoke("peers")
    assert done.returncode == 1
    assert "The environments of 1 of 4 peers could not be made: mosec." in done.stderr
    assert "no wheel" in done.stderr
    assert f"{filled_command.PEERS / 'mosec.log'}. The other peers can run without." in done.stderr
    assert "litserve: made in 41 s" in done.stderr
    assert invoke("peers", "litserve").returncode == 0


def test_an_unknown_peer_is_refused(invoke: Invoke) -> None:
    done = invoke("peers", "litserv")
    assert done.returncode == 2
    assert "There is no peer 'litserv'." in done.stderr
    assert "Did you mean 'litserve'?" in done.stderr


def test_peers_are_listed(invoke: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke("peers", "--list").stdout.splitlines() == [f"{name} (not made)" for name in PEERS]
    assert command.EXAMPLES


# -- comparing answers -----------------------------------------------------------------------------------


class Embeds(BaseHTTPRequestHandler):
    """Answers the length of the text and two more numbers, or "ok" if the path is /short."""

    def do_POST(self) -> None:
        item = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        full = item.get("full") and self.path != "/short"
        body = json.dumps({"answer": [len(item["text"]), 0.5, -1.0] if full else "ok"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.mark.integration
def test_the_embeddings_of_a_service_are_read_and_compared() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Embeds) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        theirs = answers.embeddings_of(f"{url}/predict", ["a", "abc"])
        with pytest.raises(HarnessError, match="answered no embedding"):
            answers.embeddings_of(f"{url}/short", ["a"])
        server.shutdown()
    assert theirs.tolist() == [[1.0, 0.5, -1.0], [3.0, 0.5, -1.0]]
    assert answers.largest_difference(theirs, theirs - np.asarray([[0, 0.25, 0], [0, 0, 1 / 8]])) == 0.25
    assert answers.largest_difference(theirs, theirs[:, :2]) == np.inf


def test_the_texts_that_are_compared_are_those_of_a_run() -> None:
    texts = answers.some_texts()
    assert len(texts) == 8
    assert len(set(texts)) > 4
