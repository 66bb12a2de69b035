"""`python -m harness.server FD`: serve the app of one arm in its own process. Reads options as JSON on stdin.

Spawned workers do not import a package's `__main__` again, so they do not load what only the server needs.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

from harness.server import asgi
from harness.wire.options import UVICORN, ServerOptions

KEEP_ALIVE_S = 300  # longer than any pause between two windows of a resident server
# uvicorn kills a process that is silent for longer, such as one whose model holds the lock (uvicorn #2506)
HEALTH_CHECK_TIMEOUT_S = 20


def main() -> None:
    """Serve on the listening socket FD until SIGTERM. Exit with code 3 if the strategy cannot be opened."""
    try:
        listening = socket.socket(fileno=int(sys.argv[1]))
        options = ServerOptions.model_validate_json(sys.stdin.read())
        asgi.prepare(options)
        if options.server_processes > 1:
            _serve_in_processes(listening, options)
        else:
            uvicorn.Server(_config(asgi.create(options), options)).run(sockets=[listening])
    except Exception as error:  # noqa: BLE001 - the parent shows it
        asgi.report(error)
        sys.exit(asgi.EXIT_NOT_STARTED)


def _serve_in_processes(listening: socket.socket, options: ServerOptions) -> None:
    """Serve like `uvicorn --workers N`: N processes of the whole service accept from one socket."""
    os.environ.update(asgi.as_variable(options))
    config = _config("harness.server.asgi:app", options, factory=True, workers=options.server_processes)
    Multiprocess(config, [listening]).run()


def _config(app: FastAPI | str, options: ServerOptions, **more: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        lifespan="on",
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=3,
        timeout_worker_healthcheck=HEALTH_CHECK_TIMEOUT_S,
        **UVICORN | {"loop": options.event_loop, "http": options.http_parser},
        **more,
    )


if __name__ == "__main__":
    main()
