"""Where the user's own modules are found: after all others, so that none of theirs hides one of ours."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def append(*folders: Path) -> None:
    """Let modules be imported from these folders, in this process and in workers that it spawns.

    The folder of this package comes before them: an editable install may find it only after all of sys.path.
    """
    for folder in (Path(__file__).parents[2], *folders):
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
    importlib.invalidate_caches()
