"""The pool with which the strategy `executor` is tested. Servers import it, so it imports nothing heavy."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor


def spawned(workers: int) -> ProcessPoolExecutor:
    """A ProcessPoolExecutor that spawns its workers, as a server with threads should not fork."""
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
