"""The call would run in interpreters of this process, each with a lock of its own (PEP 734, Python 3.14).

It cannot yet: NumPy and torch refuse to be imported anywhere but in the main interpreter. This file says so,
and what is missing here; a model that needs neither can be tried as
``executor:concurrent.futures:InterpreterPoolExecutor``.
"""

import concurrent.futures
import platform
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from strategies import Call, Options, Setup, Submit

SUMMARY = "in interpreters of this process, each with a lock of its own: not possible yet"
WHEN_FULL = "it never opens"
WHEN_WORKER_DIES = "it never opens"
TAKES: frozenset[str] = frozenset()


def why_not() -> str:
    """The reason, as found here."""
    if not hasattr(concurrent.futures, "InterpreterPoolExecutor"):
        return (
            f"needs Python 3.14 (this is {platform.python_version()}), and NumPy and torch do not load in one"
        )
    return _refusal() or "NumPy loads in one here: try executor:concurrent.futures:InterpreterPoolExecutor"


def worker_count(options: Options) -> int:  # noqa: ARG001  it never opens
    """One, if it were possible."""
    return 1


@asynccontextmanager
async def open(setup: Setup, call: Call, options: Options) -> AsyncIterator[Submit]:  # noqa: ARG001
    """RuntimeError: it is not possible."""
    raise RuntimeError(why_not())
    yield  # makes this a context manager like the others


def _refusal() -> str:
    """What NumPy says when it is imported in a new interpreter; empty when it does not mind."""
    with concurrent.futures.InterpreterPoolExecutor(1) as pool:  # type: ignore[attr-defined]  # from 3.14
        try:
            pool.submit(__import__, "numpy").result()
        except Exception as error:  # noqa: BLE001  whatever it is, it is the reason
            return f"NumPy does not load in one: {error}"
    return ""
