"""`python -m harness.client`: run one trial for each line of JSON on stdin.

It is a separate process, so that neither terminal output nor an fsync of a CSV can delay a request.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import signal
import sys
from typing import Any

from harness.client.engine import run_trial
from harness.errors import to_parent
from harness.system import streams
from harness.wire import early_end
from harness.wire.load_options import LoadOptions
from harness.wire.records import Outcome


def main() -> None:
    """Run a trial for each line of JSON on stdin (LoadOptions). Answer with lines of JSON on stdout."""
    signal.signal(early_end.SIGNAL, signal.SIG_IGN)  # between trials there is nothing to end
    silence_loggers()
    pipe = streams.reserve_stdout()

    def send(message: dict[str, Any]) -> None:
        pipe.write(json.dumps(message) + "\n")
        pipe.flush()

    for line in sys.stdin:
        try:
            options = LoadOptions.model_validate_json(line)
            outcome = asyncio.run(run_trial(options, lambda done, p50: send({"done": done, "p50_ms": p50})))
        except Exception as error:  # noqa: BLE001 - the parent shows it, and this process serves the next trial
            send({"error": to_parent(error)})
        else:
            send({"outcome": _as_json(outcome)})


def silence_loggers() -> None:
    """Keep libraries from logging requests, even if the user's code (imported for its texts) enables it."""
    for library in ("httpx", "httpcore", "aiohttp", "asyncio"):
        logging.getLogger(library).setLevel(logging.CRITICAL)


def _as_json(outcome: Outcome) -> dict[str, Any]:
    shots = [{**shot._asdict(), "timings": dataclasses.asdict(shot.timings)} for shot in outcome.shots]
    return {**outcome._asdict(), "shots": shots}


if __name__ == "__main__":
    main()
