"""`python -m harness.client`: run one trial for each line of JSON on stdin.

It is a separate process, so that neither terminal output nor an fsync of a CSV can delay a request.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import threading
from typing import Any

from harness.client.engine import run_trial
from harness.client.inbox import Inbox
from harness.client.link import Link
from harness.client.row_batches import RowBatches
from harness.errors import to_parent
from harness.system import garbage, own_limits, streams
from harness.wire import early_end
from harness.wire.load_options import LoadOptions
from harness.wire.records import Outcome


def main() -> None:
    """Run a trial for each load on stdin (see `Inbox`). Answer with lines of JSON on stdout.

    These are batches of rows, progress, and finally the outcome, or an error.
    """
    signal.signal(early_end.SIGNAL, signal.SIG_IGN)  # between trials there is nothing to end
    silence_loggers()
    pipe = streams.reserve_stdout()
    garbage.freeze()  # the libraries: the collection before each trial then takes 1 ms instead of 50

    writing = threading.Lock()

    def send(message: dict[str, Any]) -> None:
        try:
            with writing:
                pipe.write(json.dumps(message) + "\n")
                pipe.flush()
        except BrokenPipeError:  # the run was killed, so the rest has no reader
            os._exit(1)

    link = Link(send)
    for load in Inbox(sys.stdin.buffer, send, link).loads():
        rows = RowBatches(lambda lines: send({"rows": lines}))

        def report(answered: int, p50_ms: float, rows: RowBatches = rows) -> None:
            rows.flush()
            send({"done": answered, "p50_ms": p50_ms})

        try:
            options = LoadOptions.model_validate_json(load)
            outcome = asyncio.run(run_trial(options, report, rows.add, link))
        except Exception as error:  # noqa: BLE001 - the parent shows it, and this process serves the next trial
            send({"error": to_parent(own_limits.as_error(error))})
        else:
            rows.flush()
            send({"outcome": _as_json(outcome)})
        finally:
            link.detach()


def silence_loggers() -> None:
    """Keep libraries from logging requests, even if the user's code (imported for its texts) enables it."""
    for library in ("httpx", "httpcore", "aiohttp", "asyncio"):
        logging.getLogger(library).setLevel(logging.CRITICAL)


def _as_json(outcome: Outcome) -> dict[str, Any]:
    return {**outcome._asdict(), "tally": outcome.counts._asdict()}


if __name__ == "__main__":
    main()
