"""The packaged files of published claims, by name. What is in them: `harness.verdicts.claims`."""

from __future__ import annotations

from importlib.resources import files

from harness.errors import UsageError

_FOLDER = files("harness") / "data" / "claims"


def names() -> list[str]:
    """Of all files."""
    return sorted(
        file.name.removesuffix(".toml") for file in _FOLDER.iterdir() if file.name.endswith(".toml")
    )


def check(name: str) -> None:
    """UsageError, with the names that exist, unless there is a file of this name."""
    if name not in names():
        raise UsageError(
            f"There are no claims called {name!r}.", stage="claims", hint=f"There are: {', '.join(names())}."
        )


def read(name: str) -> str:
    """The file's TOML; UsageError as in `check`."""
    check(name)
    return (_FOLDER / f"{name}.toml").read_text(encoding="utf-8")
