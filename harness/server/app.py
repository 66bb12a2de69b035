"""The FastAPI app that is measured: the same in every mode. Only `submit` differs between strategies."""

from __future__ import annotations

import asyncio
import functools
import math
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import BrokenExecutor
from contextlib import asynccontextmanager, nullcontext, suppress
from typing import Any, NamedTuple

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

import strategies
from harness import workloads
from harness.errors import HarnessError, one_line
from harness.server import worker
from harness.server.disconnect import CLIENT_LEFT, ClientLeft, unless_the_client_leaves
from harness.server.server_timing import Record, stage
from harness.wire.loop_lag import Beat
from harness.wire.options import ServerOptions
from harness.wire.timings import HEADER
from harness.workloads import json_bodies
from harness.workloads.io import kinds

WATCH = "/-/watch"


class Question(BaseModel):
    """The body of `POST /predict`."""

    text: str


def create_app(options: ServerOptions, on_failure: Callable[[Exception], None]) -> FastAPI:
    """The app for one arm. It answers requests once every worker has loaded the model and run it once.

    When the strategy cannot be opened, `on_failure` hears why, and the server does not start.

    GET / asks the article's sentence; POST /predict the text of its body. Model first, then the awaited I/O;
    the split of the time leaves in the `Server-Timing` header, unless the app is not instrumented.
    GET /health is 200 once every worker is warm, and 503 when nothing can be served any more.
    GET /ping answers at once, so that what it waits for is the loop. POST /-/watch starts to measure how late
    that loop is, and DELETE /-/watch ends it and tells.
    """
    workload = workloads.create(options.workload)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            async with kinds.opened(workload, options.workload) as ask, _open(options) as submit:
                about = (await submit(worker.About())).value
                app.state.handler = Handler(submit, ask, options)
                app.state.about = about
                yield
        except strategies.Lost as error:
            failure = HarnessError(
                f"predict() was called for the first time, and {error}.",
                stage="workload",
                hint="Return plain values, or results of a class that the server's process "
                "can import as well.",
            )
            on_failure(failure)
            raise failure from error
        except Exception as error:
            on_failure(error)
            raise

    app = FastAPI(title="executor-bench", lifespan=lifespan, docs_url=None, redoc_url=None)

    @app.get("/")
    async def article(request: Request) -> Response:
        return await _handler(app).answer(workload.warmup_item, request)

    @app.post("/predict")
    async def predict(question: Question, request: Request) -> Response:
        return await _handler(app).answer(question.text, request)

    @app.get("/health")
    async def health() -> JSONResponse:
        is_able = _handler(app).submit.is_able()
        content = {
            "status": "ok" if is_able else "broken",
            "strategy": options.strategy,
            "pid": os.getpid(),
            "about": app.state.about,
        }
        return JSONResponse(content, status_code=200 if is_able else 503)

    @app.get("/ping")
    async def ping() -> JSONResponse:
        return JSONResponse({"ping": "pong"})

    _add_watch(app)
    return app


def _add_watch(app: FastAPI) -> None:
    beat = Beat()

    @app.post(WATCH)
    async def watch() -> JSONResponse:
        beat.start()
        return JSONResponse({"watch": "started"})

    @app.delete(WATCH)
    async def unwatch() -> JSONResponse:
        lag = await beat.stop()
        return JSONResponse({"beats": lag.beats, "lag_p99_ms": lag.p99_ms, "lag_max_ms": lag.max_ms})


def _open(options: ServerOptions) -> Any:
    module = strategies.get(options.strategy)
    setup = functools.partial(worker.setup, options.workload, options.inject.model_ms)
    modules = workloads.create(options.workload).modules
    chosen = {"workers": options.workers, "preload": modules, **options.options}
    return module.open(setup, worker.call, strategies.Options(**chosen))


def _handler(app: FastAPI) -> Handler:
    handler: Handler = app.state.handler
    return handler


_MODEL, _IO = stage("model"), stage("io")


class Handler(NamedTuple):
    """One request's way through model and I/O, timed as `server_timing` times the app of a user."""

    submit: strategies.Submit
    ask: kinds.IoCall
    options: ServerOptions

    async def answer(self, item: str, request: Request) -> Response:
        """200 with the I/O's value.

        500 when the model or the user's I/O raised, or the model killed its workers; 503 when the strategy
        can take no more, now (with Retry-After) or ever; 502 when the I/O gave no good answer; 504 when the
        call, or the I/O, took too long. A client that leaves takes its item along.
        """
        with Record() if self.options.instrumented else nullcontext() as record:
            try:
                value = await self._value(item, request)
            except ClientLeft:
                return Response(status_code=CLIENT_LEFT)
            except Exception as error:  # noqa: BLE001 - whatever a model or the user's I/O raises, the client gets an answer
                return _failed(error)
            headers = {} if record is None else {HEADER: record.header()}
        return Response(json_bodies.body(value), media_type="application/json", headers=headers)

    async def _value(self, item: str, request: Request) -> Any:
        inject = self.options.inject
        with _MODEL:
            await _delay(inject.queue_ms)
            done = await unless_the_client_leaves(request, self.submit(item))
            await _delay(inject.resume_ms)
            result = _MODEL.take(done)
        with _IO:
            await _delay(inject.io_ms)
            found = await self.ask(result)
            _IO.note_server_ms(found.server_ms)
        return found.value


async def _delay(delay_ms: float) -> None:
    if delay_ms:
        await asyncio.sleep(delay_ms / 1e3)


_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (strategies.Full, 503),
    (BrokenExecutor, 503),
    (strategies.TimedOut, 504),
    (TimeoutError, 504),
    (kinds.DownstreamTimeout, 504),
    (kinds.DownstreamError, 502),
)


def _failed(error: Exception) -> JSONResponse:
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    headers = {}
    if isinstance(error, kinds.DownstreamError):  # by the thousand when it is gone, and the client keeps them
        return JSONResponse({"detail": str(error)}, status_code=status)
    said = one_line(error)
    if isinstance(error, strategies.Full):  # by the thousand when overloaded: not worth a line each
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    else:
        # to the server's log itself: the user's code may have turned `logging` off, or replaced sys.stderr
        with suppress(OSError):
            os.write(2, f"answered {status}: {said}\n".encode(errors="replace"))
    return JSONResponse({"detail": said}, status_code=status, headers=headers)
