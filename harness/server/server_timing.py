"""The split of a request's time for any ASGI app (FastAPI, Starlette), in a `Server-Timing` header.

One file of the standard library alone: copy it into a service, which then needs nothing of executor-bench.

    app.add_middleware(ServerTiming)

    with stage("model") as model:
        vector = model.take(await loop.run_in_executor(pool, timed(predict), text))
    with stage("io"):
        rows = await search(vector)

Answers then carry, in milliseconds: `queue` (until a worker began), `model` (in the worker), `resume` (the
way back), `io`, any other stage under its own name, and `handler`, from the middleware's entry to the
answer's beginning. Without `take`, `model` is all of its stage, and there is no `queue` and no `resume`.
Stamps are of the host's monotonic clock, which its processes share.
"""

from __future__ import annotations

import functools
import inspect
import os
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any, NamedTuple

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

_MARK = "executor_bench.timing"  # in the scope of a request that is being timed
_NAME = re.compile(r"[A-Za-z0-9_.-]+")  # of the characters that a header's token may have, the plain ones
_MODEL, _WHOLE = "model", "handler"


class Done(NamedTuple):
    """What a call came to, and when and where: stamps in ms on the host's monotonic clock."""

    value: Any
    started_ms: float
    ended_ms: float
    cpu_ms: float  # of the thread that ran it
    pid: int


class timed:
    """`func` as an executor may be given it: it returns a `Done`, which `stage.take` unpacks.

    Can be pickled if `func` can. What `func` raises is raised. Stages inside of `func` count for the request
    in which `timed(func)` was made, also in an executor's thread; in another process they do nothing.

    TypeError for what has not run yet when it returns: async functions, generators, and functions that return
    an awaitable or a `concurrent.futures.Future`. Put `with stage("model"):` around the `await` of those.
    """

    def __init__(self, func: Callable[..., Any]) -> None:
        if _runs_later(func):
            raise _cannot_be_timed(func)
        self.func = func
        self._request = _current.get()

    def __reduce__(self) -> tuple[Any, ...]:
        return timed, (self.func,)  # a request cannot travel

    def __call__(self, *args: Any, **kwargs: Any) -> Done:
        token = _current.set(_current.get() or self._request)
        try:
            started, cpu_ns = _now_ms(), time.thread_time_ns()
            value = self.func(*args, **kwargs)
            cpu_ms = (time.thread_time_ns() - cpu_ns) / 1e6
            done = Done(value, started, _now_ms(), cpu_ms, os.getpid())
        finally:
            _current.reset(token)
        if _is_pending(value):
            if inspect.iscoroutine(value):
                value.close()  # nobody will await it
            raise _cannot_be_timed(self.func)
        return done


class stage:
    """Context manager around a stretch of a request: `with stage("io"): …`, also around an `await`.

    Works in `async def` and in `def` routes; outside of a request it does nothing. Stretches of one name add
    up. One object may serve many requests, but within a request it cannot be entered again before it is
    left: RuntimeError. ValueError for a name that no header can hold.
    """

    def __init__(self, name: str) -> None:
        if not _NAME.fullmatch(name) or name == _WHOLE:
            raise ValueError(f"{name!r} cannot be a stage's name: letters, digits, _ . - and not {_WHOLE!r}")
        self.name = name

    def __enter__(self) -> stage:
        request = _current.get()
        if request is not None:
            request.enter(self)
        return self

    def take(self, done: Done, batch: int = 1) -> Any:
        """The value in what `timed(func)` returned; its stamps split a stage called "model".

        `batch`: requests that shared the call. Before the stage is entered this only unpacks.
        """
        if not isinstance(done, Done):
            raise TypeError(f"take() unpacks what timed(func) returns, not {type(done).__name__}")
        request = _current.get()
        if request is not None:
            request.take(self, done, batch)
        return done.value

    def __exit__(self, *_: object) -> None:
        request = _current.get()
        if request is not None:
            request.leave(self)


class ServerTiming:
    """ASGI middleware that adds the header to every HTTP answer; it keeps back and changes nothing else.

    The header leaves with the answer's first byte: of a streamed answer it tells what came before.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _MARK in scope:  # a mounted app may have this middleware too
            await self.app(scope, receive, send)
            return
        scope[_MARK] = True
        request = _Request()

        async def send_timed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), (b"server-timing", request.header())]
                message = {**message, "headers": headers}
            await send(message)

        token = _current.set(request)
        try:
            await self.app(scope, receive, send_timed)
        finally:
            _current.reset(token)


class _Taken(NamedTuple):
    done: Done
    at_ms: float
    batch: int


class _Use(NamedTuple):
    """One stretch between a stage's entry and its exit."""

    entered_ms: float
    taken: list[_Taken]


