"""What is on this machine: packages of the extras, threads, and what is made once and kept for later runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from harness.errors import HarnessError

CACHE_VARIABLE = "EXECBENCH_CACHE"  # the cache's folder; otherwise executor-bench in the user's own cache


def cache_folder(kind: str) -> Path:
    """Where things of a kind are kept; it need not exist."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen) / kind
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "executor-bench" / kind


def thread_budget(threads: int | None) -> dict[str, str]:
    """Of OpenMP and MKL, which torch and NumPy use: they read it when they are imported."""
    return {} if threads is None else {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}


def refuse_missing(packages: Sequence[str], what: str, *, extra: str, stage: str) -> None:
    """HarnessError that names the extra when a package that `what` needs is not installed."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise HarnessError(
            f"{what} needs {', '.join(missing)}.",
            stage=stage,
            hint=f'Run `make setup EXTRAS={extra}`, or: pip install "executor-bench[{extra}]"',
        )
