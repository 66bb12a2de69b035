"""Start the load generator as a child process and run trials with it. Imports no httpx."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil

from harness.errors import HarnessError, from_child
from harness.run.supervisor import Supervisor
from harness.system import signals, streams
from harness.wire import early_end
from harness.wire.arrivals import closed
from harness.wire.load_options import REVEALED, LoadOptions
from harness.wire.records import Outcome
from harness.wire.row_lines import shots_of
from harness.wire.tally import Counts

ENDS_WITHIN_S = 5.0
HANDS_OVER_WITHIN_S = 5.0
LOOKS_EVERY_S = 5.0  # checks whether a silent load generator was stopped; twice in a row ends the trial

ONE_REQUEST = {  # of a single user, without a warm-up
    "arrivals": closed(1),
    "requests": 1,
    "duration_s": None,
    "warmup_requests": 0,
    "settle_s": 0.0,
    "think": None,
}


Sink = Callable[[str], None]


def _ignore(answered: int, median_ms: float) -> None: ...


class Loader:
    """Context manager over one `python -m harness.client`, which runs trial after trial.

    The rows of a trial arrive while it runs. Ctrl-C may come at any time: each row is handed on exactly once.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def __enter__(self) -> Loader:
        self._process: subprocess.Popen[bytes] = self._supervisor.spawn(
            "harness.client", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=None
        )
        assert self._process.stdout is not None
        streams.enlarge_pipe(self._process.stdout.fileno())
        self._answers = _Answers(self._process.stdout.fileno())
        self._rows = _Rows(None, keeps=False)
        return self

    @property
    def pid(self) -> int:
        return self._process.pid

    def run(
        self,
        options: LoadOptions,
        on_progress: Callable[[int, float], None] = _ignore,
        sink: Sink | None = None,
        *,
        keep_shots: bool = True,
    ) -> Outcome:
        """Run one trial; call `on_progress(answered, median latency in ms)` about twice a second.

        `sink` gets the lines of finished requests (see `wire.row_lines`) within a second. The outcome has the
        shots in order of sending, or none without `keep_shots`: then memory is bounded, however long the
        trial is.

        Raises HarnessError if the child has died, or there was no request to send. After a KeyboardInterrupt,
        `hand_over` returns what was measured.
        """
        assert self._process.stdin is not None
        self._rows = _Rows(sink, keeps=keep_shots)
        try:
            self._process.stdin.write(options.model_dump_json(context=REVEALED).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None
        while True:
            message = self._next_message()
            if "outcome" in message:
                outcome = self._rows.outcome(message["outcome"])
                self._answers.drop()
                return outcome
            if "rows" in message:
                self._hand_on(message["rows"])
                continue
            self._answers.drop()
            if "error" in message:
                raise from_child(message["error"])
            on_progress(message["done"], message["p50_ms"])

    def hand_over(self) -> Outcome | None:
        """End the current trial; return what it has measured, or None if no answer arrives in time."""
        deadline = time.monotonic() + HANDS_OVER_WITHIN_S
        self._process.send_signal(early_end.SIGNAL)
        while line := self._answers.peek(max(0.0, deadline - time.monotonic())):
            message = json.loads(line)
            if "outcome" in message:
                return self._rows.outcome(message["outcome"])
            if "rows" in message:
                self._hand_on(message["rows"])
            else:
                self._answers.drop()
        return None

    def _hand_on(self, lines: str) -> None:
        """Hand on the rows of the current message, and drop it."""
        with signals.deferred():
            self._rows.take(lines)
            self._answers.drop()

    def __exit__(self, *_: object) -> None:
        self._process.kill()  # between trials it holds no data; the rest of an unfinished trial is not needed
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):  # options that it has not read
                pipe.close()

    def _next_message(self) -> dict[str, Any]:
        """Its next message, which stays in the buffer until it is dropped."""
        times_stopped = 0
        while (line := self._answers.peek(LOOKS_EVERY_S)) is None:
            times_stopped = times_stopped + 1 if self._is_stopped() else 0
            if times_stopped == 2:
                raise HarnessError(
                    "The load generator was stopped by a signal and has not resumed.",
                    stage="load",
                    hint=self._rows.whereabouts,
                )
        if not line:
            raise self._died()
        message: dict[str, Any] = json.loads(line)
        return message

    def _is_stopped(self) -> bool:
        try:
            return psutil.Process(self._process.pid).status() == psutil.STATUS_STOPPED
        except psutil.NoSuchProcess:
            return False

    def _died(self) -> HarnessError:
        code = self._process.wait(ENDS_WITHIN_S)
        return HarnessError(
            f"The load generator ended during the run (exit code {code}).",
            stage="load",
            hint=f"Its last output is above. {self._rows.whereabouts}",
        )


class _Rows:
    """The rows of the current trial."""

    def __init__(self, sink: Sink | None, *, keeps: bool) -> None:
        self._sink = sink
        self._keeps = keeps
        self._kept: list[str] = []  # parsed at the end, so that the load has the CPU

    @property
    def whereabouts(self) -> str:
        """Where the rows of a trial are that has no outcome."""
        if self._sink is None:
            return "What it has measured in this trial is lost."
        return "The rows of this trial until then are in requests.csv."

    def take(self, lines: str) -> None:
        if self._sink is not None:
            self._sink(lines)
        if self._keeps:
            self._kept.append(lines)

    def outcome(self, data: dict[str, Any]) -> Outcome:
        """The outcome of the trial, made of what the load generator says at its end."""
        shots = [shot for lines in self._kept for shot in shots_of(lines)]
        shots.sort(key=lambda shot: shot.seq)
        return Outcome(**{**data, "shots": shots, "tally": Counts(**data["tally"])})


class _Answers:
    """The lines of a pipe. An interrupted read loses nothing: the next read returns the same line."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._read = bytearray()
        self._searched = 0
        self._poll = select.poll()
        self._poll.register(pipe, select.POLLIN)

    def peek(self, within_s: float) -> bytes | None:
        """The next line; None if it does not arrive in time, empty if the pipe ends before it is complete."""
        deadline = time.monotonic() + within_s
        while (end := self._read.find(b"\n", self._searched)) < 0:
            self._searched = len(self._read)
            if not self._poll.poll(1e3 * max(0.0, deadline - time.monotonic())):
                return None
            chunk = os.read(self._pipe, 1 << 20)
            if not chunk:
                return b""
            self._read += chunk
        self._searched = end
        return bytes(self._read[:end])

    def drop(self) -> None:
        """Remove the line that `peek` returned."""
        del self._read[: self._searched + 1]
        self._searched = 0