class _Request:
    """What is known of one request. Threads may add to it: appending is atomic, sums are made at the end."""

    def __init__(self) -> None:
        self._entered_ms = _now_ms()
        self._spans: list[tuple[str, float]] = []
        self._calls: dict[tuple[Any, ...], _Taken] = {}  # by the stamps: a call counts once
        self._open: dict[stage, _Use] = {}

    def enter(self, which: stage) -> None:
        """RuntimeError for a stage that is open: its two stretches could not be told apart."""
        use = _Use(_now_ms(), [])
        if self._open.setdefault(which, use) is not use:
            raise RuntimeError(
                f"the stage {which.name!r} is open already in this request: "
                f"make another for each `with stage({which.name!r}):`"
            )

    def take(self, which: stage, done: Done, batch: int) -> None:
        if which in self._open:
            self._open[which].taken.append(_Taken(done, _now_ms(), batch))

    def leave(self, which: stage) -> None:
        use = self._open.pop(which, None)
        if use is None:  # it was entered outside of this request
            return
        new = [taken for taken in use.taken if taken.done[1:] not in self._calls]
        if new and which.name == _MODEL:
            self._add_split(use.entered_ms, new)
        else:
            self._add(which.name, _now_ms() - use.entered_ms)

    def _add(self, name: str, duration_ms: float) -> None:
        self._spans.append((name, max(0.0, duration_ms)))

    def _add_split(self, entered_ms: float, taken: list[_Taken]) -> None:
        """Several calls in one stage count from the first one's start to the last one's end.

        A call may have run before the stage was entered: then there was no queue, and the way back begins
        with the stage.
        """
        started = min(one.done.started_ms for one in taken)
        ended = max(one.done.ended_ms for one in taken)
        self._add("queue", started - entered_ms)
        self._add(_MODEL, ended - started)
        self._add("resume", max(one.at_ms for one in taken) - max(ended, entered_ms))
        self._calls |= {one.done[1:]: one for one in taken}

    def header(self) -> bytes:
        """The header's value so far."""
        total_ms: dict[str, float] = {}
        for name, duration_ms in list(self._spans):
            total_ms[name] = total_ms.get(name, 0.0) + duration_ms
        notes = {_MODEL: self._worker(), _WHOLE: f"entered={self._entered_ms:.3f}"}
        total_ms[_WHOLE] = _now_ms() - self._entered_ms
        return ", ".join(
            f"{name};dur={duration_ms:.3f}" + (f';desc="{notes[name]}"' if notes.get(name) else "")
            for name, duration_ms in total_ms.items()
        ).encode()

    def _worker(self) -> str:
        calls = list(self._calls.values())
        if not calls:
            return ""
        cpu_ms = sum(max(0.0, call.done.cpu_ms) for call in calls)
        return f"cpu={cpu_ms:.3f} batch={calls[-1].batch} pid={calls[-1].done.pid}"


def _runs_later(func: Callable[..., Any]) -> bool:
    """Whether a call of it returns before its work is done, as far as can be seen without calling it."""
    while isinstance(func, functools.partial):
        func = func.func
    return any(
        looks(candidate)
        for candidate in (func, getattr(type(func), "__call__", None))  # noqa: B004  a callable object
        for looks in (inspect.iscoroutinefunction, inspect.isasyncgenfunction, inspect.isgeneratorfunction)
    )


def _is_pending(value: Any) -> bool:
    later = inspect.isawaitable(value) or inspect.isasyncgen(value) or inspect.isgenerator(value)
    return later or isinstance(value, Future)


def _cannot_be_timed(func: Callable[..., Any]) -> TypeError:
    name = getattr(func, "__qualname__", type(func).__name__)
    return TypeError(
        f"timed() measures a call that returns when its work is done, and {name} is async or a generator: "
        f'use `with stage("model"):` around the await or the loop instead'
    )


_current: ContextVar[_Request | None] = ContextVar("request being timed", default=None)


def _now_ms() -> float:
    return time.perf_counter_ns() / 1e6
