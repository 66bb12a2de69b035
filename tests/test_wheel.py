"""The built wheel runs without the checkout: in an environment of its own, in any folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import CHECKOUT
from jsonschema import Draft202012Validator

from harness import environment
from harness.plans import schemas
from harness.wire.options import HIDDEN_OPTIONS

pytestmark = [pytest.mark.integration, pytest.mark.model]

PACKAGES = ("harness", "strategies")
BUILT_FROM = (*PACKAGES, "pyproject.toml", "README.md", "LICENSE")
SHORT = ("--blocks", "1", "--duration", "0.3", "--no-self-check")
ON_THE_MODEL = ("--strategy", "thread", "-c", "1", "--no-twin", "--torch-threads", "1")
RUN = schemas.of_run()
SET_BY_RUN = HIDDEN_OPTIONS | {"io_address"}
OFFLINE = ("--no-index", "--disable-pip-version-check")
ENDS_WITHIN_S = 120.0


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: a build writes into its folder."""
    source = tmp_path_factory.mktemp("source")
    for name in BUILT_FROM:
        if (CHECKOUT / name).is_dir():
            shutil.copytree(CHECKOUT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(CHECKOUT / name, source / name)
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", *OFFLINE)
    subprocess.run([*pip, "--wheel-dir", "dist", "."], cwd=source, check=True, timeout=ENDS_WITHIN_S)
    (built,) = (source / "dist").iterdir()
    return built


class Installed:
    """The wheel in an environment of its own, which finds the dependencies in this one's."""

    def __init__(self, wheel: Path, folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        pip = (sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--quiet")
        subprocess.run(
            [*pip, "--no-deps", "--no-compile", *OFFLINE, wheel], check=True, timeout=ENDS_WITHIN_S
        )
        self.command = folder / "bin" / "execbench"
        (packages,) = folder.glob("lib/python*/site-packages")
        (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")

    def __call__(self, folder: Path, *words: str) -> str:
        """Run `execbench` in a folder until it ends; return what it printed."""
        done = subprocess.run(
            [self.command, *words],
            cwd=folder,
            env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
            capture_output=True,
            text=True,
            timeout=ENDS_WITHIN_S,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(wheel, tmp_path_factory.mktemp("environment"))


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    """The address of a service that already runs."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def undocumented(value: Any, schema: dict[str, Any], place: str = "") -> Iterator[str]:
    """Yield the keys of a record, as a.b.c, that its schema does not describe."""
    for kind in schema.get("anyOf", [schema]):
        name = kind.get("$ref", "").rpartition("/")[2]
        known = RUN["$defs"][name] if name else kind
        if isinstance(value, list):
            for one in value:
                yield from undocumented(one, known.get("items", {}), place)
        if isinstance(value, dict) and known.get("type") == "object":
            others = known.get("additionalProperties", True)
            for key, one in value.items():
                inside = known.get("properties", {}).get(key, others)
                if inside is True:
                    yield f"{place}.{key}"
                else:
                    yield from undocumented(one, inside, f"{place}.{key}")


def new_run(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return the path of the newest run in a folder, and its record."""
    newest = max((folder / "results").iterdir(), key=lambda path: path.name)
    return f"results/{newest.name}", json.loads((newest / "run.json").read_text())


def test_the_wheel_has_every_file_of_the_packages_and_no_other(wheel: Path) -> None:
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *PACKAGES]
    files = subprocess.run(listed, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == {name for name in files if name and (CHECKOUT / name).exists()}


def test_the_plan_of_the_article_runs_in_an_empty_folder(installed: Installed, tmp_path: Path) -> None:
    installed(tmp_path, "run", "article", *ON_THE_MODEL, *SHORT)
    assert [path.name for path in tmp_path.iterdir()] == ["results"]
    _, record = new_run(tmp_path)
    assert record["state"] == "finished"
    assert record["environment"]["code"] == environment.code(CHECKOUT)
    assert record["environment"]["revision"] is None
    Draft202012Validator(RUN).validate(record)
    unsaid = [key for key in undocumented(record, RUN) if not set(key.split(".")) & {"about", *SET_BY_RUN}]
    assert unsaid == []


def test_services_that_already_run_are_loaded_shown_and_compared(
    installed: Installed, tmp_path: Path, url: str
) -> None:
    installed(tmp_path, "load", url, "--requests", "20")
    folder, record = new_run(tmp_path)
    Draft202012Validator(RUN).validate(record)
    assert list(undocumented(record, RUN)) == []
    (tmp_path / folder / "report.txt").unlink()
    assert "requests/s" in installed(tmp_path, "report", folder)
    assert (tmp_path / folder / "report.txt").exists()

    shutil.rmtree(tmp_path / folder)
    of_any_machine = ("--exclude-foreign-cpu", "99")  # other tests run at the same time
    installed(tmp_path, "run", "--url", f"a={url}", "--url", f"b={url}", "-c", "2", *SHORT, *of_any_machine)
    folder, record = new_run(tmp_path)
    assert list(record["arms"]) == ["a", "b"]
    assert "inconclusive" in installed(tmp_path, "compare", folder)


def test_a_workload_of_ones_own_and_a_schema_are_written(installed: Installed, tmp_path: Path) -> None:
    installed(tmp_path, "init")
    assert "Nothing was started." in installed(tmp_path, "run", "--workload", "my_workload.py", "--dry-run")
    assert json.loads(installed(tmp_path, "schema", "plan")) == schemas.of_plan()
