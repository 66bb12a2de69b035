"""matplotlib for a command, whatever its environment says."""

from __future__ import annotations

import logging
import os

from harness.errors import HarnessError

BACKEND = "MPLBACKEND"


def import_matplotlib() -> None:
    """Import it for drawing into files. Call this before a module that imports it.

    MPLBACKEND does not matter: no chart needs a backend with windows. Nor does a folder for its settings
    that cannot be written. Raises HarnessError when matplotlib cannot be imported.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    chosen = os.environ.pop(BACKEND, None)
    try:
        import matplotlib  # noqa: F401
    except (OSError, ValueError, RuntimeError) as error:
        raise HarnessError(
            f"matplotlib cannot be imported, so there are no charts: {error}.",
            stage="charts",
            hint="Set MPLCONFIGDIR to a folder that can be written, and mend or remove a file matplotlibrc.",
        ) from error
    finally:
        if chosen is not None:
            os.environ[BACKEND] = chosen
