"""The rooms of the house: who may import whom, and what must not be loaded."""

import ast
import functools
import subprocess
import sys
import time
from pathlib import Path

import pytest

import harness
import strategies

CHECKOUT = Path(__file__).parent.parent

SERVER_SIDE = {"app", "asgi", "serve", "worker", "null_app", "leaving"}
CLIENT_SIDE = {"load"}
READING_SIDE = {
    "advice",
    "analysis",
    "best",
    "capacity.advising",
    "capacity.arms",
    "capacity.breaking",
    "capacity.chart",
    "capacity.report",
    "capacity.windows",
    "capacity.words",
    "charts",
    "choice",
    "claims",
    "commands.compare_view",
    "comparing",
    "comparison",
    "efficiency",
    "evidence",
    "forest",
    "gate",
    "literal_page",
    "machine",
    "nominal",
    "ranking",
    "report",
    "saturation",
    "sweep",
    "sweep_chart",
    "tables",
    "written",
}
COMMANDS = {f"commands.{path.stem}" for path in (CHECKOUT / "harness" / "commands").glob("[a-z]*.py")}
LIBRARIES = {
    "fastapi": SERVER_SIDE,
    "uvicorn": SERVER_SIDE,
    "torch": {"workloads.embed", "workloads._onnx"},
    "onnxruntime": {"workloads._onnx"},
    "sentence_transformers": {"workloads.embed"},
    # a request of ours may be answered by another service
    "httpx": CLIENT_SIDE | {"answers", "downstream.http", "transports"},
    "httpx_aiohttp": {"transports"},
    "aiohttp": CLIENT_SIDE | {"bounded", "downstream.http", "transports", "unrepeated"},
    "asyncpg": {"downstream.pgvector", "downstream.database", "downstream.embedded"},
    "pgvector": {"downstream.pgvector", "downstream.database"},
    "pandas": READING_SIDE | {"store", "rows"},
    "matplotlib": READING_SIDE | {"plotting"},
    "typer": {"cli"} | COMMANDS,
    "rich": {"screen", "progress", "tables"} | COMMANDS,
}
# evidence about the instrument: drives the other side as a user would, and reads what came of it
EVIDENCE = ("check.", "faults.", "studies.")


def modules(package: str) -> dict[str, Path]:
    root = CHECKOUT / package
    return {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for path in root.rglob("*.py")
    }


@functools.cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(path.read_text())))


@functools.cache
def imported(path: Path) -> frozenset[str]:
    """Dotted names that a file imports, `if TYPE_CHECKING` left out."""
    hidden = {
        node
        for branch in nodes(path)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.dump(branch.test)
        for node in ast.walk(branch)
    }
    names: set[str] = set()
    for node in nodes(path):
        if node in hidden:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def test_both_packages_load_from_this_checkout() -> None:
    assert Path(harness.__file__).parent == CHECKOUT / "harness"
    assert Path(strategies.__file__).parent == CHECKOUT / "strategies"


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_is_imported_only_on_its_own_island(library: str) -> None:
    users = {
        name
        for name, path in modules("harness").items()
        if any(what.split(".")[0] == library for what in imported(path))
    }
    assert {name for name in users if not name.startswith(EVIDENCE)} <= LIBRARIES[library]


@pytest.mark.parametrize(
    "side", [SERVER_SIDE, CLIENT_SIDE, READING_SIDE], ids=["server", "client", "reading"]
)
def test_the_three_islands_do_not_import_each_other(side: set[str]) -> None:
    others = (SERVER_SIDE | CLIENT_SIDE | READING_SIDE) - side
    if side is CLIENT_SIDE:
        others -= {"null_app"}
    for name in side:
        found = {what.removeprefix("harness.") for what in imported(modules("harness")[name])}
        assert not found & others, name


def called(path: Path) -> set[str]:
    """The plain names that a file calls."""
    calls = (node.func for node in nodes(path) if isinstance(node, ast.Call))
    return {what.id for what in calls if isinstance(what, ast.Name)}


def test_texts_from_outside_have_one_way_to_the_screen_and_into_charts() -> None:
    """`screen.Screen` and `literal_page.Page` show them as they are; their libraries' own classes do not."""
    others = {"Console", "Figure", "print"}
    assert not [name for name, path in modules("harness").items() if called(path) & others]


def test_that_way_is_watched(tmp_path: Path) -> None:
    (tmp_path / "shows.py").write_text("from rich.console import Console\nConsole(stderr=True).print('x')\n")
    assert called(tmp_path / "shows.py") == {"Console"}


def test_only_serve_imports_the_app_and_server_never_does() -> None:
    users = {name for name, path in modules("harness").items() if "harness.app" in imported(path)}
    assert users == {"serve"}


def test_only_the_app_and_the_plans_know_the_strategies() -> None:
    users = {
        name
        for name, path in modules("harness").items()
        if any(what.split(".")[0] == "strategies" for what in imported(path))
    }
    assert users <= {"app", "options", "plans", "flagged", "commands.listing", "faults.arms"}


def test_analysis_and_charts_touch_no_disk() -> None:
    for name in ("analysis", "charts"):
        source = modules("harness")[name].read_text()
        assert not any(word in source for word in ("open(", "read_csv", "to_csv", "savefig", "pathlib")), name


def test_no_strategy_is_named_in_a_workload_and_no_workload_in_a_strategy_or_the_app() -> None:
    workload_texts = [path.read_text() for name, path in modules("harness").items() if "workloads" in name]
    for strategy in ("default_pool", '"thread"', '"process"'):
        assert not any(strategy in text for text in workload_texts)
    texts = [path.read_text() for path in modules("strategies").values()]
    texts.append(modules("harness")["app"].read_text())
    for workload in ("embed", "synthetic"):
        assert not any(workload in text for text in texts)


def loaded_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}


@pytest.mark.integration
def test_help_loads_neither_torch_nor_pandas_nor_fastapi_nor_matplotlib() -> None:
    lines = (
        "from typer.testing import CliRunner",
        "from harness.cli import app",
        "CliRunner().invoke(app, ['--help'])",
    )
    assert not loaded_after("\n".join(lines)) & {"torch", "pandas", "fastapi", "matplotlib", "httpx", "numpy"}


@pytest.mark.integration
def test_the_load_generator_never_loads_torch_or_pandas() -> None:
    assert not loaded_after("import harness.load") & {"torch", "pandas", "fastapi", "sentence_transformers"}


@pytest.mark.integration
def test_a_spawned_worker_does_not_load_fastapi() -> None:
    """It imports `harness.serve` again as its main module, and the worker."""
    assert not loaded_after("import harness.serve, harness.worker") & {"fastapi", "uvicorn", "torch"}


@pytest.mark.timed
def test_help_answers_at_once() -> None:
    """The goal is 0.4 s on a quiet machine; the best of five is held against three times that."""
    took = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "harness.cli", "--help"], check=True, capture_output=True)
        took.append(time.perf_counter() - began)
    assert min(took) < 1.2
