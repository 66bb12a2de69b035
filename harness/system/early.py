"""Set-up that must run before the other imports of the command line. `harness.cli` imports this first."""

from __future__ import annotations

import os
import sys


def _leave_current_folder() -> None:
    """Stop imports from the current folder, where `python -m` looks first: a random.py there would break us.

    If this package is in that folder and not installed, PYTHONPATH makes it importable from now on.
    """
    here = sys.path.pop(0)
    if any(finder.find_spec("harness", None) for finder in sys.meta_path):
        return
    sys.path.append(here)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = f"{before}{os.pathsep}{here}" if before else here


_spec = getattr(sys.modules["__main__"], "__spec__", None)
_is_module = getattr(_spec, "name", "") == "harness.cli"
_is_script = os.path.basename(sys.argv[0]) == "execbench"  # noqa: PTH119 - pathlib may not be imported yet

if _is_module and not sys.flags.safe_path:
    _leave_current_folder()
if _is_module or _is_script:
    from harness.system import signals

    signals.exit_on_signal()
