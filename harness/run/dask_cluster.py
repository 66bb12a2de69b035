"""Load generators on the workers of a Dask cluster, one on each. Dask places them and carries their lines."""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from harness.errors import HarnessError, UsageError, one_line
from harness.run.channel import Place
from harness.run.clocks import Exchange
from harness.run.on_dask_worker import OnDaskWorker, process_table
from harness.wire.clock import now_ms
from harness.wire.generator_messages import CLOCK

CONNECTS_WITHIN_S = 5.0
PLACED_WITHIN_S = 30.0  # a worker imports the actor's module and starts a process
ANSWERS_WITHIN_S = 10.0  # beyond the time that a call may take by itself
READS_FOR_S = 0.5
LIMIT_WITHIN_S = 60.0


class DaskCluster:
    """Context manager over the connection to a scheduler. Raises UsageError without the extra `dask`."""

    def __init__(self, address: str) -> None:
        self._address = address

    def __enter__(self) -> DaskCluster:
        try:
            from distributed import Client
        except ImportError as error:
            raise UsageError(
                "Load from a Dask cluster needs the package distributed.",
                stage="load",
                hint="Install it: pip install 'executor-bench[dask]'",
            ) from error
        logging.getLogger("distributed").setLevel(
            logging.CRITICAL
        )  # each of its failures is an error of ours
        try:
            # straight to the workers: through the scheduler, a round trip would take twice as long
            self._client = Client(self._address, timeout=CONNECTS_WITHIN_S, direct_to_workers=True)
        except (OSError, ValueError) as error:
            raise HarnessError(
                f"There is no Dask scheduler at {self._address}: {one_line(error)}.",
                stage="load",
                hint="Start one with `dask scheduler`, and a `dask worker` on each host that sends load.",
            ) from error
        self.count = len(self._workers())
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close(timeout=ANSWERS_WITHIN_S)

    def channels(self, number: int) -> DaskChannel:
        """Return the channel to the generator with this number. Raises HarnessError without any worker."""
        workers = self._workers()
        return DaskChannel(self._client, workers[number % len(workers)])

    def _workers(self) -> list[str]:
        """The addresses of the workers. Raises HarnessError if there are none, or the scheduler is gone."""
        try:
            found = sorted(self._client.scheduler_info(n_workers=-1)["workers"])
        except Exception as error:
            raise HarnessError(
                f"The Dask scheduler at {self._address} no longer answers: {one_line(error)}.", stage="load"
            ) from error
        if not found:
            raise HarnessError(
                f"The Dask scheduler at {self._address} has no worker.",
                stage="load",
                hint=f"On each host that sends load: dask worker {self._address}",
            )
        return found


class DaskChannel:
    """A `Channel` to a load generator on a Dask worker."""

    def __init__(self, client: Any, worker: str) -> None:
        self._client = client
        self._worker = worker
        self._lines: deque[bytes] = deque()
        self._lost = ""  # why the worker can no longer be reached

    def open(self) -> None:
        """See `Channel`."""
        there = {"workers": [self._worker], "allow_other_workers": False, "pure": False, "retries": 0}
        try:
            # an actor whose class the worker cannot import would never be placed
            imported = self._client.submit(__import__, OnDaskWorker.__module__, **there)
            if error := imported.exception(timeout=PLACED_WITHIN_S):
                raise error
            placed = self._client.submit(OnDaskWorker, actor=True, **there)
            self._actor = placed.result(timeout=PLACED_WITHIN_S)
            self._facts = self._actor.facts().result(timeout=ANSWERS_WITHIN_S)
        except Exception as error:
            raise HarnessError(
                f"The Dask worker {self._worker} cannot run a load generator: {one_line(error)}.",
                stage="load",
                hint="Install this version of executor-bench in the worker's environment.",
            ) from error
        self.send(json.dumps({CLOCK: None}).encode())  # answered once the load generator has started
        if not self.peek(PLACED_WITHIN_S):
            raise self.died("It did not start.")
        self.drop()

    def place(self) -> Place:
        """See `Channel`."""
        is_here = self._facts["process_table"] == process_table() != ""
        return Place(urlsplit(self._worker).hostname or self._worker, self._facts["pid"] if is_here else None)

    def send(self, line: bytes) -> None:
        """See `Channel`."""
        if not self._call("write", line):
            raise BrokenPipeError

    def peek(self, within_s: float) -> bytes | None:
        """See `Channel`."""
        deadline = time.monotonic() + within_s
        while not self._lines:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return None
            self._lines.extend(self._call("read", min(left_s, READS_FOR_S)) or ())
            if self._lost:
                return b""
        return self._lines[0]

    def drop(self) -> None:
        """See `Channel`."""
        self._lines.popleft()

    def exchange_clocks(self) -> Exchange:
        """See `Channel`."""
        sent_ms = now_ms()
        there_ms = self._call("clock_ms")
        received_ms = now_ms()
        if there_ms is None:
            raise BrokenPipeError
        return Exchange(sent_ms, there_ms, received_ms)

    def end_early(self) -> None:
        """See `Channel`."""
        self._call("end_early")

    def is_stopped(self) -> bool:
        """See `Channel`. A worker that is stopped answers no call, so it is lost."""
        return False

    def start_limit(self, transport: str) -> Callable[[], dict[str, float]]:
        """Start to measure the limit of a load generator on that host; return how to wait for the result."""
        pending = self._actor.limit(transport)

        def result() -> dict[str, float]:
            try:
                found: dict[str, float] = pending.result(timeout=LIMIT_WITHIN_S)
            except Exception as error:
                raise HarnessError(
                    f"The Dask worker {self._worker} cannot measure its limit: {one_line(error)}.",
                    stage="roofline",
                    hint="--no-self-check runs without it.",
                ) from error
            return found

        return result

    def died(self, rows: str) -> HarnessError:
        """See `Channel`."""
        code = None if self._lost else self._call("exit_code")
        why = self._lost or f"exit code {code}"
        return HarnessError(
            f"The load generator on the Dask worker {self._worker} ended during the run ({why}).",
            stage="load",
            hint=f"See the log of the worker. {rows}",
        )

    def kill(self) -> None:
        """See `Channel`."""
        self._call("kill")

    def close(self) -> None:
        """See `Channel`. The actor ends when nobody knows it any more."""
        self.kill()
        self._actor = None

    def _call(self, method: str, *arguments: Any) -> Any:
        """Return the result of a method of the actor; None if the worker cannot be reached."""
        if self._lost or self._actor is None:
            return None
        within_s = ANSWERS_WITHIN_S + (arguments[0] if method == "read" else 0.0)
        try:
            return getattr(self._actor, method)(*arguments).result(timeout=within_s)
        except Exception as error:  # noqa: BLE001 - Dask raises many kinds for a worker that is gone
            self._lost = one_line(error) or type(error).__name__
            return None
