"""A sleep that stands for a database: it costs no CPU, no connection and nobody's time but the request's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from harness.wire.options import WorkloadOptions
from harness.workloads import Workload
from harness.workloads.io.kinds import Ask, Found

SUMMARY = "a sleep of --io-ms, the article's stand-in for a database (sleep:5ms)"
SERVICE = None


def check(options: WorkloadOptions) -> None:
    """Nothing can be wrong."""


@asynccontextmanager
async def opened(workload: Workload, options: WorkloadOptions) -> AsyncIterator[Ask]:
    """Takes `io_ms`, rounded up to the timer's whole milliseconds; of none, nothing is awaited.

    Even a sleep of 0 s lets the loop run all that is ready first, so it would wait for the models of others.
    """

    async def ask(result: Any) -> Found:
        if options.io_ms:
            await asyncio.sleep(options.io_ms / 1e3)
        return Found(workload.answer(result))

    yield ask
