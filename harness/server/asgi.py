"""The measured app for any ASGI server: the factory `harness.server.asgi:app`.

    EXECBENCH_SERVER='{"strategy": "thread"}' granian --interface asgi --factory harness.server.asgi:app

EXECBENCH_SERVER has the options as JSON, with the keys of an arm and a table `workload`. The server must run
the app's lifespan, which opens the strategy.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path

from fastapi import FastAPI
from pydantic import ValidationError

from harness import workloads
from harness.errors import ERROR_MARK, HarnessError, to_parent
from harness.server.app import create_app
from harness.system import children
from harness.wire.options import APP_VARIABLE, OF_UVICORN, ServerOptions
from harness.wire.setting import explain

EXIT_NOT_STARTED = 3  # the same exit code as uvicorn


def app() -> FastAPI:
    """Create the app with the options in EXECBENCH_SERVER.

    If that is impossible, report why, in a line of stderr that `execbench` reads, and exit with code 3.
    """
    try:
        options = _options()
        prepare(options)
        return create(options)
    except Exception as error:  # noqa: BLE001 - the parent process shows the error
        report(error)
        sys.exit(EXIT_NOT_STARTED)


def prepare(options: ServerOptions) -> None:
    """Prepare this process, and those that it starts, for the user's code and for the model's library."""
    if "executor" in (options.strategy, options.options.get("over")):  # its factory is the user's code
        children.let_import_from(Path.cwd())
    # the model's library reads the thread limits when it is imported, here and in the workers
    os.environ.update(workloads.create(options.workload).environment())


def create(options: ServerOptions) -> FastAPI:
    """Create the app of one arm. If its strategy cannot be opened, it reports why."""
    return create_app(options, report)


def as_variable(options: ServerOptions) -> dict[str, str]:
    """Return the environment variable from which `app` creates the app with these options."""
    return {APP_VARIABLE: options.model_dump_json(exclude=set(OF_UVICORN))}


def report(error: Exception) -> None:
    """Write the error to stderr, in one line that `execbench` reads from the server's log."""
    reported = to_parent(error, failed="The server cannot start", stage="server")
    # starts a new line, as earlier output may lack a final newline; does not use sys.stderr, which the user's
    # code may have replaced
    with suppress(OSError):
        os.write(2, f"\n{ERROR_MARK}{json.dumps(reported)}\n".encode())


def _options() -> ServerOptions:
    text = os.environ.get(APP_VARIABLE)
    if text is None:
        raise HarnessError(
            f"The environment variable {APP_VARIABLE} is not set.",
            stage="server",
            hint=f"""Set it to the app's options, like {APP_VARIABLE}='{{"strategy": "thread"}}'""",
        )
    try:
        options = ServerOptions.model_validate_json(text)
    except ValidationError as error:
        raise HarnessError(
            f"{APP_VARIABLE} is not valid: {explain(error)}",
            stage="server",
            hint='Write JSON with the keys of an arm and its workload, like {"strategy": "thread"}',
        ) from error
    if given := sorted(options.model_fields_set & set(OF_UVICORN)):
        raise HarnessError(
            f"{APP_VARIABLE} has {', '.join(given)}, which the app cannot set.",
            stage="server",
            hint="Set it in the command that starts the server.",
        )
    return options
