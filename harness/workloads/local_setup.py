"""What workloads need of this machine: packages of the extras, numbers of threads, and the cache folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from harness.errors import HarnessError
from harness.wire.options import WorkloadOptions

CACHE_VARIABLE = "EXECBENCH_CACHE"  # the cache folder; default: executor-bench in the user's cache


def cache_folder(kind: str) -> Path:
    """The cache folder for one kind of data; it may not exist yet."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen) / kind
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "executor-bench" / kind


def thread_variables(options: WorkloadOptions) -> dict[str, str]:
    """The variables for the threads of torch and NumPy, which read them when they are imported."""
    threads, wait = options.torch_threads, options.omp_wait
    number = {} if threads is None else {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    return number | ({} if wait is None else {"OMP_WAIT_POLICY": wait})


def refuse_missing(packages: Sequence[str], what: str, *, extra: str, stage: str) -> None:
    """Raise HarnessError that names the extra if a package that `what` needs is not installed."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise HarnessError(
            f"{what} needs {', '.join(missing)}.",
            stage=stage,
            hint=f'Run `make setup EXTRAS={extra}`, or: pip install "executor-bench[{extra}]"',
        )
