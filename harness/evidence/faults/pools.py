"""The pool that the strategy `executor` is shown with. Imported by servers: nothing heavy here."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor


def spawned(workers: int) -> ProcessPoolExecutor:
    """The standard library's, as one would make it, but spawned: a server with threads should not fork."""
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
