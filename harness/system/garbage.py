"""Python's garbage collector, which takes longer the more objects a process has."""

from __future__ import annotations

import gc


def freeze() -> None:
    """Collect now, and leave alone from now on all objects that exist.

    With torch and transformers loaded, a collection of all objects takes a quarter of a second, in which the
    process runs no other Python code (docs/explanation/garbage.md).
    """
    gc.collect()
    gc.freeze()
