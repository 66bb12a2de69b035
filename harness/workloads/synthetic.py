"""A model of known cost, to check the measurements against the truth. Needs no torch."""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import random
import time
from collections.abc import Callable, Iterator

from harness.wire.options import ARTICLE_SENTENCE, WorkloadOptions
from harness.workloads import faulty

SUMMARY = "a call of known cost (--service-ms, --mode sleep|hold|spin|release), no torch"

_HASHED_AT_ONCE = bytes(128 * 1024)  # about 0.1 ms of work; hashlib releases the lock above 2 KiB
_LONGEST_USLEEP_US = 999_999  # POSIX allows usleep to refuse a second or more


class Workload:
    """A model whose `predict` takes `service_ms` per call, and `per_item_ms` more for each of its items.

    Modes:

    * sleep: known wall time, no CPU, interpreter lock free.
    * hold: known wall time, lock held throughout.
    * spin: known CPU time of the thread, lock contended.
    * release: known CPU time of the thread, lock free.

    The result is the text in capitals, or with `dimensions` a vector in place of an embedding.
    Loading takes `setup_ms`. Options make loading fail or items misbehave: see `faulty`.
    """

    warmup_item = ARTICLE_SENTENCE
    io = None
    packages: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()

    def __init__(self, options: WorkloadOptions) -> None:
        self._options = options
        self.gives_vectors = options.dimensions is not None

    def environment(self) -> dict[str, str]:
        return {}

    def load(self) -> Callable[[float], None]:
        faulty.set_up(self._options)
        return _MODES[self._options.mode]

    def predict(self, model: Callable[[float], None], items: list[str]) -> list[str | list[float]]:
        model(self._options.service_ms + self._options.per_item_ms * len(items))
        return [self._answer(item) for item in items]

    def _answer(self, item: str) -> str | list[float]:
        if self._options.faults and item.startswith(faulty.FAULT_PREFIX):
            return faulty.misbehave(item)
        if self._options.dimensions is None:
            return item.upper()
        draw = random.Random(item)  # noqa: S311 - in place of an embedding, far from any other text's
        return [draw.gauss(0.0, 1.0) for _ in range(self._options.dimensions)]

    def answer(self, result: str | list[float]) -> str | list[float]:
        return result

    def payloads(self, seed: int) -> Iterator[str]:
        return (f"item {seed}-{number}" for number in itertools.count())

    def about(self, model: object) -> dict[str, str | int | float | bool | None]:  # noqa: ARG002 - contract
        return {
            "model": f"synthetic {self._options.mode}",
            "service_ms": self._options.service_ms,
            "per_item_ms": self._options.per_item_ms,
        }


def _sleep(service_ms: float) -> None:
    time.sleep(service_ms / 1e3)


def _hold(service_ms: float) -> None:
    """Sleep in C through PyDLL, which keeps the interpreter lock (a Python loop releases it every 5 ms)."""
    usleep = ctypes.PyDLL(None).usleep
    left_us = round(service_ms * 1e3)
    while left_us > 0:
        usleep(min(left_us, _LONGEST_USLEEP_US))
        left_us -= _LONGEST_USLEEP_US


def _spin(service_ms: float) -> None:
    until = time.thread_time() + service_ms / 1e3
    while time.thread_time() < until:
        pass


def _release(service_ms: float) -> None:
    until = time.thread_time() + service_ms / 1e3
    while time.thread_time() < until:
        hashlib.sha256(_HASHED_AT_ONCE)


_MODES = {"sleep": _sleep, "hold": _hold, "spin": _spin, "release": _release}
