"""The packaged TOML files of a kind, by name: `claims` and `plans`, each a folder of `harness/data`."""

from __future__ import annotations

from importlib.resources import files

from harness.errors import UsageError

_DATA = files("harness") / "data"


def names(kind: str) -> list[str]:
    """Of all files of this kind."""
    found = (file.name for file in (_DATA / kind).iterdir())
    return sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml"))


def check(kind: str, name: str) -> None:
    """UsageError, with the names that exist, unless there is a file of this name."""
    known = names(kind)
    if name not in known:
        raise UsageError(
            f"There are no {kind} called {name!r}.", stage=kind, hint=f"There are: {', '.join(known)}."
        )


def read(kind: str, name: str) -> str:
    """The file's TOML; UsageError as in `check`."""
    check(kind, name)
    return (_DATA / kind / f"{name}.toml").read_text(encoding="utf-8")
