"""The FastAPI app that is measured: the same in every mode. Only `submit` differs between strategies."""

from __future__ import annotations

import asyncio
import functools
import math
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import BrokenExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

import strategies
from harness import workloads
from harness.errors import HarnessError, one_line
from harness.server import worker
from harness.server.disconnect import CLIENT_LEFT, ClientLeft, unless_the_client_leaves
from harness.wire.clock import now_ms
from harness.wire.loop_lag import Beat
from harness.wire.options import ServerOptions
from harness.wire.records import Timings
from harness.wire.timings import HEADER, encode
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
            failure = _lost(error)
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
        is_able = _handler(app).is_able()
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


class Handler:
    """One request's way through model and I/O, stamped."""

    def __init__(
        self,
        submit: strategies.Submit,
        ask: kinds.Ask,
        options: ServerOptions,
    ) -> None:
        self._submit = submit
        self._ask = ask
        self._inject = options.inject
        self._instrumented = options.instrumented
        self._stamp = now_ms if options.instrumented else _no_stamp
        self.is_able = submit.is_able

    async def answer(self, item: str, request: Request) -> Response:
        """200 with the I/O's value.

        500 when the model or the user's I/O raised, or the model killed its workers; 503 when the strategy
        can take no more, now (with Retry-After) or ever; 502 when the I/O gave no good answer; 504 when the
        call, or the I/O, took too long. A client that leaves takes its item along.
        """
        entered = self._stamp()
        await _delay(self._inject.queue_ms)
        try:
            reply: worker.Reply = await unless_the_client_leaves(request, self._submit(item))
        except ClientLeft:
            return Response(status_code=CLIENT_LEFT)
        except Exception as error:  # noqa: BLE001 - whatever a model raises, the client gets an answer
            return _failed(error)
        await _delay(self._inject.resume_ms)
        resumed = self._stamp()
        await _delay(self._inject.io_ms)
        try:
            found = await self._ask(reply.value)
        except Exception as error:  # noqa: BLE001 - as above: the I/O may be the user's
            return _failed(error)
        io_done = self._stamp()
        headers = self._headers(reply, entered, resumed, io_done, found.server_ms)
        return Response(json_bodies.body(found.value), media_type="application/json", headers=headers)

    def _headers(
        self, reply: worker.Reply, entered: float, resumed: float, io_done: float, io_server_ms: float | None
    ) -> dict[str, str]:
        if not self._instrumented:
            return {}
        timings = Timings(
            entered_ms=entered,
            queue_ms=reply.started_ms - entered,
            model_ms=reply.ended_ms - reply.started_ms,
            model_cpu_ms=reply.cpu_ms,
            resume_ms=resumed - reply.ended_ms,
            io_ms=io_done - resumed,
            io_server_ms=io_server_ms,
            handler_ms=now_ms() - entered,
            batch_size=reply.batch_size,
            worker_pid=reply.pid,
        )
        return {HEADER: encode(timings)}


def _no_stamp() -> float:
    return 0.0


async def _delay(delay_ms: float) -> None:
    if delay_ms:
        await asyncio.sleep(delay_ms / 1e3)


_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (strategies.Full, 503),
    (BrokenExecutor, 503),
    (strategies.TimedOut, 504),
    (TimeoutError, 504),
    (kinds.Late, 504),
    (kinds.Broken, 502),
)


def _failed(error: Exception) -> JSONResponse:
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    headers = {}
    if isinstance(error, kinds.Broken):  # by the thousand when it is gone, and the client keeps them
        return JSONResponse({"detail": str(error)}, status_code=status)
    said = one_line(error)
    if isinstance(error, strategies.Full):  # by the thousand when overloaded: not worth a line each
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    else:
        _log(f"answered {status}: {said}")
    return JSONResponse({"detail": said}, status_code=status, headers=headers)


def _log(line: str) -> None:
    """To the server's log itself: the user's code may have turned `logging` off, or replaced sys.stderr."""
    with suppress(OSError):
        os.write(2, f"{line}\n".encode(errors="replace"))


def _lost(error: strategies.Lost) -> HarnessError:
    return HarnessError(
        f"predict() was called for the first time, and {error}.",
        stage="workload",
        hint="Return plain values, or results of a class that the server's process can import as well.",
    )
