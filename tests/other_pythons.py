"""Environments of this Python with other packages: what an arm with `python` runs in."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path

from harness.plans.interpreters import OF_PARSER, SERVER_PACKAGES
from harness.wire.options import HTTP_PARSER


def venv(folder: Path, packages: Iterable[str] = ()) -> Path:
    """Make a virtual environment with links to these installed packages and what they require; no pip."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for name in with_requirements(packages):
        found = distribution(name)
        tops = {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}
        for top in tops:
            (site / top).symlink_to(Path(str(found.locate_file(top))))
    return folder / "bin" / "python"


def for_servers(folder: Path) -> Path:
    """Make an environment that has only what the server itself needs."""
    return venv(folder, [re.split("[<>=]", one)[0] for one in (*SERVER_PACKAGES, *OF_PARSER[HTTP_PARSER])])


def with_requirements(packages: Iterable[str]) -> set[str]:
    """The packages and, of what they require without an extra, what is installed here."""
    found: set[str] = set()
    left = [*packages]
    while left:
        name = left.pop().replace("_", "-").lower()
        if name in found or not is_installed(name):
            continue
        found.add(name)
        required = [one for one in distribution(name).requires or () if "extra ==" not in one]
        left += [re.split(r"[^\w.-]", one)[0] for one in required]
    return found


def is_installed(name: str) -> bool:
    try:
        distribution(name)
    except ModuleNotFoundError:
        return False
    return True


def pretend(python: Path, package: str, version: str) -> None:
    """Let the environment's package say that it has this version."""
    (site,) = python.parents[1].glob("lib/python*/site-packages")
    (facts,) = site.glob(f"{package}-*.dist-info")
    if facts.is_symlink():
        facts.unlink()
        facts.mkdir()
    facts = facts.rename(site / f"{package}-{version}.dist-info")
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")


def program(path: Path, text: str) -> Path:
    """Write an executable shell script."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path
