"""The rooms of the architecture: which may import which, and which libraries must not be loaded."""

import ast
import functools
import graphlib
import subprocess
import sys
import time
from pathlib import Path

import pytest

import harness
import strategies
from harness.evidence.peers import environments

CHECKOUT = Path(__file__).parent.parent

# room → the rooms that it may import, lowest floor first; every room may import `errors` and `numbers`
ROOMS = {
    "system": set(),
    "wire": {"system", "strategies"},
    "results": {"system", "wire"},
    "workloads": {"system", "wire"},
    "analysis": {"wire"},
    "server": {"system", "wire", "workloads", "strategies"},
    "client": {"system", "wire", "workloads"},
    "plans": {"system", "wire", "workloads", "results", "strategies"},
    "verdicts": {"system", "wire", "results", "analysis", "environment"},
    "run": {"system", "wire", "workloads", "results", "analysis", "plans", "environment"},
    "report": {"system", "wire", "results", "analysis", "verdicts"},
    "capacity": {"wire", "results", "analysis", "plans", "verdicts", "run", "report"},
    "choosing": {"wire", "results", "analysis", "plans", "verdicts", "run"},
}
BELOW = {*ROOMS, "environment", "strategies"} - {"server", "client"}
ROOMS["evidence"] = BELOW
ROOMS["commands"] = BELOW | {"evidence"}
# single files next to the rooms
ROOMS |= {"errors": set(), "numbers": set(), "environment": {"system", "wire"}, "cli": {"system", "commands"}}
FOR_ALL = {"errors", "numbers", "harness"}
STRATEGIES_KNOWN_BY = {  # the options are declared there, so what collects settings reads them
    *("wire.options", "wire.setting", "server.app"),
    "plans.probe",  # asks in another Python which strategies work there
    *("plans.arm", "plans.plan_checks", "plans.from_flags", "plans.plan_files", "plans.settings"),
}

