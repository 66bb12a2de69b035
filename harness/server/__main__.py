"""`python -m harness.server FD`: serve the app of one arm in its own process. Reads options as JSON on stdin.

Spawned workers do not import a package's `__main__` again, so they do not load what only the server needs.
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

EXIT_NOT_STARTED = 3  # the same exit code as uvicorn
KEEP_ALIVE_S = 300  # longer than any pause between two windows of a resident server
OPTIONS_VARIABLE = "EXECBENCH_SERVER_OPTIONS"  # passes the options to processes that uvicorn starts
# uvicorn kills a process that is silent for longer, such as one whose model holds the lock (uvicorn #2506)
HEALTH_CHECK_TIMEOUT_S = 20


def main() -> None:
    """Serve on the listening socket FD until SIGTERM. Exit with code 3 if the strategy cannot be opened."""
    try:
        listening = socket.socket(fileno=int(sys.argv[1]))
        options = ServerOptions.model_validate_json(sys.stdin.read())
        if "executor" in (options.strategy, options.options.get("over")):  # its factory is the user's code
            children.let_import_from(Path.cwd())
        # the model's library reads the thread limits when it is imported, here and in the workers
        os.environ.update(workloads.create(options.workload).environment())
        if options.server_processes > 1:
            _serve_in_processes(listening, options)
        else:
            uvicorn.Server(_config(create_app(options, _report))).run(sockets=[listening])
    except Exception as error:  # noqa: BLE001 - the parent shows it
        _report(error)
        sys.exit(EXIT_NOT_STARTED)


def _serve_in_processes(listening: socket.socket, options: ServerOptions) -> None:
    """Serve like `uvicorn --workers N`: N processes of the whole service accept from one socket."""
    os.environ[OPTIONS_VARIABLE] = options.model_dump_json()
    app = "harness.server.__main__:app_from_environment"
    config = _config(app, factory=True, workers=options.server_processes)
    Multiprocess(config, [listening]).run()


def app_from_environment() -> FastAPI:
    """Create the app in a process that uvicorn has started."""
    return create_app(ServerOptions.model_validate_json(os.environ[OPTIONS_VARIABLE]), _report)


def _config(app: FastAPI | str, **more: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        lifespan="on",
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=3,
        timeout_worker_healthcheck=HEALTH_CHECK_TIMEOUT_S,
        **UVICORN,
        **more,
    )


def _report(error: Exception) -> None:
    reported = to_parent(error, failed="The server cannot start", stage="server")
    # starts a new line, as earlier output may lack a final newline; does not use sys.stderr, which the user's
    # code may have replaced
    with suppress(OSError):
        os.write(2, f"\n{ERROR_MARK}{json.dumps(reported)}\n".encode())


if __name__ == "__main__":
    main()
