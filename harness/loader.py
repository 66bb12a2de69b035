"""The load generator as a child process, as its parent sees it. Imports no httpx."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from types import TracebackType
from typing import Any

from harness.errors import HarnessError, from_child
from harness.options import REVEALED, LoadOptions
from harness.records import Outcome, Shot, Timings
from harness.supervisor import Supervisor

STOP_WITHIN_S = 5.0


class Loader:
    """Context manager over one `python -m harness.load`, which runs trial after trial."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def __enter__(self) -> Loader:
        self._process: subprocess.Popen[str] = self._supervisor.spawn(
            "harness.load", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=None, text=True
        )
        return self

    @property
    def pid(self) -> int:
        """Of the child process."""
        return self._process.pid

    def run(self, options: LoadOptions, on_progress: Callable[[int, float], None]) -> Outcome:
        """Run one trial; `on_progress(answered, median latency in ms)` is called about twice a second.

        HarnessError when the child has died, or there was nothing to ask.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(options.model_dump_json(context=REVEALED) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None
        for line in self._process.stdout:
            if not line.endswith("\n"):
                break  # killed in the middle of it
            message = json.loads(line)
            if "outcome" in message:
                return _outcome(message["outcome"])
            if "error" in message:
                raise from_child(message["error"])
            on_progress(message["done"], message["p50_ms"])
        raise self._died()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()  # between trials it holds nothing; within one nobody waits for the rest
        self._process.communicate()

    def _died(self) -> HarnessError:
        code = self._process.wait(STOP_WITHIN_S)
        return HarnessError(
            f"The load generator ended in mid-run (exit code {code}).",
            stage="load",
            hint="Its last words stand above. What was measured before is kept.",
        )


def _outcome(data: dict[str, Any]) -> Outcome:
    shots = [Shot(**{**shot, "timings": Timings(**shot["timings"])}) for shot in data["shots"]]
    return Outcome(**{**data, "shots": shots})
