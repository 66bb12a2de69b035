"""`python -m harness.client`: runs trials one after another, each ordered by a line of JSON on stdin.

It is a process of its own so that neither a terminal's redraw nor a CSV's fsync can delay a request.
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
from harness.wire import handing_over
from harness.wire.options import LoadOptions
from harness.wire.records import Outcome


def main() -> None:
    """For each line of JSON on stdin (LoadOptions) run a trial; answer with lines of JSON on stdout."""
    signal.signal(handing_over.ASKED_BY, signal.SIG_IGN)  # between trials there is nothing to hand over
    keep_quiet()
    pipe = streams.kept_for_answers()

    def say(message: dict[str, Any]) -> None:
        pipe.write(json.dumps(message) + "\n")
        pipe.flush()

    for line in sys.stdin:
        try:
            options = LoadOptions.model_validate_json(line)
            outcome = asyncio.run(run_trial(options, lambda done, p50: say({"done": done, "p50_ms": p50})))
        except Exception as error:  # noqa: BLE001 - the parent shows it; this child serves the next trial
            say({"error": to_parent(error)})
        else:
            say({"outcome": _as_json(outcome)})


def keep_quiet() -> None:
    """Log no request, whatever the user's code, which is imported here for its texts, does to `logging`."""
    for library in ("httpx", "httpcore", "aiohttp", "asyncio"):
        logging.getLogger(library).setLevel(logging.CRITICAL)


def _as_json(outcome: Outcome) -> dict[str, Any]:
    shots = [{**shot._asdict(), "timings": dataclasses.asdict(shot.timings)} for shot in outcome.shots]
    return {**outcome._asdict(), "shots": shots}


if __name__ == "__main__":
    main()
