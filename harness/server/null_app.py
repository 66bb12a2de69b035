"""`python -m harness.server.null_app FD`: an app that does nothing, to measure the load generator itself."""

import socket
import sys
from typing import Any

import uvicorn

from harness.wire.options import UVICORN

_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain"), (b"content-length", b"2")],
}
_BODY = {"type": "http.response.body", "body": b"ok"}


async def answer(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001 - the ASGI signature
    """Return 200 "ok" to every request: the cheapest possible ASGI app."""
    await send(_START)
    await send(_BODY)


def main() -> None:
    """Serve on the listening socket FD until SIGTERM."""
    config = uvicorn.Config(answer, lifespan="off", **UVICORN)
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])


if __name__ == "__main__":
    main()