LIBRARIES = {
    "fastapi": {"server"},
    "uvicorn": {"server"},
    "torch": {"workloads"},
    "onnxruntime": {"workloads"},
    "openvino": {"workloads"},
    "sentence_transformers": {"workloads"},
    "httpx": {"client", "wire", "workloads"},  # a workload's I/O may be a request to another service
    "httpx_aiohttp": {"wire"},
    "aiohttp": {"client", "wire", "workloads"},
    "asyncpg": {"workloads"},
    "pgvector": {"workloads"},
    "pandas": {"results", "analysis", "verdicts", "report", "capacity", "commands"},
    "duckdb": {"results"},
    "jinja2": {"report"},
    "matplotlib": {"report", "capacity", "results"},
    "typer": {"cli", "commands"},
    "rich": {"commands"},
}
# `evidence` uses the server and the load generator as a user would, so it may import every library
PROOF = "evidence"


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
def imported(path: Path, for_types: bool = False) -> frozenset[str]:
    """Return the dotted names that a file imports; those under `if TYPE_CHECKING` only if `for_types`."""
    hidden = {
        node
        for branch in nodes(path)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.dump(branch.test) and not for_types
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


def room_of(module: str) -> str:
    """Return the room of a module, or the module's own name if it is a single file next to the rooms."""
    first, *rest = module.split(".")
    known = rest and rest[0] in ROOMS
    return rest[0] if first == "harness" and known else first


def upward(path: Path, room: str) -> set[str]:
    """Return what a file in `room` imports from rooms that are not below it."""
    ours = {what for what in imported(path) if what.split(".")[0] in ("harness", "strategies")}
    return {what for what in ours if room_of(what) not in ROOMS[room] | FOR_ALL | {room}}


def in_rooms() -> dict[str, Path]:
    """Return all modules in rooms by their names in `harness`. Files packaged for users are in no room."""
    return {name: path for name, path in modules("harness").items() if name.split(".")[0] in ROOMS}


def test_both_packages_load_from_this_checkout() -> None:
    assert Path(harness.__file__).parent == CHECKOUT / "harness"
    assert Path(strategies.__file__).parent == CHECKOUT / "strategies"


def test_every_module_is_in_a_room_or_is_a_known_single_file() -> None:
    packaged = {"data.my_workload", *(f"data.peers.{name}.service" for name in environments.names())}
    assert (
        modules("harness").keys() - in_rooms().keys()
        == {"", "__init__", *packaged} & modules("harness").keys()
    )


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_below_it(room: str) -> None:
    found = {name: upward(path, room) for name, path in in_rooms().items() if name.split(".")[0] == room}
    assert {name: names for name, names in found.items() if names} == {}


def test_no_room_imports_open_run() -> None:
    """It imports rooms that are above most others."""
    for function in ("open_run", "newest_run", "compare"):
        assert not [name for name, path in in_rooms().items() if f"harness.{function}" in imported(path)]


def test_the_imports_between_rooms_have_no_cycle() -> None:
    graphlib.TopologicalSorter(ROOMS).prepare()


def test_the_check_finds_an_upward_import(tmp_path: Path) -> None:
    path = tmp_path / "imports.py"
    path.write_text("def late():\n    from harness.run import session\nfrom harness import errors\n")
    assert upward(path, "analysis") == upward(path, "report") == {"harness.run", "harness.run.session"}
    assert not upward(path, "capacity")


def arrows(paths: dict[str, Path]) -> dict[str, set[str]]:
    """Return each module's imported modules; a package counts only if a name is imported from it itself."""
    graph: dict[str, set[str]] = {}
    for name, path in paths.items():
        taken = imported(path, for_types=True)
        modules_taken = taken & paths.keys()
        faces = {
            what
            for what in modules_taken
            if any(other.startswith(f"{what}.") for other in taken - paths.keys())
        }
        leaves = {what for what in modules_taken if not any(other.startswith(f"{what}.") for other in paths)}
        graph[name] = (faces | leaves) - {name}
    return graph


def test_no_module_imports_itself_through_others() -> None:
    graph = arrows({f"harness.{name}": path for name, path in in_rooms().items()})
    graphlib.TopologicalSorter(graph).prepare()


def test_the_check_finds_a_cycle(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("from harness.run import b\n")
    (tmp_path / "b.py").write_text("def late():\n    from harness.run.a import name\n")
    graph = arrows({f"harness.run.{name}": tmp_path / f"{name}.py" for name in "ab"})
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_is_imported_only_in_its_rooms(library: str) -> None:
    users = {
        name.split(".")[0]
        for name, path in in_rooms().items()
        if any(what.split(".")[0] == library for what in imported(path))
    }
    assert users - {PROOF} <= LIBRARIES[library]


def test_every_package_of_a_room_has_a_docstring() -> None:
    for room in ROOMS:
        face = CHECKOUT / "harness" / room / "__init__.py"
        assert not face.exists() or ast.get_docstring(ast.parse(face.read_text())), room


def called(path: Path) -> set[str]:
    """Return the plain names that a file calls."""
    calls = (node.func for node in nodes(path) if isinstance(node, ast.Call))
    return {what.id for what in calls if isinstance(what, ast.Name)}


def test_only_screen_and_page_write_text_to_the_terminal_and_into_charts() -> None:
    """`screen.Screen` and `page.Page` show text literally; those of rich and matplotlib interpret it."""
    others = {"Console", "Figure", "print"}
    assert not [name for name, path in modules("harness").items() if called(path) & others]


def test_the_check_finds_a_console_that_is_used_directly(tmp_path: Path) -> None:
    (tmp_path / "shows.py").write_text("from rich.console import Console\nConsole(stderr=True).print('x')\n")
    assert called(tmp_path / "shows.py") == {"Console"}


def private_imports(path: Path) -> set[str]:
    """Return the private names that a file imports from `harness`."""
    return {
        f"{node.module}.{alias.name}"
        for node in nodes(path)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("harness")
        for alias in node.names
        if alias.name.startswith("_") and not alias.name.endswith("__")
    }


def test_no_module_imports_a_private_name_of_another() -> None:
    found = {name: private_imports(path) for name, path in modules("harness").items()}
    assert {name: names for name, names in found.items() if names} == {}


def test_the_check_finds_a_private_import(tmp_path: Path) -> None:
    (tmp_path / "takes.py").write_text("from harness.report.charts import _look, style\n")
    assert private_imports(tmp_path / "takes.py") == {"harness.report.charts._look"}


def test_only_the_server_process_imports_the_app() -> None:
    users = {name for name, path in modules("harness").items() if "harness.server.app" in imported(path)}
    assert len(users) == 1
    assert users.pop().startswith("server.")


def test_only_known_modules_import_the_strategies() -> None:
    users = {
        name
        for name, path in modules("harness").items()
        if any(what.split(".")[0] == "strategies" for what in imported(path))
    }
    assert users <= STRATEGIES_KNOWN_BY | {
        *("commands.list", "commands.settings", "commands.completion", "evidence.faults.arms")
    }


def test_analysis_and_charts_do_not_access_the_disk() -> None:
    for name, path in modules("harness").items():
        if name.startswith(("analysis.", "report.charts.")):
            source = path.read_text()
            assert not any(
                word in source for word in ("open(", "read_csv", "to_csv", "savefig", "pathlib")
            ), name


def test_workloads_name_no_strategy_and_strategies_and_app_name_no_workload() -> None:
    workload_texts = [
        path.read_text() for name, path in modules("harness").items() if name.startswith("workloads")
    ]
    for strategy in ("default_pool", '"thread"', '"process"'):
        assert not any(strategy in text for text in workload_texts)
    texts = [path.read_text() for path in modules("strategies").values()]
    texts.append(modules("harness")["server.app"].read_text())
    for workload in ("embed", "synthetic"):
        assert not any(workload in text for text in texts)


def loaded_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}


HEAVY = {"torch", "pandas", "fastapi", "matplotlib", "httpx", "numpy"}


@pytest.mark.integration
def test_help_loads_neither_torch_nor_pandas_nor_fastapi_nor_matplotlib() -> None:
    lines = (
        "from typer.testing import CliRunner",
        "from harness.cli import app",
        "CliRunner().invoke(app, ['--help'])",
    )
    assert not loaded_after("\n".join(lines)) & {*HEAVY, "pydantic"}


@pytest.mark.integration
def test_the_load_generator_never_loads_torch_or_pandas() -> None:
    unwanted = {"torch", "pandas", "fastapi", "sentence_transformers"}
    assert not loaded_after("import harness.client.__main__") & unwanted


@pytest.mark.integration
def test_a_spawned_worker_does_not_load_fastapi() -> None:
    assert not loaded_after("import harness.server.worker") & {"fastapi", "uvicorn", "torch"}


@pytest.mark.timed
def test_help_answers_quickly() -> None:
    """The goal is 0.4 s on a quiet machine; the best of five may take three times that."""
    took = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "harness.cli", "--help"], check=True, capture_output=True)
        took.append(time.perf_counter() - began)
    assert min(took) < 1.2
