"""What the run writes to a load generator's stdin: loads, and messages that cannot wait for the next load."""

from __future__ import annotations

import json
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
    * Any other object is a message for `link`.

    A line that is no object counts as a load, which is then refused.
    """

    def __init__(self, lines: BinaryIO, answer: Callable[[dict[str, Any]], None], link: Link) -> None:
        self._lines = lines
        self._answer = answer
        self._link = link
        self._loads: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def loads(self) -> Iterator[str]:
        """Yield each load as JSON; end when no more can arrive."""
        while (load := self._loads.get()) is not None:
            yield load

    def _read(self) -> None:
        for line in self._lines:
            arrived_ms = now_ms()
            message = _object(line)
            if message is None:
                self._loads.put(line.decode(errors="replace"))
            elif CLOCK in message:
                self._answer({CLOCK: arrived_ms})
            elif LOAD in message:
                self._loads.put(message[LOAD])
            else:
                self._link.receive(message)
        self._loads.put(None)


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None
