"""A sleep in place of a database: it needs no CPU and no connection, and delays only its own request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from harness.wire.options import WorkloadOptions
from harness.workloads import Workload
from harness.workloads.io.kinds import IoCall, IoResult

SUMMARY = "a sleep of --io-ms in place of a database, as in the article (sleep:5ms)"
PACKAGES: tuple[str, ...] = ()
SERVICE = None


def check(options: WorkloadOptions) -> None:
    """Accept any options."""


@asynccontextmanager
async def opened(workload: Workload, options: WorkloadOptions) -> AsyncIterator[IoCall]:
    """A sleep of `io_ms`, rounded up to the timer's whole milliseconds. With 0 ms it awaits nothing.

    Even a sleep of 0 s would let the loop first run everything that is ready, such as other requests' models.
    """

    async def call(result: Any) -> IoResult:
        if options.io_ms:
            await asyncio.sleep(options.io_ms / 1e3)
        return IoResult(workload.answer(result))

    yield call
