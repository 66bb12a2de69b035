"""A small child process that answers after a given time: real sockets and wake-ups, but no work.

The protocol is one line each way: how long to take, and how long it took, both in milliseconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from harness.errors import UsageError
from harness.wire.clock import now_ms
from harness.wire.options import WorkloadOptions
from harness.workloads import Workload
from harness.workloads.io import service
from harness.workloads.io.kinds import IoCall, IoResult, within

SUMMARY = "a child process that answers on a socket after --io-ms (socket:5ms)"
PACKAGES: tuple[str, ...] = ("psutil>=6.0",)
SERVICE = "harness.workloads.io.socket"

HOST = "127.0.0.1"
BACKLOG = 2048  # a burst opens a connection for each request at once

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def check(options: WorkloadOptions) -> None:
    """Raise UsageError if no answer could be in time."""
    if options.io_ms >= options.io_timeout_s * 1e3:
        raise UsageError(
            f"I/O of {options.io_ms:g} ms cannot finish within its time-out of {options.io_timeout_s:g} s.",
            stage="plan",
            hint="Raise --io-timeout.",
        )


@asynccontextmanager
async def opened(workload: Workload, options: WorkloadOptions) -> AsyncIterator[IoCall]:
    """Calls over persistent connections, one per request in flight, so that no request waits for another."""
    assert options.io_address is not None, "the run starts the child before the server"
    port = int(options.io_address)
    question = f"{options.io_ms:.3f}\n".encode()
    idle: list[Connection] = []

    async def call(result: Any) -> IoResult:
        async with within("socket", options.io_timeout_s, OSError, EOFError, ValueError):
            took_ms = await _exchange(port, idle, question)
        return IoResult(workload.answer(result), took_ms)

    try:
        yield call
    finally:
        for _, writer in idle:
            writer.close()


async def _exchange(port: int, idle: list[Connection], question: bytes) -> float:
    """Send one question on an idle or a new connection, which is reused only after a complete answer."""
    reader, writer = idle.pop() if idle else await asyncio.open_connection(HOST, port)
    try:
        writer.write(question)
        took_ms = float(await reader.readuntil(b"\n"))
    except BaseException:
        writer.transport.abort()
        raise
    idle.append((reader, writer))
    return took_ms


# -- the child -----------------------------------------------------------------------------------------


async def serve(options: WorkloadOptions) -> None:  # noqa: ARG001 - contract
    """Answer until cancelled. The address is the port."""
    server = await asyncio.start_server(_answer, HOST, 0, backlog=BACKLOG)
    service.report(address=str(server.sockets[0].getsockname()[1]))
    await asyncio.Event().wait()  # `serve_forever` would wait for its clients before it ends


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):  # the client has disconnected
        while line := await reader.readline():
            began = now_ms()
            await asyncio.sleep(float(line) / 1e3)
            writer.write(f"{now_ms() - began:.3f}\n".encode())
    writer.close()


if __name__ == "__main__":
    service.main(serve)
