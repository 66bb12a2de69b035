"""`python -m harness.server FD`: the app of one arm in its own process. Options come as JSON on stdin.

Spawned workers do not import a package's `__main__` again, so they need not load what a server needs.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

from harness import workloads
from harness.errors import ERROR_MARK, to_parent
from harness.server.app import create_app
from harness.system import children
from harness.wire.options import UVICORN, ServerOptions

UNSTARTED = 3  # exit code, as uvicorn has it
KEEP_ALIVE_S = 300  # longer than any pause between two windows of a resident arm
OPTIONS_VARIABLE = "EXECBENCH_SERVER_OPTIONS"  # for the processes that uvicorn starts by itself
# uvicorn kills a process that is silent for longer; one whose model holds the lock is silent (uvicorn #2506)
HEALTHY_WITHIN_S = 20


def main() -> None:
    """Serve on the listening socket FD until TERM; exit code 3 when the strategy could not be opened."""
    try:
        listening = socket.socket(fileno=int(sys.argv[1]))
        options = ServerOptions.model_validate_json(sys.stdin.read())
        if "executor" in (options.strategy, options.options.get("over")):  # the user's own
            children.let_import_from(Path.cwd())
        # thread budgets are read when the model's library is imported, here and in the workers
        os.environ.update(workloads.create(options.workload).environment())
        if options.server_processes > 1:
            _serve_in_many(listening, options)
        else:
            uvicorn.Server(_config(create_app(options, _report))).run(sockets=[listening])
    except Exception as error:  # noqa: BLE001 - the parent shows it
        _report(error)
        sys.exit(UNSTARTED)


def _serve_in_many(listening: socket.socket, options: ServerOptions) -> None:
    """As `uvicorn --workers N` does: N processes of the whole service accept from one socket."""
    os.environ[OPTIONS_VARIABLE] = options.model_dump_json()
    app = "harness.server.__main__:app_of_environment"
    config = _config(app, factory=True, workers=options.server_processes)
    Multiprocess(config, [listening]).run()


def app_of_environment() -> FastAPI:
    """The app, where uvicorn has started the process."""
    return create_app(ServerOptions.model_validate_json(os.environ[OPTIONS_VARIABLE]), _report)


def _config(app: FastAPI | str, **more: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        lifespan="on",
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=3,
        timeout_worker_healthcheck=HEALTHY_WITHIN_S,
        **UVICORN,
        **more,
    )


def _report(error: Exception) -> None:
    reported = to_parent(error, failed="The server cannot start", stage="server")
    # on a line of its own: what was printed before may have ended without a newline. Not through sys.stderr,
    # which the user's code may have replaced.
    with suppress(OSError):
        os.write(2, f"\n{ERROR_MARK}{json.dumps(reported)}\n".encode())


if __name__ == "__main__":
    main()
