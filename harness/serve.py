"""`python -m harness.serve FD`: the app of one arm in a process of its own. Options come as JSON on stdin.

Kept light at import: spawned workers import this module again as their `__main__`.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.options import ServerOptions

ERROR_MARK = "EXECBENCH-ERROR "  # the parent turns such a line of the log back into a HarnessError
KEEP_ALIVE_S = 300  # longer than any pause between two windows of a resident arm


def main() -> None:
    """Serve on the listening socket FD until TERM; exit code 3 when the strategy could not be opened."""
    from harness.options import ServerOptions

    listening = socket.socket(fileno=int(sys.argv[1]))
    options = ServerOptions.model_validate_json(sys.stdin.read())
    _set_environment(options)
    _serve(listening, options)


def _set_environment(options: ServerOptions) -> None:
    """Thread budgets must stand before the model's library is imported, here and in the workers."""
    from harness import workloads

    os.environ.update(workloads.create(options.workload).environment())


def _serve(listening: socket.socket, options: ServerOptions) -> None:
    import uvicorn

    from harness.app import create_app
    from harness.options import EVENT_LOOP, HTTP_PARSER

    app = create_app(options)
    config = uvicorn.Config(
        app,
        loop=EVENT_LOOP,
        http=HTTP_PARSER,
        ws="none",
        lifespan="on",
        access_log=False,
        log_level="warning",
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=3,
    )
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except SystemExit:
        _report(getattr(app.state, "startup_error", None))
        raise


def _report(error: Exception | None) -> None:
    from harness.errors import HarnessError

    if isinstance(error, HarnessError):
        record = {"what": error.what, "stage": error.stage, "hint": error.hint}
        sys.stderr.write(f"{ERROR_MARK}{json.dumps(record)}\n")


if __name__ == "__main__":
    main()
