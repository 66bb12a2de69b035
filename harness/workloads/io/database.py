"""`python -m harness.workloads.io.database`: the table that pgvector searches, for the duration of a run.

The table is in our own PostgreSQL server, which is started here and removed with its data. With `io_dsn` it
is in a new schema in the user's database. At the end the schema is dropped; if that fails, a warning names
it. Nothing else in that database changes.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from harness.errors import HarnessError, from_child, one_line
from harness.system import children
from harness.wire.options import WorkloadOptions
from harness.workloads.io import embeddings, postgres_server, service
from harness.workloads.io.pgvector import EXTENSION_SCHEMA

if TYPE_CHECKING:
    import asyncpg
    import numpy as np
    import numpy.typing as npt

TEXTS_SEED = 1
CONNECTS_WITHIN_S = 10.0
DROPS_WITHIN_S = 15.0


async def serve(options: WorkloadOptions) -> None:
    """Create the table, report its address, and keep it until cancelled. Raises if the database ends."""
    if options.io_dsn is not None:
        async with _own_schema(options.io_dsn) as address:
            await _fill(address, options)
            service.report(address=address)
            await asyncio.Event().wait()
    async with postgres_server.running() as postgres:
        service.report(stage="starting PostgreSQL")
        async with _connected(postgres.dsn) as connection:
            await connection.execute("CREATE EXTENSION vector")
        await _fill(postgres.dsn, options)
        service.report(address=postgres.dsn)
        await postgres.ended()


@asynccontextmanager
async def _own_schema(dsn: str) -> AsyncIterator[str]:
    """The address of a new schema in the database at `dsn`; it is dropped on leaving."""
    name = f"execbench_{secrets.token_hex(6)}"
    async with _connected(dsn) as connection:
        extension: str | None = await connection.fetchval(EXTENSION_SCHEMA)
        if extension is None:
            raise HarnessError(
                "The database of --io-dsn lacks the extension `vector`.",
                stage="io",
                hint="Let a user with the necessary rights run once in it: CREATE EXTENSION vector;",
            )
        try:
            await connection.execute(f"CREATE SCHEMA {name}")
        except Exception as error:
            raise _refused("refused to create a schema", error) from error
    try:
        path = urlencode({"search_path": f"{name},{extension}"})
        yield f"{dsn}{'&' if '?' in dsn else '?'}{path}"
    finally:
        if why := await _drop(dsn, name):
            service.report(
                left=f"The schema {name} could not be dropped ({why}). Drop it: DROP SCHEMA {name} CASCADE;"
            )


async def _drop(dsn: str, name: str) -> str:
    """Drop the schema; the reason if that failed, else "". Never raises, to keep an earlier error."""
    import asyncpg

    try:
        async with asyncio.timeout(DROPS_WITHIN_S), _connected(dsn) as connection:
            await connection.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")
    except TimeoutError:
        return f"no answer within {DROPS_WITHIN_S:g} s"
    except HarnessError as error:
        return error.what.removesuffix(".")
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return one_line(error)
    return ""


@asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    import asyncpg

    try:
        connection = await asyncpg.connect(
            dsn, password=postgres_server.password(dsn), timeout=CONNECTS_WITHIN_S
        )
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise _refused("cannot be reached", error) from error
    try:
        yield connection
    finally:
        connection.terminate()


def _refused(what: str, error: Exception) -> HarnessError:
    return HarnessError(
        f"The database {what}: {one_line(error)}.",
        stage="io",
        hint="--io-dsn has the form postgresql://user@host:5432/database; the password goes into PGPASSWORD.",
    )


# -- the table -----------------------------------------------------------------------------------------


async def _fill(address: str, options: WorkloadOptions) -> None:
    """Create and fill the table `texts` with its index, in the address's search path."""
    from pgvector.asyncpg import register_vector

    vectors = await _embeddings(options)
    service.report(stage=f"indexing {len(vectors):,} texts")
    rows = zip(embeddings.texts(TEXTS_SEED, options.io_rows), vectors, strict=True)
    async with _connected(address) as connection:
        await register_vector(connection, schema=await connection.fetchval(EXTENSION_SCHEMA))
        await connection.execute(f"CREATE TABLE texts (text text, embedding vector({vectors.shape[1]}))")
        await connection.copy_records_to_table("texts", records=rows, columns=["text", "embedding"])
        await connection.execute("CREATE INDEX ON texts USING hnsw (embedding vector_cosine_ops)")
        await connection.execute("ANALYZE texts")


async def _embeddings(options: WorkloadOptions) -> npt.NDArray[np.float32]:
    """The texts' vectors by the workload's model, which runs in a child process that ends afterwards."""
    import numpy as np

    service.report(
        stage=f"embedding {options.io_rows:,} texts (cached for the next run if the model reports its hash)"
    )
    with tempfile.TemporaryDirectory(prefix="execbench-") as folder:
        path = Path(folder) / "vectors.npy"
        process = await asyncio.create_subprocess_exec(
            *children.python("harness.workloads.io.embeddings", str(path)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        job = {"workload": options.model_dump(exclude_unset=True), "seed": TEXTS_SEED}
        try:
            output, _ = await process.communicate(json.dumps(job).encode())
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        if process.returncode and (lines := output.splitlines()):
            raise from_child(json.loads(lines[-1]))
        if process.returncode:
            raise HarnessError(
                f"The texts could not be embedded (exit code {process.returncode}).", stage="io"
            )
        vectors: npt.NDArray[np.float32] = np.load(path)
        return vectors


if __name__ == "__main__":
    service.main(serve)
