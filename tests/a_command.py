"""A server to be tested as a command: threads that share one worker process, which uses CPU for each text.

`python a_command.py PORT MODE…`; the modes:

- heals: replaces a worker that has died, and runs its text again;
- bounded: answers 429 if more than four requests are in the server;
- liar: its /health is green although the worker is dead;
- drops: ends at SIGTERM without an answer to requests in flight;
- deaf: ignores SIGTERM;
- leaves: its worker outlives it.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT, MODES = int(sys.argv[1]), sys.argv[2:]
CALL_S = 0.01  # CPU time of a text
LINGERS_S = 30.0


def work() -> None:
    with suppress(OSError):  # the server has ended
        for _ in sys.stdin:
            end = time.process_time() + CALL_S
            while time.process_time() < end:
                pass
            sys.stdout.write("done\n")
            sys.stdout.flush()
    if "leaves" in MODES:
        time.sleep(LINGERS_S)


class Worker:
    """Runs one text at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = self._started()

    def _started(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-S", __file__, str(PORT), "work", *MODES]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def run(self) -> bool:
        """Whether a text was run."""
        with self._lock:
            if self._run():
                return True
            if "heals" not in MODES:
                return False
            self._process = self._started()
            return self._run()

    def _run(self) -> bool:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError):
            self._process.stdin.write("text\n")
            self._process.stdin.flush()
            return bool(self._process.stdout.readline())
        return False


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.answer(200 if worker.is_alive() or "liar" in MODES else 503)

    def do_POST(self) -> None:
        assert json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"]
        if "bounded" in MODES and not slots.acquire(blocking=False):
            self.answer(429)
            return
        self.answer(200 if worker.run() else 500)
        if "bounded" in MODES:
            slots.release()

    def answer(self, status: int) -> None:
        with suppress(OSError):  # the client has left
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()


class Server(ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = False  # so that its end waits for answers


def serve() -> None:
    server = Server(("127.0.0.1", PORT), Handler)
    if "deaf" in MODES:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif "drops" not in MODES:
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(poll_interval=0.05)
    server.server_close()


if "work" in MODES:
    work()
else:
    worker, slots = Worker(), threading.Semaphore(4)
    serve()
