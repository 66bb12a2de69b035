"""The measured FastAPI app. It is the same for all strategies; only `submit` differs."""

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
from harness.server.disconnect import STATUS_CLIENT_LEFT, ClientLeft, or_client_leaves
from harness.server.server_timing import Record, stage
from harness.system import garbage
from harness.wire.clock import now_ms
from harness.wire.loop_lag import LoopLagProbe
from harness.wire.options import ServerOptions
from harness.wire.timings import HEADER
from harness.workloads import json_bodies
from harness.workloads.io import kinds

LOOP_LAG_PATH = "/-/watch"


class Question(BaseModel):
    """The body of `POST /predict`."""

    text: str


def create_app(options: ServerOptions, on_failure: Callable[[Exception], None]) -> FastAPI:
    """Create the app for one arm. It serves requests once every worker has loaded and run the model.

    If the strategy cannot be opened, call `on_failure` with the exception; the server then does not start.

    Routes:

    * `GET /` runs the model on the article's sentence, `POST /predict` on the text in its body. Both run the
      model first and then await the I/O. If the app is instrumented, the `Server-Timing` header of the answer
      holds the split of the time.
    * `GET /health` returns 200 once every worker is warm, and 503 when no request can be served any more. Its
      `about` and `environment` are facts that a worker has seen; its `ready_ms` is the moment at which all
      were warm, on the host's monotonic clock.
    * `GET /ping` answers immediately, so its latency shows how long it waited for the event loop.
    * `POST /-/watch` starts to measure the lag of the event loop; `DELETE /-/watch` stops and returns it.
    """
    workload = workloads.create(options.workload)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            async with kinds.opened(workload, options.workload) as ask, _open(options) as submit:
                known = (await submit(worker.About())).value
                app.state.handler = Handler(submit, ask, options)
                loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
                known["about"]["event_loop"] = loop
                app.state.known = known
                app.state.ready_ms = now_ms()
                yield
        except strategies.Lost as error:
            failure = HarnessError(
                f"The first call of predict() failed: {error}.",
                stage="workload",
                hint="Return plain values, or instances of a class that the server process can import too.",
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
            **app.state.known,
            "ready_ms": app.state.ready_ms,
        }
        return JSONResponse(content, status_code=200 if is_able else 503)

    @app.get("/ping")
    async def ping() -> JSONResponse:
        return JSONResponse({"ping": "pong"})

    _add_loop_lag_routes(app)
    return app


def _add_loop_lag_routes(app: FastAPI) -> None:
    probe = LoopLagProbe()

    @app.post(LOOP_LAG_PATH)
    async def start() -> JSONResponse:
        probe.start()
        return JSONResponse({"watch": "started"})

    @app.delete(LOOP_LAG_PATH)
    async def stop() -> JSONResponse:
        lag = await probe.stop()
        return JSONResponse({"samples": lag.samples, "lag_p99_ms": lag.p99_ms, "lag_max_ms": lag.max_ms})


@asynccontextmanager
async def _open(options: ServerOptions) -> AsyncIterator[strategies.Submit]:
    module = strategies.get(options.strategy)
    setup = functools.partial(worker.setup, options.workload, options.inject.model_ms)
    modules = workloads.create(options.workload).modules
    chosen = {"preload": modules, **options.options}
    async with module.open(setup, worker.call, strategies.Options(**chosen)) as submit:
        if options.workload.gc_freeze:
            garbage.freeze()
        yield submit


def _handler(app: FastAPI) -> Handler:
    handler: Handler = app.state.handler
    return handler


_MODEL, _IO = stage("model"), stage("io")


class Handler(NamedTuple):
    """Handles a request: runs the model, then the I/O, and times both with `server_timing`."""

    submit: strategies.Submit
    ask: kinds.IoCall
    options: ServerOptions

    async def answer(self, item: str, request: Request) -> Response:
        """Return 200 with the I/O's value, or an error status.

        * 499: the client has left. Its item is dropped if it is still waiting.
        * 500: the model or the user's I/O raised an exception, or the model killed its workers.
        * 502: the I/O gave no good answer.
        * 503: the strategy accepts no more items, at the moment (with Retry-After) or for good.
        * 504: the call or the I/O took too long.
        """
        with Record() if self.options.instrumented else nullcontext() as record:
            try:
                value = await self._value(item, request)
            except ClientLeft:
                return Response(status_code=STATUS_CLIENT_LEFT)
            except Exception as error:  # noqa: BLE001 - the client gets an answer to any exception of the model or the I/O
                return _error_response(error)
            headers = {} if record is None else {HEADER: record.header()}
        return Response(json_bodies.body(value), media_type="application/json", headers=headers)

    async def _value(self, item: str, request: Request) -> Any:
        inject = self.options.inject
        with _MODEL:
            await _delay(inject.queue_ms)
            done = await or_client_leaves(request, self.submit(item))
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


def _error_response(error: Exception) -> JSONResponse:
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    headers = {}
    if isinstance(error, kinds.DownstreamError):  # not logged: the client keeps them, in thousands
        return JSONResponse({"detail": str(error)}, status_code=status)
    detail = one_line(error)
    if isinstance(error, strategies.Full):  # not logged: thousands under overload
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    else:
        # written to the log directly: the user's code may have disabled `logging` or replaced sys.stderr
        with suppress(OSError):
            os.write(2, f"answered {status}: {detail}\n".encode(errors="replace"))
    return JSONResponse({"detail": detail}, status_code=status, headers=headers)
