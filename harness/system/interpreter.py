"""What this Python is: its version, its interpreter lock and its packages, for the record of a run."""

from __future__ import annotations

import platform
import sys
import sysconfig
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any

FIRST = (  # reports name these packages first, in this order
    "torch",
    "sentence-transformers",
    "transformers",
    "tokenizers",
    "safetensors",
    "huggingface-hub",
    "onnxruntime",
    "openvino",
    "numpy",
    "fastapi",
    "starlette",
    "uvicorn",
    "httptools",
    "pydantic",
)
_OF_SERVERS = ("fastapi", "starlette", "uvicorn", "httptools", "pydantic")  # a worker may not import them
_OURS = {"harness", "strategies", "threadpoolctl"}  # the last one only reads facts


def facts() -> dict[str, Any]:
    """Return the facts about this process as JSON data, without paths.

    Call it once the model has run: packages that were not made for it switch the lock of a free-threaded
    Python on when they are imported. `packages` has those of the server, and every installed package that
    this process has imported.
    """
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        "interpreter_lock": has_interpreter_lock(),
        "packages": dict(sorted({*_of_server(), *_imported()})),
    }


def has_interpreter_lock() -> bool:
    """Return False if this is a free-threaded Python without the lock, where threads run in parallel."""
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())


def version_of(package: str) -> str | None:
    """Return the version of an installed package; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _of_server() -> Iterator[tuple[str, str]]:
    for name in _OF_SERVERS:
        if known := version_of(name):
            yield name, known


def _imported() -> Iterator[tuple[str, str]]:
    """Name and version of each imported package that is neither Python's nor ours.

    Some modules have another name than their package (yaml, PIL): these say their version themselves.
    """
    for module, what in list(sys.modules.items()):
        name = module.replace("_", "-").lower()
        if "." in module or module.startswith("_") or module in _OURS:
            continue
        if _is_installed(what) and (known := version_of(name) or _says(what)):
            yield name, known


def _is_installed(module: object) -> bool:
    file = vars(module).get("__file__") if isinstance(module, ModuleType) else None
    return isinstance(file, str) and ("site-packages" in file or "dist-packages" in file)


def _says(module: ModuleType) -> str:
    stated = vars(module).get("__version__")
    return stated[:100] if isinstance(stated, str) else ""
