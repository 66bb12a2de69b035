"""What the run writes to a load generator's stdin: loads, and messages that cannot wait for the next load."""

from __future__ import annotations

import json
import os
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from harness.client.link import Link
from harness.wire.clock import now_ms
from harness.wire.generator_messages import CLOCK, LOAD


class Inbox:
    """Reads lines of JSON in a thread of its own, as one may arrive during a trial.

    * `{"load": …}` waits for its turn in `loads`.
    * `{"clock_ms": null}` is answered at once with the time of its arrival on the monotonic clock.
    * Anything else is a message for `link`.

    If the lines end during a trial, the run has been killed, so this process ends.
    """

    def __init__(self, lines: BinaryIO, answer: Callable[[dict[str, Any]], None], link: Link) -> None:
        self._lines = lines
        self._answer = answer
        self._link = link
        self._loads: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._busy = False
        threading.Thread(target=self._read, daemon=True).start()

    def loads(self) -> Iterator[str]:
        """Yield each load as JSON; end when no more can arrive."""
        while (load := self._loads.get()) is not None:
            self._busy = True
            yield load
            self._busy = False

    def _read(self) -> None:
        for line in self._lines:
            arrived_ms = now_ms()
            message = json.loads(line)
            if CLOCK in message:
                self._answer({CLOCK: arrived_ms})
            elif LOAD in message:
                self._loads.put(message[LOAD])
            else:
                self._link.receive(message)
        if self._busy:
            os._exit(1)
        self._loads.put(None)
