"""What is made once on a machine and kept for later runs."""

from __future__ import annotations

import os
from pathlib import Path

CACHE_VARIABLE = "EXECBENCH_CACHE"  # the cache's folder; otherwise executor-bench in the user's own cache


def folder(kind: str) -> Path:
    """Where things of a kind are kept; it need not exist."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen) / kind
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "executor-bench" / kind
