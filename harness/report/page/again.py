"""How to make a run again: its commands, plan, versions and seed, and its files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.numbers import counted
from harness.report import next_command
from harness.report.page.parts import Link, Section, Term

_FILES = {
    "requests.csv": "one row a request, warm-ups and failures too",
    "requests.csv.gz": "one row a request, warm-ups and failures too",
    "requests.parquet": "the same rows, quicker to read",
    "trials.csv": "one row a trial: an arm under a load in a block",
    "summary.csv": "figures of each arm under each load",
    "comparisons.csv": "every ratio with its interval and verdict",
    "costs.csv": "CPU, memory, pings and loop lag",
    "claims.csv": "the article's claims, check by check",
    "ranking.csv": "the arms in order",
    "sweep.csv": "every setting",
    "windows.csv": "every window of the search",
    "capacity.csv": "the capacity of each arm",
    "trace.json.gz": "every request on one time axis; open it at ui.perfetto.dev",
    "report.txt": "all tables as text",
    "run.json": "plan, machine, versions and seeds",
}
_PACKAGES = (
    "executor-bench",
    "fastapi",
    "uvicorn",
    "torch",
    "sentence-transformers",
    "httpx",
    "aiohttp",
    "numpy",
)


def section(record: Mapping[str, Any], folder: Path, files: list[str], command: str = "run") -> Section:
    """`files`: the names of the files in the run's folder, which the page links to."""
    environment = record.get("environment") or {}
    line = next_command.run(record, folder, command=command)
    return Section(
        anchor="again",
        heading="Make it again",
        command_about="The plan of this folder again:",
        command=line or _load(record),
        facts=[Term(name, value) for name, value in _facts(record, environment) if value],
        links=[Link(name, name, about) for name, about in _FILES.items() if name in files],
    )


def _load(record: Mapping[str, Any]) -> str:
    users = (record.get("load") or {}).get("arrivals", "")
    number = str(users).removeprefix("closed(").removesuffix(")")
    return next_command.load(record, users=int(number)) if number.isdigit() else ""


def _facts(record: Mapping[str, Any], environment: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    plan = record.get("plan") or {}
    blocks = int(plan.get("blocks") or 0)
    yield "Plan", f"{plan.get('name', '')}, at most {counted(blocks, 'block')}" if blocks else ""
    yield "Workload", workload(plan)
    texts = (record.get("load") or {}).get("texts") or {}
    yield "Arms", ", ".join(map(str, record.get("arms") or ()))
    yield "Loads", ", ".join(_loads(plan))
    yield "Seed", str(plan.get("seed", texts.get("seed", "")))
    yield "Started", str(record.get("started_at") or "")
    yield "Machine", _machine(environment)
    packages = environment.get("packages") or {}
    known = [f"{name} {packages[name]}" for name in _PACKAGES if packages.get(name)]
    python = f"Python {environment['python']}" if environment.get("python") else ""
    yield "Versions", ", ".join(filter(None, [python, *known]))
    revision = (environment.get("revision") or {}).get("commit")
    changed = ", with changes" if (environment.get("revision") or {}).get("modified") else ""
    yield "Code", f"commit {revision[:12]}{changed}" if revision else ""


def workload(plan: Mapping[str, Any]) -> str:
    """The model, and the I/O after it; a server that is not ours has its own."""
    arms = plan.get("arms") or ()
    if arms and all(arm.get("url") for arm in arms):
        return "servers that already run"
    if arms and all(arm.get("command") for arm in arms):
        return "each command's own"
    options = plan.get("workload") or {}
    model = options.get("model") if options.get("name") == "embed" else ""
    parts = [f"{options['name']} ({model})" if model else str(options.get("name") or "")]
    io, io_ms = options.get("io") or "sleep", options.get("io_ms")
    if io_ms is not None and (io_ms > 0 or io != "sleep"):  # else none, or that of the workload itself
        parts.append(f"then I/O: {io}, {io_ms:g} ms")
    return ", ".join(filter(None, parts))


def _loads(plan: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"c = {users}" for users in plan.get("concurrency") or ())
    yield from map(str, plan.get("arrivals") or ())


def _machine(environment: Mapping[str, Any]) -> str:
    if not environment:
        return ""
    memory = environment.get("memory_bytes")
    parts = [
        f"{environment.get('usable_cores') or '?'} cores ({environment.get('cpu') or 'unknown CPU'})",
        f"{memory / 2**30:.0f} GiB" if memory else "",
        f"{environment.get('system') or ''} {environment.get('kernel') or ''}".strip(),
    ]
    return ", ".join(filter(None, parts))
